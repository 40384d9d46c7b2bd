//! Whether a model's weights are those its configuration describes. Loaders see to it for files; a model may also be put
//! together in code.
use chalot_tensor::matrix::Matrix;

use super::EngineError;
use crate::config::{ModelConfig, QkNorm};
use crate::weights::{Ffn, GatedFfn, Layer, Linear, Model};

/// Every shape of the model.
///
/// # Errors
/// [`EngineError::Model`] names the first piece that does not fit.
pub(super) fn check_model(model: &Model) -> Result<(), EngineError> {
    let config = &model.config;
    config.validate("model").map_err(|error| EngineError::Model(error.to_string()))?;
    let (vocab, hidden) = (config.vocab_size, config.hidden_size);
    matrix("the embedding", &model.embedding, vocab, hidden)?;
    matrix("the head", model.head(), vocab, hidden)?;
    vector("the final norm", Some(&model.final_norm), hidden)?;
    length("the layers", model.layers.len(), config.num_layers())?;
    for (index, (layer, described)) in model.layers.iter().zip(&config.layers).enumerate() {
        let within = |error| match error {
            EngineError::Model(what) => EngineError::Model(format!("layer {index}: {what}")),
            other => other,
        };
        attention(config, layer).and_then(|()| ffn(config, layer, described.experts)).map_err(within)?;
    }
    Ok(())
}

fn attention(config: &ModelConfig, layer: &Layer) -> Result<(), EngineError> {
    let (hidden, q, kv) = (config.hidden_size, config.q_width(), config.kv_width());
    let weights = &layer.attention;
    vector("the attention norm", Some(&weights.norm), hidden)?;
    linear("q", &weights.q, q, hidden)?;
    linear("k", &weights.k, kv, hidden)?;
    linear("v", &weights.v, kv, hidden)?;
    linear("o", &weights.o, hidden, q)?;
    let (q_row, k_row) = match config.qk_norm {
        QkNorm::Row => (q, kv),
        QkNorm::Head | QkNorm::None => (config.head_dim, config.head_dim),
    };
    vector("the q norm", weights.q_norm.as_ref(), q_row)?;
    vector("the k norm", weights.k_norm.as_ref(), k_row)?;
    vector("the attention sub-norm", weights.sub_norm.as_ref(), q)?;
    vector("the attention post-norm", weights.post_norm.as_ref(), hidden)
}

fn ffn(config: &ModelConfig, layer: &Layer, experts: bool) -> Result<(), EngineError> {
    let hidden = config.hidden_size;
    vector("the feed-forward norm", Some(&layer.ffn_norm), hidden)?;
    vector("the feed-forward post-norm", layer.ffn_post_norm.as_ref(), hidden)?;
    match (&layer.ffn, &config.experts) {
        (Ffn::Dense(ffn), _) if !experts => gated("feed-forward", ffn, config.intermediate_size, hidden),
        (Ffn::Experts(mixture), Some(described)) if experts => {
            linear("the router", &mixture.router, described.count, hidden)?;
            vector("the selection bias", mixture.selection_bias.as_ref(), described.count)?;
            length("the experts", mixture.experts.len(), described.count)?;
            for expert in &mixture.experts {
                gated("expert", expert, described.intermediate_size, hidden)?;
            }
            match (&mixture.shared, described.shared_intermediate_size) {
                (Some(shared), Some(width)) => gated("shared expert", shared, width, hidden),
                (shared, width) => length("the shared experts", shared.iter().len(), width.iter().len()),
            }
        }
        _ => Err(EngineError::Model(format!(
            "experts are {}",
            if experts { "missing" } else { "there, but not described" }
        ))),
    }
}

fn gated(what: &str, ffn: &GatedFfn, width: usize, hidden: usize) -> Result<(), EngineError> {
    linear(&format!("{what} gate"), &ffn.gate, width, hidden)?;
    linear(&format!("{what} up"), &ffn.up, width, hidden)?;
    linear(&format!("{what} down"), &ffn.down, hidden, width)?;
    vector(&format!("{what} sub-norm"), ffn.sub_norm.as_ref(), width)
}

fn linear(what: &str, linear: &Linear, rows: usize, cols: usize) -> Result<(), EngineError> {
    matrix(what, &linear.weight, rows, cols)?;
    vector(&format!("the bias of {what}"), linear.bias.as_ref(), rows)
}

fn matrix(what: &str, matrix: &Matrix, rows: usize, cols: usize) -> Result<(), EngineError> {
    if (matrix.rows(), matrix.cols()) == (rows, cols) {
        return Ok(());
    }
    let found = format!("{} x {}", matrix.rows(), matrix.cols());
    Err(EngineError::Model(format!("{what}: found {found}, the configuration says {rows} x {cols}")))
}

fn vector(what: &str, vector: Option<&Vec<f32>>, len: usize) -> Result<(), EngineError> {
    vector.map_or(Ok(()), |vector| length(what, vector.len(), len))
}

fn length(what: &str, found: usize, expected: usize) -> Result<(), EngineError> {
    if found == expected {
        return Ok(());
    }
    Err(EngineError::Model(format!("{what}: found {found}, the configuration says {expected}")))
}
