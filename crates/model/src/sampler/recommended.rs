//! What a model's makers recommend.
use chalot_formats::gguf::{Metadata, Value};
use serde::{Deserialize, Serialize};

use super::SamplingParams;

/// Sampling that goes with a model: what its file says of it, nothing of what it leaves out. GGUF files have it under
/// `general.sampling.`, Hugging Face folders in `generation_config.json`, whose names these are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecommendedSampling {
    /// [`SamplingParams::temperature`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f32>,
    /// [`SamplingParams::top_k`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_k: Option<u32>,
    /// [`SamplingParams::top_p`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f32>,
    /// [`SamplingParams::min_p`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_p: Option<f32>,
    /// [`SamplingParams::repeat_penalty`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repetition_penalty: Option<f32>,
}

const TEMPERATURE: &str = "general.sampling.temp";
const TOP_K: &str = "general.sampling.top_k";
const TOP_P: &str = "general.sampling.top_p";
const MIN_P: &str = "general.sampling.min_p";
const PENALTY: &str = "general.sampling.penalty_repeat";

impl RecommendedSampling {
    /// What the metadata of a GGUF file say. A value of another type or out of its range says nothing: a model is not refused for
    /// its advice.
    pub fn from_gguf(metadata: &Metadata) -> Self {
        let number = |key| Some(metadata.get(key)?.as_f64()? as f32);
        Self {
            temperature: number(TEMPERATURE),
            top_k: metadata.get(TOP_K).and_then(Value::as_u64).and_then(|k| u32::try_from(k).ok()),
            top_p: number(TOP_P),
            min_p: number(MIN_P),
            repetition_penalty: number(PENALTY),
        }
        .in_range()
    }

    /// What the content of a `generation_config.json` says, in the same way.
    pub fn from_hf(config: &serde_json::Value) -> Self {
        let number = |key| config[key].as_f64().map(|x| x as f32);
        Self {
            temperature: number("temperature"),
            top_k: config["top_k"].as_u64().and_then(|k| u32::try_from(k).ok()),
            top_p: number("top_p"),
            min_p: number("min_p"),
            repetition_penalty: number("repetition_penalty"),
        }
        .in_range()
    }

    /// The keys of a GGUF file that say it.
    pub fn to_gguf(&self) -> Vec<(String, Value)> {
        let number = |key: &str, x: Option<f32>| x.map(|x| (key.to_owned(), Value::from(x)));
        let top_k = self.top_k.map(|k| (TOP_K.to_owned(), Value::from(k)));
        [
            number(TEMPERATURE, self.temperature),
            top_k,
            number(TOP_P, self.top_p),
            number(MIN_P, self.min_p),
            number(PENALTY, self.repetition_penalty),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// The parameters with what is recommended in place of their own.
    #[must_use]
    pub fn over(&self, params: SamplingParams) -> SamplingParams {
        SamplingParams {
            temperature: self.temperature.unwrap_or(params.temperature),
            top_k: self.top_k.map_or(params.top_k, |k| k as usize),
            top_p: self.top_p.unwrap_or(params.top_p),
            min_p: self.min_p.unwrap_or(params.min_p),
            repeat_penalty: self.repetition_penalty.unwrap_or(params.repeat_penalty),
            ..params
        }
    }

    fn in_range(self) -> Self {
        let valid = |one: &Self| one.over(SamplingParams::default()).validate().is_ok();
        let none = Self::default();
        let Self { temperature, top_k, top_p, min_p, repetition_penalty } = self;
        Self {
            temperature: temperature.filter(|_| valid(&Self { temperature, ..none })),
            top_k,
            top_p: top_p.filter(|_| valid(&Self { top_p, ..none })),
            min_p: min_p.filter(|_| valid(&Self { min_p, ..none })),
            repetition_penalty: repetition_penalty.filter(|_| valid(&Self { repetition_penalty, ..none })),
        }
    }
}

#[cfg(test)]
mod tests {
    use chalot_formats::gguf::{Gguf, Header};

    use super::*;

    #[test]
    fn both_kinds_of_files_say_it() {
        let said = RecommendedSampling {
            temperature: Some(0.5),
            top_k: Some(20),
            repetition_penalty: Some(1.25),
            ..RecommendedSampling::default()
        };
        let mut header = Header::new();
        for (key, value) in said.to_gguf() {
            header.set(key, value);
        }
        let mut file = Vec::new();
        header.write_to("test", &mut file).unwrap().finish().unwrap();
        assert_eq!(RecommendedSampling::from_gguf(&Gguf::parse("test", &file).unwrap().metadata), said);
        assert_eq!(RecommendedSampling::from_hf(&serde_json::to_value(said).unwrap()), said);
        let params = said.over(SamplingParams { seed: 3, ..SamplingParams::default() });
        assert_eq!((params.temperature, params.top_k, params.repeat_penalty), (0.5, 20, 1.25));
        assert_eq!((params.top_p, params.seed), (SamplingParams::default().top_p, 3));
    }

    #[test]
    fn advice_that_makes_no_sense_is_none() {
        let config = serde_json::json!({"temperature": -1.0, "top_k": "many", "top_p": 0.0, "min_p": 0.1, "repetition_penalty": null});
        let expected = RecommendedSampling { min_p: Some(0.1), ..RecommendedSampling::default() };
        assert_eq!(RecommendedSampling::from_hf(&config), expected);
    }
}
