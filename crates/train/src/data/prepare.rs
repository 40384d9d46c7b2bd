//! From the texts of a recipe to a vocabulary and shards of ids, kept in the run's folder.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use chalot_tokenizer::shards::{ShardOptions, ShardReader, ShardWriter};
use chalot_tokenizer::train::{self, TrainOptions, Trainer};
use chalot_tokenizer::{Pattern, Specials, Tokenizer};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::DataError;
use super::texts::{Documents, contents, documents};
use crate::recipe::{Data, Recipe, Vocabulary};

/// Documents of about so many bytes are encoded together, on all threads.
const TOGETHER: usize = 16 << 20;
/// Written last: without it there is nothing.
const SUMMARY: &str = "data.json";

/// Reads a vocabulary file of any kind.
pub type ReadVocabulary<'a> =
    dyn Fn(&Path) -> Result<Tokenizer, Box<dyn std::error::Error + Send + Sync>> + 'a;

/// A vocabulary and the ids of all texts.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// The vocabulary; its BOS and EOS are the end-of-text token.
    pub tokenizer: Tokenizer,
    /// `tokenizer_config.json` for it.
    pub tokenizer_config: String,
    /// The id that stands between two documents, and before the first.
    pub end_of_text: u32,
    /// What is trained on.
    pub train: Split,
    /// What is only measured.
    pub held_out: Split,
    /// What there is of both.
    pub summary: Summary,
}

/// The ids of some documents, each document with the end-of-text id behind it.
#[derive(Clone, Debug, Default)]
pub struct Split {
    /// The ids.
    pub ids: Vec<u32>,
    /// Where documents begin, ascending.
    pub documents: Vec<usize>,
}

/// What was prepared.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// SHA-256 of the recipe's tables `[data]` and `[tokenizer]`.
    pub tables: String,
    /// SHA-256 of the files of the texts.
    pub contents: String,
    /// Whole texts read.
    pub texts: usize,
    /// Names of those held out.
    pub held_out_texts: Vec<String>,
    /// Documents of the training split, repeated ones as often as they are repeated.
    pub documents: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Their ids, end-of-text ids included.
    pub tokens: u64,
    /// The same of what is held out.
    pub held_out_documents: usize,
    /// Its bytes.
    pub held_out_bytes: u64,
    /// Its ids.
    pub held_out_tokens: u64,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The texts are read and cleaned.
    Reading,
    /// The vocabulary is trained.
    Vocabulary(train::Progress),
    /// Bytes of all bytes are encoded.
    Encoding {
        /// So far.
        bytes: u64,
        /// In all.
        total: u64,
    },
}

/// Is told how far it is and says whether it goes on.
pub type Watch<'a> = dyn FnMut(Progress) -> ControlFlow<()> + Send + 'a;

impl Prepared {
    /// Opens what `folder` holds; its shards are checked against their checksums.
    ///
    /// # Errors
    /// [`DataError::Changed`] if it is of other tables `[data]` or `[tokenizer]` than the recipe's.
    pub fn open(recipe: &Recipe, folder: &Path) -> Result<Prepared, DataError> {
        let file = folder.join(SUMMARY);
        let bytes = fs::read(&file).map_err(|error| DataError::io(&file, error))?;
        let changed = |mend: &str| DataError::Changed { file: file.display().to_string(), mend: mend.into() };
        let summary: Summary =
            serde_json::from_slice(&bytes).map_err(|_| changed("start again without --resume"))?;
        if summary.tables != tables(&recipe.data, &recipe.tokenizer) {
            return Err(changed("undo the change, or start again without --resume"));
        }
        let path = folder.join("tokenizer.json");
        let json = fs::read(&path).map_err(|error| DataError::io(&path, error))?;
        let tokenizer = Tokenizer::from_json(&path.display().to_string(), &json)?;
        let read = |name: &str| {
            let reader = ShardReader::open(&folder.join(name))?;
            reader.check_vocabulary(&tokenizer)?;
            let mut split = Split::default();
            for shard in 0..reader.index().shards.len() {
                let before = split.ids.len();
                split
                    .documents
                    .extend(reader.index().shards[shard].documents.iter().map(|&at| before + at as usize));
                split.ids.append(&mut reader.read(shard)?);
            }
            Ok::<_, DataError>(split)
        };
        let (train, held_out) = (read("train.json")?, read("held-out.json")?);
        Self::new(recipe, tokenizer, train, held_out, summary)
    }

