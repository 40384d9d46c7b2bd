//! A folder as Hugging Face's tools know it.
use std::borrow::Cow;
use std::fs;
use std::path::Path;

use safetensors::tensor::{Dtype, View};
use serde_json::json;

use crate::error::TrainError;
use crate::network::Network;

/// A tensor on its way into the file.
struct Tensor<'a> {
    shape: &'a [usize],
    values: &'a [f32],
}

impl View for Tensor<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Owned(self.values.iter().flat_map(|x| x.to_le_bytes()).collect())
    }

    fn data_len(&self) -> usize {
        4 * self.values.len()
    }
}

/// Writes `folder`: `model.safetensors` (the master weights, f32), `config.json` (the usual keys, `quantization_config`, which
/// says that linear layers are ternary when they are used, and the whole configuration under `chalot_config`), `tokenizer.json`,
/// and the model card `README.md`.
///
/// # Errors
/// The disk refused.
pub fn hugging_face(
    network: &Network,
    name: &str,
    tokenizer_json: &str,
    card: &str,
    folder: &Path,
) -> Result<(), TrainError> {
    let io = |path: &Path| {
        let path = path.display().to_string();
        move |source| TrainError::Io { path, source }
    };
    fs::create_dir_all(folder).map_err(io(folder))?;
    let state = network.state();
    let parameters = network.parameters().iter().map(|parameter| {
        let tensor = Tensor { shape: &parameter.shape, values: &parameter.value };
        (parameter.name.clone(), tensor)
    });
    let lengths: Vec<_> = state.iter().map(|(_, values)| [values.len()]).collect();
    let biases =
        state.iter().zip(&lengths).map(|((name, values), shape)| (name.clone(), Tensor { shape, values }));
    let weights = folder.join("model.safetensors");
    let metadata = [("format".to_owned(), "pt".to_owned())].into_iter().collect();
    let bytes = safetensors::serialize(parameters.chain(biases), Some(metadata))
        .map_err(|error| io(&weights)(std::io::Error::other(error.to_string())))?;
    let mut config = network.config().clone();
    config.name = name.into();
    let described = serde_json::to_value(&config).map_err(|error| io(folder)(error.into()))?;
    let rope = &config.rope[0];
    let mut json = json!({
        "architectures": ["ChalotForCausalLM"],
        "model_type": "chalot",
        "hidden_act": "relu2",
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_layers(),
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads,
        "head_dim": config.head_dim,
        "max_position_embeddings": config.context_length,
        "rms_norm_eps": config.norm_eps,
        "rope_theta": rope.theta,
        "tie_word_embeddings": true,
        "torch_dtype": "float32",
        "vocab_size": config.vocab_size,
        "chalot_config": described,
        "chalot_embedding": network.embedding_format().format().to_string(),
    });
    if network.ternary() {
        json["quantization_config"] = json!({
            "quant_method": "bitnet",
            "linear_class": "autobitlinear",
            "quantization_mode": "online",
            "modules_to_not_convert": ["lm_head", "embed_tokens", "gate"],
        });
    }
    if let Some(experts) = &config.experts {
        json["num_experts"] = experts.count.into();
        json["num_experts_per_tok"] = experts.top_k.into();
        json["moe_intermediate_size"] = experts.intermediate_size.into();
        json["norm_topk_prob"] = experts.renormalize.into();
    }
    for (file, content) in [
        ("model.safetensors", &bytes[..]),
        ("config.json", format!("{json:#}\n").as_bytes()),
        ("tokenizer.json", tokenizer_json.as_bytes()),
        ("README.md", card.as_bytes()),
    ] {
        let path = folder.join(file);
        fs::write(&path, content).map_err(io(&path))?;
    }
    Ok(())
}
