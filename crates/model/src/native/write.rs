//! Writing the native file.
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use bytes::Bytes;
use chalot_formats::TensorType;
use chalot_formats::gguf::{Header, Value};
use chalot_tensor::matrix::Matrix;

use super::{ALIGNMENT, ARCHITECTURE, CONFIG_KEY, IMAGE_ALIGNMENT, MATRIX_KEY, experts_name};
use crate::config::ModelConfig;
use crate::error::ModelError;
use crate::load::names::{Names, Part, Projection, Role, Where};
use crate::weights::{Experts, Ffn, GatedFfn, Layer, Linear, Model};

/// Writes a model and some metadata (`tokenizer.*`, `general.*`) as a native file: to a temporary file beside
/// `path`, which is renamed when all is written.
///
/// Keys that describe the model itself (`chalot.*`, `general.architecture`, `general.alignment`) are the
/// writer's own; such pairs in `metadata` are left out.
///
/// # Errors
/// The disk refused, or the experts of a layer differ in form.
pub fn write_native(model: &Model, metadata: &[(String, Value)], path: &Path) -> Result<(), ModelError> {
    let mut writer = NativeWriter::new(path, None);
    writer.matrix(Role::Embedding, &model.embedding)?;
    for (index, layer) in model.layers.iter().enumerate() {
        writer.layer(index, layer)?;
    }
    writer.vector(&Names::Gguf.weight(Role::FinalNorm), &model.final_norm)?;
    if let Some(head) = &model.head {
        writer.matrix(Role::Head, head)?;
    }
    writer.finish(&model.config, metadata)
}

/// Collects a model's tensors and writes them. With a spool, what was collected lies there and not in memory,
/// until all is known and the header can be written.
pub(crate) struct NativeWriter<'a> {
    path: &'a Path,
    spool: Option<File>,
    spooled: u64,
    entries: Vec<Entry>,
}

struct Entry {
    name: String,
    dims: Vec<usize>,
    ty: TensorType,
    /// What the key of the tensor says.
    spec: Option<String>,
    pieces: Vec<Piece>,
}

enum Piece {
    Bytes(Bytes),
    Zeros(usize),
    /// Start and length in the spool.
    Spooled(u64, usize),
}

impl<'a> NativeWriter<'a> {
    /// Collects in memory, or in `spool`.
    fn new(path: &'a Path, spool: Option<File>) -> Self {
        Self { path, spool, spooled: 0, entries: Vec::new() }
    }

    /// Collects on disk, in a file without a name beside `path`.
    pub(crate) fn spooled(path: &'a Path) -> Result<Self, ModelError> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let spool = tempfile::tempfile_in(folder).map_err(|error| ModelError::io(folder, error))?;
        Ok(Self::new(path, Some(spool)))
    }

    /// A matrix.
    pub(crate) fn matrix(&mut self, role: Role, matrix: &Matrix) -> Result<(), ModelError> {
        let pieces = vec![self.piece(matrix.image().clone())?];
        let dims = vec![matrix.image().len()];
        let spec = Some(matrix.spec().to_string());
        self.entries.push(Entry { name: Names::Gguf.weight(role), dims, ty: TensorType::I8, spec, pieces });
        Ok(())
    }

    /// A norm or a bias.
    pub(crate) fn vector(&mut self, name: &str, values: &[f32]) -> Result<(), ModelError> {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let pieces = vec![self.piece(bytes.into())?];
        self.entries.push(Entry {
            name: name.into(),
            dims: vec![values.len()],
            ty: TensorType::F32,
            spec: None,
            pieces,
        });
        Ok(())
    }

