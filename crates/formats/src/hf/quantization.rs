//! `quantization_config` with `quant_method` "bitnet".

use super::Config;
use crate::error::FormatError;

/// How a checkpoint's linear layers are quantized.
#[derive(Clone, Debug, PartialEq)]
pub struct Quantization {
    /// Which layer class of `transformers` the checkpoint was made for.
    pub linear_class: LinearClass,
    /// Whether the weights are quantized in the file or by whoever loads it.
    pub mode: QuantizationMode,
    /// Modules whose weights are ordinary floats.
    pub modules_to_not_convert: Vec<String>,
    /// Whether an RMS norm (of weight `<module>.rms_norm.weight`) goes before each product.
    pub use_rms_norm: bool,
    /// Its epsilon.
    pub rms_norm_eps: f64,
}

/// `linear_class`.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum LinearClass {
    /// "bitlinear", the default.
    BitLinear,
    /// "autobitlinear".
    AutoBitLinear,
}

/// `quantization_mode`.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum QuantizationMode {
    /// "offline", the default: packed weights and a `weight_scale` in the file.
    Offline,
    /// "online": float weights in the file, to be quantized with the absmean rule.
    Online,
}

/// What `weight_scale` of a packed weight does.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum BitNetScale {
    /// A weight is code / scale.
    Divides,
    /// A weight is code * scale.
    Multiplies,
}

impl BitNetScale {
    /// The factor by which a code is multiplied, from the scale in the file.
    pub fn factor(self, weight_scale: f32) -> f32 {
        match self {
            BitNetScale::Divides => 1.0 / weight_scale,
            BitNetScale::Multiplies => weight_scale,
        }
    }
}

impl Quantization {
    /// The `quantization_config` of a model's `config.json`; `None` if it has none.
    ///
    /// # Errors
    /// Another method than "bitnet", or a field of another kind than expected.
    pub fn from_config(config: &Config) -> Result<Option<Quantization>, FormatError> {
        let Some(section) = config.section("quantization_config")? else { return Ok(None) };
        let mend = "get the model in floats, in packed BitNet weights, or as GGUF";
        if section.required_str("quant_method")? != "bitnet" {
            return Err(section.unsupported("quant_method", "\"bitnet\"", mend));
        }
        let linear_class = match section.str("linear_class")? {
            None | Some("bitlinear") => LinearClass::BitLinear,
            Some("autobitlinear") => LinearClass::AutoBitLinear,
            Some(_) => {
                return Err(section.unsupported("linear_class", "\"bitlinear\" or \"autobitlinear\"", mend));
            }
        };
        let mode = match section.str("quantization_mode")? {
            None | Some("offline") => QuantizationMode::Offline,
            Some("online") => QuantizationMode::Online,
            Some(_) => {
                return Err(section.unsupported("quantization_mode", "\"offline\" or \"online\"", mend));
            }
        };
        let modules = section.strings("modules_to_not_convert")?.unwrap_or_default();
        Ok(Some(Quantization {
            linear_class,
            mode,
            modules_to_not_convert: modules.into_iter().map(str::to_owned).collect(),
            use_rms_norm: section.bool("use_rms_norm")?.unwrap_or(false),
            rms_norm_eps: section.f64("rms_norm_eps")?.unwrap_or(1e-6),
        }))
    }

    /// What `weight_scale` does, or `None` where the file's weights are floats yet to be quantized (absmean).
    /// "bitlinear" knows no online mode.
    pub fn scale(&self) -> Option<BitNetScale> {
        match (self.linear_class, self.mode) {
            (LinearClass::BitLinear, _) => Some(BitNetScale::Divides),
            (LinearClass::AutoBitLinear, QuantizationMode::Offline) => Some(BitNetScale::Multiplies),
            (LinearClass::AutoBitLinear, QuantizationMode::Online) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn parse(section: &str) -> Result<Option<Quantization>, FormatError> {
        let json = format!("{{\"quantization_config\": {section}}}");
        Quantization::from_config(&Config::parse("config.json", json.as_bytes()).unwrap())
    }

    #[test]
    fn the_sense_of_the_scale_depends_on_class_and_mode() {
        let scale = |section| parse(section).unwrap().unwrap().scale();
        assert_eq!(scale(r#"{"quant_method": "bitnet"}"#), Some(BitNetScale::Divides));
        assert_eq!(
            scale(
                r#"{"quant_method": "bitnet", "linear_class": "bitlinear", "quantization_mode": "online"}"#
            ),
            Some(BitNetScale::Divides)
        );
        assert_eq!(
            scale(r#"{"quant_method": "bitnet", "linear_class": "autobitlinear"}"#),
            Some(BitNetScale::Multiplies)
        );
        assert_eq!(
            scale(
                r#"{"quant_method": "bitnet", "linear_class": "autobitlinear", "quantization_mode": "online"}"#
            ),
            None
        );
        assert_eq!(BitNetScale::Divides.factor(4.0), 0.25);
        assert_eq!(BitNetScale::Multiplies.factor(4.0), 4.0);
    }

    #[test]
    fn defaults_and_fields() {
        let q = parse(
            r#"{"quant_method": "bitnet", "modules_to_not_convert": ["lm_head"], "use_rms_norm": true, "rms_norm_eps": 1e-5}"#,
        );
        let q = q.unwrap().unwrap();
        assert_eq!(
            (q.modules_to_not_convert.as_slice(), q.use_rms_norm, q.rms_norm_eps),
            (&["lm_head".to_owned()][..], true, 1e-5)
        );
        let q = parse(r#"{"quant_method": "bitnet", "modules_to_not_convert": null}"#).unwrap().unwrap();
        assert_eq!((q.modules_to_not_convert.len(), q.use_rms_norm, q.rms_norm_eps), (0, false, 1e-6));
        assert_eq!(parse("null").unwrap(), None);
    }

    #[test]
    fn other_methods_are_refused_by_name() {
        let error = parse(r#"{"quant_method": "gptq"}"#).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unsupported);
        assert!(error.to_string().contains("quantization_config.quant_method"), "{error}");
        assert!(error.to_string().contains("gptq"), "{error}");
        assert!(parse(r#"{"quant_method": "bitnet", "linear_class": "x"}"#).is_err());
        assert!(parse(r#"{"quant_method": "bitnet", "quantization_mode": 3}"#).is_err());
        assert!(parse(r#"{}"#).is_err());
    }
}