    /// Opens what `folder` holds if it is of these texts and tables, else prepares it anew. `base` is what paths of the
    /// recipe are relative to, `texts` (if given) what those of `[data]` are.
    ///
    /// # Errors
    /// [`DataError`] names the file or the recipe's key.
    pub fn prepare(
        recipe: &Recipe,
        base: &Path,
        texts: &Path,
        folder: &Path,
        threads: usize,
        read: &ReadVocabulary,
        watch: &mut Watch,
    ) -> Result<Prepared, DataError> {
        let contents = contents(&recipe.data, base, texts)?;
        if let Ok(known) = Self::open(recipe, folder)
            && known.summary.contents == contents
        {
            return Ok(known);
        }
        go_on(watch, Progress::Reading)?;
        let documents = documents(&recipe.data, base, texts)?;
        let tokenizer = vocabulary(&recipe.tokenizer, base, &documents, threads, read, watch)?;
        let aside = folder.with_extension("part");
        for folder in [&aside, folder] {
            match fs::remove_dir_all(folder) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(DataError::io(folder, error));
                }
                _ => {}
            }
        }
        fs::create_dir_all(&aside).map_err(|error| DataError::io(&aside, error))?;
        let end_of_text = end_of_text(&recipe.tokenizer, &tokenizer)?;
        let size = |documents: &[String]| documents.iter().map(|text| text.len() as u64).sum::<u64>();
        let (bytes, held_out_bytes) = (size(&documents.train), size(&documents.held_out));
        let mut done = 0;
        let mut write = |name: &str, documents: &[String]| {
            let options = ShardOptions { end_of_text: Some(end_of_text), ..ShardOptions::default() };
            let mut writer = ShardWriter::create(&aside.join(name), &tokenizer, options)?;
            let mut rest = documents;
            while !rest.is_empty() {
                let mut size = 0;
                let count = rest.iter().take_while(|text| {
                    let room = size < TOGETHER;
                    size += text.len();
                    room
                });
                let (together, after) = rest.split_at(count.count());
                for ids in tokenizer.encode_batch(together, Specials::AsText, threads) {
                    writer.document(&ids)?;
                }
                done += together.iter().map(|text| text.len() as u64).sum::<u64>();
                rest = after;
                go_on(watch, Progress::Encoding { bytes: done, total: bytes + held_out_bytes })?;
            }
            Ok::<_, DataError>(writer.finish()?)
        };
        let train = write("train.json", &documents.train)?;
        let held_out = write("held-out.json", &documents.held_out)?;
        let summary = Summary {
            tables: tables(&recipe.data, &recipe.tokenizer),
            contents,
            texts: documents.texts,
            held_out_texts: documents.held_out_names,
            documents: documents.train.len(),
            bytes,
            tokens: train.tokens,
            held_out_documents: documents.held_out.len(),
            held_out_bytes,
            held_out_tokens: held_out.tokens,
        };
        let put = |name: &str, text: &str| {
            let path = aside.join(name);
            fs::write(&path, text).map_err(|error| DataError::io(&path, error))
        };
        put("tokenizer.json", &tokenizer.to_json())?;
        put(SUMMARY, &serde_json::to_string_pretty(&summary).unwrap_or_default())?;
        fs::rename(&aside, folder).map_err(|error| DataError::io(folder, error))?;
        Self::open(recipe, folder)
    }

    fn new(
        recipe: &Recipe,
        tokenizer: Tokenizer,
        train: Split,
        held_out: Split,
        summary: Summary,
    ) -> Result<Prepared, DataError> {
        let end_of_text = end_of_text(&recipe.tokenizer, &tokenizer)?;
        let name = &recipe.tokenizer.end_of_text;
        let tokenizer_config = serde_json::json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": name,
            "eos_token": name,
            "add_bos_token": true,
            "add_eos_token": false,
            "clean_up_tokenization_spaces": false,
        })
        .to_string();
        let tokenizer = tokenizer.with_hf_config("tokenizer_config.json", tokenizer_config.as_bytes())?;
        Ok(Prepared { tokenizer, tokenizer_config, end_of_text, train, held_out, summary })
    }
}

fn go_on(watch: &mut Watch, progress: Progress) -> Result<(), DataError> {
    match watch(progress) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(DataError::Interrupted),
    }
}

/// SHA-256 of what the ids depend on beside the texts.
fn tables(data: &Data, tokenizer: &Vocabulary) -> String {
    // Both are plain data, so writing them to memory does not fail.
    let text = serde_json::to_vec(&(data, tokenizer)).unwrap_or_default();
    crate::hex(&Sha256::digest(&text))
}

fn end_of_text(recipe: &Vocabulary, tokenizer: &Tokenizer) -> Result<u32, DataError> {
    tokenizer.id_of(&recipe.end_of_text).ok_or_else(|| DataError::Recipe {
        key: "tokenizer.end_of_text".into(),
        found: format!("the vocabulary has no token {:?}", recipe.end_of_text),
        mend: "name the token that ends a text of this vocabulary".into(),
    })
}

/// Reads the vocabulary that the recipe names, or trains one.
fn vocabulary(
    recipe: &Vocabulary,
    base: &Path,
    documents: &Documents,
    threads: usize,
    read: &ReadVocabulary,
    watch: &mut Watch,
) -> Result<Tokenizer, DataError> {
    if let Some(file) = &recipe.file {
        return read(&base.join(file)).map_err(DataError::Vocabulary);
    }
    let Ok(pattern) = recipe.pattern.parse::<Pattern>();
    let mut special_tokens = vec![recipe.end_of_text.clone()];
    special_tokens
        .extend(recipe.special_tokens.iter().filter(|token| **token != recipe.end_of_text).cloned());
    let options =
        TrainOptions { vocab_size: recipe.size, special_tokens, pattern, threads, ..TrainOptions::default() };
    let mut trainer = Trainer::new(options)?;
    let mut tell = |progress| watch(Progress::Vocabulary(progress));
    let texts = documents.train.iter().map(Ok::<_, DataError>);
    let counted = trainer.count(texts, &mut tell)?;
    if counted.is_break() || trainer.merge(&mut tell)?.is_break() {
        return Err(DataError::Interrupted);
    }
    Ok(trainer.tokenizer()?)
}