    /// A layer.
    pub(crate) fn layer(&mut self, index: usize, layer: &Layer) -> Result<(), ModelError> {
        let attention = &layer.attention;
        let norms = [
            (Part::AttentionNorm, Some(&attention.norm)),
            (Part::QueryNorm, attention.q_norm.as_ref()),
            (Part::KeyNorm, attention.k_norm.as_ref()),
            (Part::AttentionSubNorm, attention.sub_norm.as_ref()),
            (Part::AttentionPostNorm, attention.post_norm.as_ref()),
            (Part::FfnNorm, Some(&layer.ffn_norm)),
            (Part::FfnPostNorm, layer.ffn_post_norm.as_ref()),
        ];
        for (part, norm) in norms {
            if let Some(norm) = norm {
                self.vector(&Names::Gguf.weight(Role::Layer(index, part)), norm)?;
            }
        }
        for (part, linear) in [
            (Part::Query, &attention.q),
            (Part::Key, &attention.k),
            (Part::Value, &attention.v),
            (Part::Output, &attention.o),
        ] {
            self.linear(Role::Layer(index, part), linear)?;
        }
        match &layer.ffn {
            Ffn::Dense(ffn) => self.network(index, Where::Dense, ffn),
            Ffn::Experts(experts) => self.experts(index, experts),
        }
    }

    fn linear(&mut self, role: Role, linear: &Linear) -> Result<(), ModelError> {
        self.matrix(role, &linear.weight)?;
        match &linear.bias {
            Some(bias) => self.vector(&Names::Gguf.bias(role), bias),
            None => Ok(()),
        }
    }

    fn network(&mut self, layer: usize, place: Where, ffn: &GatedFfn) -> Result<(), ModelError> {
        if let Some(norm) = &ffn.sub_norm {
            let part = if place == Where::Shared { Part::SharedSubNorm } else { Part::FfnSubNorm };
            self.vector(&Names::Gguf.weight(Role::Layer(layer, part)), norm)?;
        }
        for (projection, linear) in Projection::ALL.into_iter().zip([&ffn.gate, &ffn.up, &ffn.down]) {
            self.linear(Role::Layer(layer, Part::Ffn(place, projection)), linear)?;
        }
        Ok(())
    }

