//! A tokenizer as `tokenizer.json`.

use serde::ser::{Serialize, SerializeMap, SerializeStruct, Serializer};
use serde_json::{Value, json};

use crate::Tokenizer;
use crate::spec::TextPattern;
use crate::vocab::{Kind, SPACE, Writing};

impl Tokenizer {
    /// The tokenizer as a `tokenizer.json` that Hugging Face `tokenizers` reads.
    ///
    /// Vocabularies whose merges are ordered by scores get them as a list, best first. Where two entries have the same
    /// score the list has to put one of them first.
    pub fn to_json(&self) -> String {
        // Writing to memory fails only if a `Serialize` of ours says so; none does.
        serde_json::to_string(&File(self)).unwrap_or_default()
    }

    fn decoder(&self) -> Value {
        if self.bpe().vocab.writing() == Writing::Bytes {
            return json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true});
        }
        let pattern = TextPattern::String(SPACE.into());
        let mut decoders = vec![
            json!({"type": "Replace", "pattern": pattern, "content": " "}),
            json!({"type": "ByteFallback"}),
            json!({"type": "Fuse"}),
        ];
        if self.spec().strip_prefix {
            decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
        }
        json!({"type": "Sequence", "decoders": decoders})
    }

    fn post_processor(&self) -> Value {
        let roles = self.roles();
        let bos = roles.bos.filter(|_| roles.add_bos);
        let eos = roles.eos.filter(|_| roles.add_eos);
        let mut special_tokens = serde_json::Map::new();
        let mut special = |id: u32, sequence: u32| {
            let text = self.token_text(id).unwrap_or_default();
            special_tokens.insert(text.clone(), json!({"id": text, "ids": [id], "tokens": [text]}));
            json!({"SpecialToken": {"id": text, "type_id": sequence}})
        };
        let mut template = |sequence: u32, name: &str| -> Vec<Value> {
            let text = json!({"Sequence": {"id": name, "type_id": sequence}});
            let before = bos.map(|id| special(id, sequence));
            let after = eos.map(|id| special(id, sequence));
            before.into_iter().chain([text]).chain(after).collect()
        };
        let single = template(0, "A");
        let pair = [template(0, "A"), template(1, "B")].concat();
        json!({"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": special_tokens})
    }

    /// The ids that stand in the model's vocabulary; the others are only added tokens.
    fn model_ids(&self) -> Vec<u32> {
        let vocab = &self.bpe().vocab;
        let all = || (0..vocab.len() as u32).filter(|&id| vocab.kind(id) != Kind::Hole);
        let ids: Vec<u32> = all().filter(|&id| !self.is_added(id) || vocab.is_formed_added(id)).collect();
        // Added tokens that the model does not have are numbered onward from its size when the file is read, whatever
        // the file says. Where that would not give their ids, the model must have them all.
        let numbered_onward =
            ids.last().is_some_and(|&last| last as usize + 1 == ids.len()) && all().count() == vocab.len();
        if numbered_onward { ids } else { all().collect() }
    }

    fn is_added(&self, id: u32) -> bool {
        self.spec().added.binary_search_by_key(&id, |token| token.id).is_ok()
    }
}

struct File<'a>(&'a Tokenizer);

impl Serialize for File<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let spec = self.0.spec();
        let mut file = serializer.serialize_struct("Tokenizer", 9)?;
        file.serialize_field("version", "1.0")?;
        file.serialize_field("truncation", &Value::Null)?;
        file.serialize_field("padding", &Value::Null)?;
        file.serialize_field("added_tokens", &spec.added)?;
        file.serialize_field("normalizer", &spec.normalizer)?;
        file.serialize_field("pre_tokenizer", &spec.pre_tokenizer)?;
        file.serialize_field("post_processor", &self.0.post_processor())?;
        file.serialize_field("decoder", &self.0.decoder())?;
        file.serialize_field("model", &Model(self.0))?;
        file.end()
    }
}

struct Model<'a>(&'a Tokenizer);

impl Serialize for Model<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let options = self.0.bpe().options;
        let mut model = serializer.serialize_struct("BPE", 10)?;
        model.serialize_field("type", "BPE")?;
        model.serialize_field("dropout", &Value::Null)?;
        model.serialize_field("unk_token", &options.unk.and_then(|id| self.0.token_text(id)))?;
        model.serialize_field("continuing_subword_prefix", &Value::Null)?;
        model.serialize_field("end_of_word_suffix", &Value::Null)?;
        model.serialize_field("fuse_unk", &options.fuse_unk)?;
        model.serialize_field("byte_fallback", &options.byte_fallback)?;
        model.serialize_field("ignore_merges", &options.ignore_merges)?;
        model.serialize_field("vocab", &Vocab(self.0))?;
        model.serialize_field("merges", &Merges(self.0))?;
        model.end()
    }
}

struct Vocab<'a>(&'a Tokenizer);

impl Serialize for Vocab<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let ids = self.0.model_ids();
        let mut map = serializer.serialize_map(Some(ids.len()))?;
        for id in ids {
            map.serialize_entry(&self.0.token_text(id).unwrap_or_default(), &id)?;
        }
        map.end()
    }
}

struct Merges<'a>(&'a Tokenizer);

impl Serialize for Merges<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = |id| self.0.token_text(id).unwrap_or_default();
        serializer.collect_seq(self.0.bpe().merges_in_order().map(|(left, right)| [text(left), text(right)]))
    }
}
