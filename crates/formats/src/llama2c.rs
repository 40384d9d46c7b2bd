//! llama2.c's model file (its first version, the one without a magic number).
//!
//! Layout: seven i32 (dim, hidden, layers, heads, kv heads, vocabulary, context), then f32 matrices, row-major,
//! each kind for all layers together, in the order of [`Part`]; between final norm and classifier two tables
//! of `context * head_dim / 2` floats that readers ignore. A negative vocabulary means that a classifier
//! follows; else the embedding serves as one.

use std::ops::Range;

use crate::codec;
use crate::error::{ErrorKind, FormatError};

/// Bytes before the first matrix.
const HEADER: usize = 7 * 4;
/// The first word of the later versions of this format.
const LATER_MAGIC: i32 = 0x616b_3432;

/// The dimensions of a model. All are at least 1.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Width of the residual stream.
    pub dim: usize,
    /// Width of the feed-forward layers.
    pub hidden_dim: usize,
    /// Number of layers.
    pub layers: usize,
    /// Number of query heads; divides `dim`.
    pub heads: usize,
    /// Number of key/value heads; divides `heads`.
    pub kv_heads: usize,
    /// Size of the vocabulary.
    pub vocab_size: usize,
    /// Longest context, in tokens.
    pub context: usize,
    /// Whether the embedding is the classifier too.
    pub shared_classifier: bool,
}

impl Config {
    /// `dim / heads`.
    pub fn head_dim(&self) -> usize {
        self.dim / self.heads
    }

    /// Width of keys and values.
    pub fn kv_dim(&self) -> usize {
        self.head_dim() * self.kv_heads
    }
}

/// The parts of a file, in its order. Shapes are `[rows][cols]`, a norm has one row.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// `[vocab][dim]`
    TokenEmbedding,
    /// Per layer `[dim]`
    AttentionNorm,
    /// Per layer `[dim][dim]`
    Query,
    /// Per layer `[kv_dim][dim]`
    Key,
    /// Per layer `[kv_dim][dim]`
    Value,
    /// Per layer `[dim][dim]`
    Output,
    /// Per layer `[dim]`
    FfnNorm,
    /// w1, per layer `[hidden][dim]`
    Gate,
    /// w2, per layer `[dim][hidden]`
    Down,
    /// w3, per layer `[hidden][dim]`
    Up,
    /// `[dim]`
    FinalNorm,
    /// `[vocab][dim]`, not there if the embedding is shared
    Classifier,
}

impl Part {
    /// All parts, in the order of the file.
    pub const ALL: [Part; 12] = [
        Part::TokenEmbedding,
        Part::AttentionNorm,
        Part::Query,
        Part::Key,
        Part::Value,
        Part::Output,
        Part::FfnNorm,
        Part::Gate,
        Part::Down,
        Part::Up,
        Part::FinalNorm,
        Part::Classifier,
    ];

    /// Whether there is one for each layer.
    pub fn per_layer(self) -> bool {
        !matches!(self, Part::TokenEmbedding | Part::FinalNorm | Part::Classifier)
    }

    /// Rows and columns of one (of one layer's, where there are several).
    pub fn shape(self, config: &Config) -> (usize, usize) {
        let Config { dim, hidden_dim, vocab_size, .. } = *config;
        match self {
            Part::TokenEmbedding | Part::Classifier => (vocab_size, dim),
            Part::AttentionNorm | Part::FfnNorm | Part::FinalNorm => (1, dim),
            Part::Query | Part::Output => (dim, dim),
            Part::Key | Part::Value => (config.kv_dim(), dim),
            Part::Gate | Part::Up => (hidden_dim, dim),
            Part::Down => (dim, hidden_dim),
        }
    }
}

/// The parsed and checked description of a file. Holds no weights.
#[derive(Clone, Debug)]
pub struct Llama2c {
    /// The dimensions.
    pub config: Config,
    file: String,
    /// Byte range of each of [`Part::ALL`], all layers together; empty for a classifier that is shared.
    parts: [Range<usize>; 12],
}

