//! What each kind of file calls the tensors of a decoder.
use std::fmt;

/// What a tensor is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Embedding,
    FinalNorm,
    Head,
    /// A tensor of layer `.0`.
    Layer(usize, Part),
}

/// A tensor of one layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    AttentionNorm,
    Query,
    Key,
    Value,
    Output,
    QueryNorm,
    KeyNorm,
    AttentionSubNorm,
    AttentionPostNorm,
    FfnNorm,
    FfnSubNorm,
    /// Those of all experts, one after the other.
    ExpertsSubNorm,
    SharedSubNorm,
    FfnPostNorm,
    Router,
    SelectionBias,
    Ffn(Where, Projection),
}

/// Which network of the feed-forward block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Where {
    /// The only one.
    Dense,
    /// The expert that every token visits.
    Shared,
    /// An expert by itself (Hugging Face).
    Expert(usize),
    /// All experts stacked, the outermost dimension counts them (GGUF).
    Stacked,
}

/// The three matrices of a gated network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Projection {
    Gate,
    Up,
    Down,
}

impl Projection {
    /// In the order in which an expert stores them.
    pub(crate) const ALL: [Projection; 3] = [Projection::Gate, Projection::Up, Projection::Down];

    /// Rows and columns in a network of this width.
    pub(crate) fn shape(self, hidden: usize, width: usize) -> (usize, usize) {
        match self {
            Projection::Gate | Projection::Up => (width, hidden),
            Projection::Down => (hidden, width),
        }
    }
}

impl fmt::Display for Projection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Projection::Gate => "gate",
            Projection::Up => "up",
            Projection::Down => "down",
        })
    }
}

/// A file's way to name tensors: names without their ending `.weight` or `.bias`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Names {
    /// GGUF's, which the native file and our reading of llama2.c's share.
    Gguf,
    /// Hugging Face's.
    Hf {
        /// What stands before `layers.0`: "model.", or "model.language_model." inside a multimodal model.
        prefix: String,
        /// How the norms are called.
        norms: HfNorms,
    },
}

/// Hugging Face's names of norms differ between families.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HfNorms {
    /// Before attention and before the feed-forward block (Llama and most others).
    Llama,
    /// Before and after both blocks (Gemma 3).
    Gemma,
    /// As Llama, with the first BitNet models' names of the inner norms.
    EarlyBitnet,
}

impl Names {
    /// The name of `role`, without `.weight` or `.bias`.
    pub(crate) fn stem(&self, role: Role) -> String {
        match self {
            Names::Gguf => gguf(role),
            Names::Hf { prefix, norms } => hf(prefix, *norms, role),
        }
    }

    /// The name of `role`'s bias.
    pub(crate) fn bias(&self, role: Role) -> String {
        format!("{}.bias", self.stem(role))
    }

    /// The name of `role`'s weight.
    pub(crate) fn weight(&self, role: Role) -> String {
        match role {
            // Stored as a parameter of its own, not as a layer's.
            Role::Layer(_, Part::SelectionBias) => match self {
                Names::Gguf => format!("{}.bias", self.stem(role)),
                Names::Hf { .. } => self.stem(role),
            },
            _ => format!("{}.weight", self.stem(role)),
        }
    }
}

fn gguf(role: Role) -> String {
    let (layer, part) = match role {
        Role::Embedding => return "token_embd".into(),
        Role::FinalNorm => return "output_norm".into(),
        Role::Head => return "output".into(),
        Role::Layer(layer, part) => (layer, part),
    };
    let stem = match part {
        Part::AttentionNorm => "attn_norm",
        Part::Query => "attn_q",
        Part::Key => "attn_k",
        Part::Value => "attn_v",
        Part::Output => "attn_output",
        Part::QueryNorm => "attn_q_norm",
        Part::KeyNorm => "attn_k_norm",
        Part::AttentionSubNorm => "attn_sub_norm",
        Part::AttentionPostNorm => "post_attention_norm",
        Part::FfnNorm => "ffn_norm",
        Part::FfnSubNorm => "ffn_sub_norm",
        Part::ExpertsSubNorm => "ffn_sub_norm_exps",
        Part::SharedSubNorm => "ffn_sub_norm_shexp",
        Part::FfnPostNorm => "post_ffw_norm",
        Part::Router => "ffn_gate_inp",
        Part::SelectionBias => "exp_probs_b",
        Part::Ffn(place, projection) => {
            return match place {
                Where::Dense => format!("blk.{layer}.ffn_{projection}"),
                Where::Shared => format!("blk.{layer}.ffn_{projection}_shexp"),
                Where::Expert(expert) => format!("blk.{layer}.ffn_{projection}.{expert}"),
                Where::Stacked => format!("blk.{layer}.ffn_{projection}_exps"),
            };
        }
    };
    format!("blk.{layer}.{stem}")
}

