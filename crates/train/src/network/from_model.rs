//! Weights of a finished model as first master weights.
use chalot_model::{Ffn, GatedFfn, Linear, Model, ModelConfig};
use chalot_tensor::matrix::{Format, Matrix};

use super::parameter::EMBEDDING;
use super::{FfnIds, LayerFfn, Network};
use crate::error::TrainError;

impl Network {
    /// Takes the weights of a model of the same architecture, as training exports it, packed or not. What a packed weight was
    /// before it was rounded is not known, so each begins at a number that rounds to it (see `masters`): training goes on
    /// from the same function, not from the same state.
    ///
    /// # Errors
    /// [`TrainError::State`] when the model is of another architecture.
    pub fn take_model(&mut self, model: &Model) -> Result<(), TrainError> {
        self.check_architecture(model)?;
        self.set(EMBEDDING, model.embedding.to_f32())?;
        self.set(self.final_norm, model.final_norm.clone())?;
        for (index, layer) in model.layers.iter().enumerate() {
            let ids = self.layers[index].clone();
            let attention = &layer.attention;
            for (id, linear) in
                [(ids.q, &attention.q), (ids.k, &attention.k), (ids.v, &attention.v), (ids.o, &attention.o)]
            {
                self.set(id, masters(&linear.weight))?;
            }
            for (id, norm) in [
                (ids.norm, Some(&attention.norm)),
                (ids.q_norm, attention.q_norm.as_ref()),
                (ids.k_norm, attention.k_norm.as_ref()),
                (ids.sub_norm, attention.sub_norm.as_ref()),
                (ids.ffn_norm, Some(&layer.ffn_norm)),
            ] {
                self.set(id, norm.cloned().unwrap_or_default())?;
            }
            match (&ids.ffn, &layer.ffn) {
                (LayerFfn::Dense(ids), Ffn::Dense(ffn)) => self.set_ffn(ids, ffn)?,
                (LayerFfn::Experts(ids), Ffn::Experts(ffn)) => {
                    self.set(ids.router, ffn.router.weight.to_f32())?;
                    let bias = ffn.selection_bias.clone();
                    self.selection[index] = bias.unwrap_or_else(|| vec![0.0; ffn.experts.len()]);
                    for (ids, ffn) in ids.experts.iter().zip(&ffn.experts) {
                        self.set_ffn(ids, ffn)?;
                    }
                    if let (Some(ids), Some(ffn)) = (&ids.shared, &ffn.shared) {
                        self.set_ffn(ids, ffn)?;
                    }
                }
                _ => return Err(other("layers", "experts and dense layers elsewhere", "as in the recipe")),
            }
        }
        Ok(())
    }

    /// The length of the context and the brain map may differ: they change no weight.
    fn check_architecture(&self, model: &Model) -> Result<(), TrainError> {
        let (found, here) = (&model.config, &self.config);
        let experts = |config: &ModelConfig| {
            config.experts.as_ref().map_or([0; 4], |experts| {
                [
                    experts.count,
                    experts.top_k,
                    experts.intermediate_size,
                    experts.shared_intermediate_size.unwrap_or(0),
                ]
            })
        };
        let sizes = |config: &ModelConfig| {
            let [count, top_k, width, shared] = experts(config);
            [
                ("vocab_size", config.vocab_size),
                ("hidden_size", config.hidden_size),
                ("depth", config.num_layers()),
                ("num_heads", config.num_heads),
                ("num_kv_heads", config.num_kv_heads),
                ("head_dim", config.head_dim),
                ("intermediate_size", config.intermediate_size),
                ("experts.count", count),
                ("experts.top_k", top_k),
                ("experts.intermediate_size", width),
                ("experts.shared_intermediate_size", shared),
            ]
        };
        for ((name, found), (_, here)) in sizes(found).into_iter().zip(sizes(here)) {
            if found != here {
                return Err(other(name, found, here));
            }
        }
        let comparable = ModelConfig {
            name: here.name.clone(),
            family: here.family.clone(),
            context_length: here.context_length,
            shallow_layers: here.shallow_layers,
            ..found.clone()
        };
        if comparable != *here || model.head.is_some() {
            return Err(other("family", &found.family, "a model that was trained by this program"));
        }
        Ok(())
    }

    fn set_ffn(&mut self, ids: &FfnIds, ffn: &GatedFfn) -> Result<(), TrainError> {
        let of = |linear: &Linear| masters(&linear.weight);
        self.set(ids.gate, of(&ffn.gate))?;
        self.set(ids.up, of(&ffn.up))?;
        self.set(ids.down, of(&ffn.down))?;
        let (norms, first) = ids.sub_norm;
        let weights = ffn.sub_norm.as_deref().unwrap_or_default();
        match self.parameters_mut()[norms].value.get_mut(first..first + weights.len()) {
            Some(place) if weights.len() == ids.width => place.copy_from_slice(weights),
            _ => return Err(other("sub_norm", weights.len(), ids.width)),
        }
        Ok(())
    }

    fn set(&mut self, id: usize, values: Vec<f32>) -> Result<(), TrainError> {
        let parameter = &mut self.parameters_mut()[id];
        if parameter.value.len() != values.len() {
            return Err(other(&parameter.name, values.len(), parameter.value.len()));
        }
        parameter.value = values;
        Ok(())
    }
}

fn other(name: &str, found: impl std::fmt::Display, expected: impl std::fmt::Display) -> TrainError {
    let (found, expected) = (found.to_string(), expected.to_string());
    TrainError::State { what: "model", name: name.into(), found, expected }
}

/// Weights that quantize to those of `w`.
///
/// The scale of a ternary matrix is the mean of its masters' magnitudes (BitNet b1.58, section 2). With a share p of codes that
/// are not 0, masters `code * scale / p` have that mean, and as `1 / p >= 1` they round to their codes.
fn masters(w: &Matrix) -> Vec<f32> {
    let mut values = w.to_f32();
    if matches!(w.format(), Format::Trit2(_) | Format::Trit5(_)) {
        let used = values.iter().filter(|&&x| x != 0.0).count();
        let stretch = values.len() as f32 / used.max(1) as f32;
        values.iter_mut().for_each(|x| *x *= stretch);
    }
    values
}