impl Llama2c {
    /// Parses `bytes`, the whole of a file that messages call `file`.
    ///
    /// # Errors
    /// Dimensions that are not positive or do not divide, or that do not add up to exactly the file's length.
    pub fn parse(file: &str, bytes: &[u8]) -> Result<Llama2c, FormatError> {
        let config = config(file, bytes)?;
        let wrong_size = |needed: Option<usize>| {
            let needed = needed.map_or("more than can be addressed".to_owned(), |n| format!("{n} bytes"));
            FormatError::new(
                ErrorKind::Truncated,
                file,
                "file size",
                format_args!("{} bytes", bytes.len()),
                format_args!("{needed}, which is what the dimensions {config:?} ask"),
            )
            .mend(
                "the file is damaged, incomplete or no llama2.c model: check the path, or download it again",
            )
        };
        let mut parts = Part::ALL.map(|_| 0..0);
        let mut position = HEADER;
        for (part, range) in Part::ALL.iter().zip(&mut parts) {
            if *part == Part::Classifier {
                // The two tables before it.
                let tables = config.context.checked_mul(config.head_dim() / 2 * 2 * 4);
                position = tables.and_then(|t| position.checked_add(t)).ok_or_else(|| wrong_size(None))?;
                if config.shared_classifier {
                    break;
                }
            }
            let (rows, cols) = part.shape(&config);
            let copies = if part.per_layer() { config.layers } else { 1 };
            let len = [rows, cols, copies].iter().try_fold(4usize, |product, &n| product.checked_mul(n));
            let end = len.and_then(|len| position.checked_add(len)).ok_or_else(|| wrong_size(None))?;
            *range = position..end;
            position = end;
        }
        if position != bytes.len() {
            return Err(wrong_size(Some(position)));
        }
        Ok(Llama2c { config, file: file.to_owned(), parts })
    }

    /// The file, as it was named to [`Llama2c::parse`].
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Where a part lies in the file; `layer` is ignored for parts that are not per layer. `None` for a layer
    /// that is not there and for a shared classifier.
    pub fn range(&self, part: Part, layer: usize) -> Option<Range<usize>> {
        let whole = self.parts[Part::ALL.iter().position(|&p| p == part)?].clone();
        if whole.is_empty() {
            return None;
        }
        if !part.per_layer() {
            return Some(whole);
        }
        let stride = whole.len() / self.config.layers;
        (layer < self.config.layers).then(|| whole.start + layer * stride..whole.start + (layer + 1) * stride)
    }

    /// The weights of a part; `bytes` is the whole file.
    ///
    /// # Errors
    /// The part is not there ([`Llama2c::range`]), or `bytes` is shorter than the file that was parsed.
    pub fn weights(&self, bytes: &[u8], part: Part, layer: usize) -> Result<Vec<f32>, FormatError> {
        let Some(data) = self.range(part, layer).and_then(|range| bytes.get(range)) else {
            return Err(FormatError::new(
                ErrorKind::Missing,
                &self.file,
                format_args!("{part:?} of layer {layer}"),
                format_args!("{} layers in {} bytes", self.config.layers, bytes.len()),
                "a part of the file that was opened",
            ));
        };
        let mut weights = vec![0.0; data.len() / 4];
        codec::float::f32(data, &mut weights);
        Ok(weights)
    }
}

/// The seven numbers of the header.
fn config(file: &str, bytes: &[u8]) -> Result<Config, FormatError> {
    let Some(header) = bytes.first_chunk::<HEADER>() else {
        return Err(FormatError::new(
            ErrorKind::Truncated,
            file,
            "header",
            format_args!("a file of {} bytes", bytes.len()),
            format_args!("at least {HEADER}"),
        ));
    };
    let words: [i32; 7] = std::array::from_fn(|i| i32::from_le_bytes(header.as_chunks().0[i]));
    if words[0] == LATER_MAGIC {
        return Err(FormatError::new(
            ErrorKind::Unsupported,
            file,
            "header",
            format_args!("version {} of llama2.c's format", words[1]),
            "version 0",
        )
        .mend("export the model with `--version 0`, or to a Hugging Face folder"));
    }
    let not_a_model = |place: String, found: String, expected: &str| {
        FormatError::new(ErrorKind::Malformed, file, place, found, expected)
            .mend("this is no llama2.c model file, or a damaged one: check the path")
    };
    let names = ["dim", "hidden_dim", "n_layers", "n_heads", "n_kv_heads", "vocab_size", "seq_len"];
    for (name, &word) in names.iter().zip(&words) {
        let positive = if *name == "vocab_size" { word != 0 && word != i32::MIN } else { word > 0 };
        if !positive {
            return Err(not_a_model(format!("header field {name}"), word.to_string(), "a positive number"));
        }
    }
    let [dim, hidden_dim, layers, heads, kv_heads, vocab_size, context] =
        words.map(|w| w.unsigned_abs() as usize);
    if !dim.is_multiple_of(heads) || !heads.is_multiple_of(kv_heads) || !(dim / heads).is_multiple_of(2) {
        return Err(not_a_model(
            "header".into(),
            format!("dim {dim}, n_heads {heads}, n_kv_heads {kv_heads}"),
            "n_heads that divide dim into heads of even size, and n_kv_heads that divide n_heads",
        ));
    }
    let shared_classifier = words[5] > 0;
    Ok(Config { dim, hidden_dim, layers, heads, kv_heads, vocab_size, context, shared_classifier })
}