fn hf(prefix: &str, norms: HfNorms, role: Role) -> String {
    let (layer, part) = match role {
        Role::Embedding => return format!("{prefix}embed_tokens"),
        Role::FinalNorm => return format!("{prefix}norm"),
        Role::Head => return "lm_head".into(),
        Role::Layer(layer, part) => (layer, part),
    };
    let stem = match part {
        Part::AttentionNorm => "input_layernorm",
        Part::Query => "self_attn.q_proj",
        Part::Key => "self_attn.k_proj",
        Part::Value => "self_attn.v_proj",
        Part::Output => "self_attn.o_proj",
        Part::QueryNorm => "self_attn.q_norm",
        Part::KeyNorm => "self_attn.k_norm",
        Part::AttentionSubNorm if norms == HfNorms::EarlyBitnet => "self_attn.inner_attn_ln",
        Part::AttentionSubNorm => "self_attn.attn_sub_norm",
        Part::AttentionPostNorm => "post_attention_layernorm",
        Part::FfnNorm if norms == HfNorms::Gemma => "pre_feedforward_layernorm",
        Part::FfnNorm => "post_attention_layernorm",
        Part::FfnSubNorm if norms == HfNorms::EarlyBitnet => "mlp.ffn_layernorm",
        Part::FfnSubNorm => "mlp.ffn_sub_norm",
        Part::ExpertsSubNorm => "mlp.experts.ffn_sub_norm",
        Part::SharedSubNorm => "mlp.shared_expert.ffn_sub_norm",
        Part::FfnPostNorm => "post_feedforward_layernorm",
        Part::Router => "mlp.gate",
        Part::SelectionBias => "mlp.gate.e_score_correction_bias",
        Part::Ffn(place, projection) => {
            let place = match place {
                Where::Dense => "mlp".into(),
                Where::Shared => "mlp.shared_expert".into(),
                Where::Expert(expert) => format!("mlp.experts.{expert}"),
                Where::Stacked => "mlp.experts".into(),
            };
            return format!("{prefix}layers.{layer}.{place}.{projection}_proj");
        }
    };
    format!("{prefix}layers.{layer}.{stem}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_namings() {
        let llama = Names::Hf { prefix: "model.".into(), norms: HfNorms::Llama };
        let gemma = Names::Hf { prefix: "model.".into(), norms: HfNorms::Gemma };
        for (role, in_gguf, in_llama, in_gemma) in [
            (Role::Embedding, "token_embd.weight", "model.embed_tokens.weight", "model.embed_tokens.weight"),
            (Role::Head, "output.weight", "lm_head.weight", "lm_head.weight"),
            (
                Role::Layer(3, Part::FfnNorm),
                "blk.3.ffn_norm.weight",
                "model.layers.3.post_attention_layernorm.weight",
                "model.layers.3.pre_feedforward_layernorm.weight",
            ),
            (
                Role::Layer(0, Part::Ffn(Where::Stacked, Projection::Down)),
                "blk.0.ffn_down_exps.weight",
                "model.layers.0.mlp.experts.down_proj.weight",
                "model.layers.0.mlp.experts.down_proj.weight",
            ),
            (
                Role::Layer(7, Part::Ffn(Where::Expert(12), Projection::Gate)),
                "blk.7.ffn_gate.12.weight",
                "model.layers.7.mlp.experts.12.gate_proj.weight",
                "model.layers.7.mlp.experts.12.gate_proj.weight",
            ),
        ] {
            assert_eq!(Names::Gguf.weight(role), in_gguf);
            assert_eq!(llama.weight(role), in_llama);
            assert_eq!(gemma.weight(role), in_gemma);
        }
        assert_eq!(Names::Gguf.weight(Role::Layer(1, Part::SelectionBias)), "blk.1.exp_probs_b.bias");
    }
}
