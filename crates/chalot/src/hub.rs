//! The small files of a Hugging Face model folder that say how its text is made: `tokenizer.json`,
//! `tokenizer_config.json`, `generation_config.json`, `chat_template.jinja`.
use std::path::{Path, PathBuf};

use chalot_model::RecommendedSampling;
use chalot_tokenizer::Tokenizer;
use serde_json::Value;

use crate::error::Error;

const TOKENIZER_CONFIG: &str = "tokenizer_config.json";

/// A folder whose JSON files have been read; absent ones are `Value::Null`.
pub(crate) struct Folder {
    path: PathBuf,
    tokenizer_config: Value,
    generation_config: Value,
    config: Value,
}

impl Folder {
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        Ok(Self {
            path: path.to_owned(),
            tokenizer_config: json(&path.join(TOKENIZER_CONFIG))?,
            generation_config: json(&path.join("generation_config.json"))?,
            config: json(&path.join("config.json"))?,
        })
    }

    /// The tokenizer of `tokenizer.json`, with what the other files say about its BOS and end-of-generation tokens.
    pub(crate) fn tokenizer(&self) -> Result<Tokenizer, Error> {
        let path = self.path.join("tokenizer.json");
        if !path.is_file() {
            let file = self.path.display().to_string();
            return Err(Error::NoTokenizer { file, looked_for: "tokenizer.json".into() });
        }
        let bytes = std::fs::read(&path).map_err(|source| Error::io(&path, source))?;
        let file = path.display().to_string();
        let mut tokenizer = Tokenizer::from_json(&file, &bytes)?;
        let config = self.path.join(TOKENIZER_CONFIG);
        if config.is_file() {
            let bytes = std::fs::read(&config).map_err(|source| Error::io(&config, source))?;
            tokenizer = tokenizer.with_hf_config(&config.display().to_string(), &bytes)?;
        }
        // Models that end a turn with another token than a text list both here.
        Ok(tokenizer.with_eog_tokens(&file, &self.end_tokens(tokenizer.vocab_size()))?)
    }

    /// The Jinja source of the chat template, if the folder has one.
    pub(crate) fn chat_template(&self) -> Result<Option<String>, Error> {
        let path = self.path.join("chat_template.jinja");
        if path.is_file() {
            return std::fs::read_to_string(&path).map(Some).map_err(|source| Error::io(&path, source));
        }
        // One template, or a list of named ones among which "default" is the ordinary one.
        Ok(match &self.tokenizer_config["chat_template"] {
            Value::String(source) => Some(source.clone()),
            Value::Array(named) => named
                .iter()
                .find(|entry| entry["name"] == "default")
                .and_then(|entry| entry["template"].as_str())
                .map(str::to_owned),
            _ => None,
        })
    }

    /// What `generation_config.json` recommends.
    pub(crate) fn sampling(&self) -> RecommendedSampling {
        RecommendedSampling::from_hf(&self.generation_config)
    }

    /// `eos_token_id`, one or a list, of the generation's config and the model's.
    fn end_tokens(&self, vocab_size: usize) -> Vec<u32> {
        let configs = [&self.generation_config, &self.config].map(|config| &config["eos_token_id"]);
        let lists = configs.map(|value| value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice));
        let ids = lists.into_iter().flatten().filter_map(|id| u32::try_from(id.as_u64()?).ok());
        ids.filter(|&id| (id as usize) < vocab_size).collect()
    }
}

/// The content of a JSON file; `Null` when it is not there.
fn json(path: &Path) -> Result<Value, Error> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Value::Null),
        Err(source) => return Err(Error::io(path, source)),
    };
    serde_json::from_slice(&bytes).map_err(|error| Error::File {
        file: path.display().to_string(),
        found: error.to_string(),
        expected: "valid JSON".into(),
        mend: "the file is damaged: download it again".into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// A folder with a tokenizer of four tokens and these other files.
    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let tokenizer = r#"{
            "added_tokens": [{"id": 2, "content": "<s>", "special": true}, {"id": 3, "content": "<end>", "special": true}],
            "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "use_regex": true},
            "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "<s>": 2, "<end>": 3}, "merges": []}
        }"#;
        for (name, text) in [("tokenizer.json", tokenizer)].iter().chain(files) {
            fs::write(folder.path().join(name), text).unwrap();
        }
        folder
    }

    #[test]
    fn the_other_files_say_which_tokens_begin_and_end_a_text() {
        let folder = folder(&[
            ("tokenizer_config.json", r#"{"bos_token": {"content": "<s>"}, "add_bos_token": true}"#),
            ("generation_config.json", r#"{"eos_token_id": [1, 3, 99]}"#),
            ("config.json", r#"{"eos_token_id": 0}"#),
        ]);
        let tokenizer = Folder::open(folder.path()).unwrap().tokenizer().unwrap();
        assert_eq!((tokenizer.bos(), tokenizer.add_bos()), (Some(2), true));
        assert_eq!(tokenizer.eog_tokens(), [0, 1, 3], "99 is no token");
    }

    #[test]
    fn the_template_may_lie_in_three_places() {
        let template =
            |files: &[(&str, &str)]| Folder::open(folder(files).path()).unwrap().chat_template().unwrap();
        let config = |value: &str| format!(r#"{{"chat_template": {value}}}"#);
        assert_eq!(template(&[]), None);
        assert_eq!(template(&[("tokenizer_config.json", &config("\"one\""))]).unwrap(), "one");
        let named = r#"[{"name": "tool_use", "template": "x"}, {"name": "default", "template": "two"}]"#;
        assert_eq!(template(&[("tokenizer_config.json", &config(named))]).unwrap(), "two");
        let both = [("tokenizer_config.json", &*config("\"one\"")), ("chat_template.jinja", "three")];
        assert_eq!(template(&both).unwrap(), "three");
    }

    #[test]
    fn what_is_missing_or_damaged_is_named() {
        let empty = tempfile::tempdir().unwrap();
        let error = Folder::open(empty.path()).unwrap().tokenizer().unwrap_err();
        assert!(matches!(error, Error::NoTokenizer { .. }), "{error}");
        let folder = folder(&[("generation_config.json", "{")]);
        let error = Folder::open(folder.path()).err().unwrap().to_string();
        assert!(error.contains("generation_config.json") && error.contains("valid JSON"), "{error}");
    }
}