    fn experts(&mut self, layer: usize, experts: &Experts) -> Result<(), ModelError> {
        self.linear(Role::Layer(layer, Part::Router), &experts.router)?;
        if let Some(bias) = &experts.selection_bias {
            self.vector(&Names::Gguf.weight(Role::Layer(layer, Part::SelectionBias)), bias)?;
        }
        let sub_norms: Vec<f32> = experts
            .experts
            .iter()
            .filter_map(|expert| expert.sub_norm.as_deref())
            .flatten()
            .copied()
            .collect();
        if !sub_norms.is_empty() {
            self.vector(&Names::Gguf.weight(Role::Layer(layer, Part::ExpertsSubNorm)), &sub_norms)?;
        }
        if let Some(shared) = &experts.shared {
            self.network(layer, Where::Shared, shared)?;
        }
        let matrices = |expert: &'_ GatedFfn| {
            [&expert.gate, &expert.up, &expert.down].map(|linear| linear.weight.clone())
        };
        let Some(first) = experts.experts.first().map(matrices) else { return Ok(()) };
        let specs = first.each_ref().map(|matrix| *matrix.spec());
        let mut pieces = Vec::new();
        for (index, expert) in experts.experts.iter().enumerate() {
            let mut len = 0;
            for (matrix, spec) in matrices(expert).iter().zip(&specs) {
                if matrix.spec() != spec {
                    return Err(ModelError::Tensor {
                        file: self.path.display().to_string(),
                        tensor: experts_name(layer),
                        found: format!("expert {index} as {}", matrix.spec()),
                        expected: format!("{spec}, as the first expert"),
                        mend: "bring the experts of a layer into one form".into(),
                    });
                }
                let image = matrix.image();
                pieces.push(self.piece(image.clone())?);
                let padding = image.len().next_multiple_of(IMAGE_ALIGNMENT) - image.len();
                pieces.push(Piece::Zeros(padding));
                len += image.len() + padding;
            }
            pieces.push(Piece::Zeros(len.next_multiple_of(ALIGNMENT) - len));
        }
        let stride = specs
            .iter()
            .zip(&first)
            .map(|(_, matrix)| matrix.image().len().next_multiple_of(IMAGE_ALIGNMENT));
        let stride = stride.sum::<usize>().next_multiple_of(ALIGNMENT);
        self.entries.push(Entry {
            name: experts_name(layer),
            dims: vec![stride, experts.experts.len()],
            ty: TensorType::I8,
            spec: Some(specs.map(|spec| spec.to_string()).join("; ")),
            pieces,
        });
        Ok(())
    }

    /// Keeps some bytes until the end: as they are, or in the spool.
    fn piece(&mut self, bytes: Bytes) -> Result<Piece, ModelError> {
        let Some(spool) = &mut self.spool else { return Ok(Piece::Bytes(bytes)) };
        spool.write_all(&bytes).map_err(|error| ModelError::io(self.path, error))?;
        let start = self.spooled;
        self.spooled += bytes.len() as u64;
        Ok(Piece::Spooled(start, bytes.len()))
    }

    /// Writes the file.
    pub(crate) fn finish(
        mut self,
        config: &ModelConfig,
        metadata: &[(String, Value)],
    ) -> Result<(), ModelError> {
        let mut header = Header::new();
        header.alignment(ALIGNMENT);
        describe(&mut header, config)?;
        let own = |key: &str| {
            key.starts_with("chalot.") || matches!(key, "general.architecture" | "general.alignment")
        };
        for (key, value) in metadata.iter().filter(|(key, _)| !own(key)) {
            header.set(key.clone(), value.clone());
        }
        for entry in &self.entries {
            if let Some(spec) = &entry.spec {
                header.set(format!("{MATRIX_KEY}{}", entry.name), spec.as_str());
            }
        }
        for entry in &self.entries {
            header.tensor(&entry.name, &entry.dims, entry.ty);
        }
        let mut writer = header.create(self.path)?;
        let mut buffer = Vec::new();
        for piece in self.entries.iter().flat_map(|entry| &entry.pieces) {
            match piece {
                Piece::Bytes(bytes) => writer.append(bytes)?,
                Piece::Zeros(len) => writer.append(&[0; ALIGNMENT][..*len])?,
                Piece::Spooled(start, len) => {
                    let Some(spool) = &mut self.spool else { continue };
                    spool.seek(SeekFrom::Start(*start)).map_err(|error| ModelError::io(self.path, error))?;
                    let mut left = *len;
                    while left > 0 {
                        buffer.resize(left.min(1 << 20), 0);
                        spool.read_exact(&mut buffer).map_err(|error| ModelError::io(self.path, error))?;
                        writer.append(&buffer)?;
                        left -= buffer.len();
                    }
                }
            }
        }
        Ok(writer.finish()?)
    }
}

/// The configuration: for us, and in GGUF's words for others.
fn describe(header: &mut Header, config: &ModelConfig) -> Result<(), ModelError> {
    let json = serde_json::to_string(config).map_err(|error| {
        ModelError::config("", CONFIG_KEY, error, "numbers that JSON holds", "this is a bug")
    })?;
    header.set("general.architecture", ARCHITECTURE);
    header.set("general.type", "model");
    header.set("general.name", config.name.as_str());
    let mut number = |key: &str, value: usize| {
        header.set(format!("{ARCHITECTURE}.{key}"), u32::try_from(value).unwrap_or(u32::MAX));
    };
    number("block_count", config.num_layers());
    number("context_length", config.context_length);
    number("embedding_length", config.hidden_size);
    number("feed_forward_length", config.intermediate_size);
    number("vocab_size", config.vocab_size);
    number("attention.head_count", config.num_heads);
    number("attention.head_count_kv", config.num_kv_heads);
    number("attention.key_length", config.head_dim);
    number("attention.value_length", config.head_dim);
    if let Some(experts) = &config.experts {
        number("expert_count", experts.count);
        number("expert_used_count", experts.top_k);
        number("expert_feed_forward_length", experts.intermediate_size);
    }
    header.set(format!("{ARCHITECTURE}.attention.layer_norm_rms_epsilon"), config.norm_eps);
    if let Some(rope) = config.rope.first() {
        header.set(format!("{ARCHITECTURE}.rope.freq_base"), rope.theta as f32);
    }
    header.set(CONFIG_KEY, json);
    Ok(())
}
