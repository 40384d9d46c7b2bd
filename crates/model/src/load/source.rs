//! Where a model is stored.
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use chalot_formats::gguf::{self as container, Gguf};
use chalot_formats::hf::Config;
use chalot_formats::llama2c::Llama2c;
use chalot_formats::safetensors::{SafeTensors, Shards, shard_paths};
use chalot_tensor::exec::Exec;

use super::assemble::{Assembler, Weights};
use super::foreign::Foreign;
use super::{LoadOptions, gguf, hf, llama2c, tensors};
use crate::config::ModelConfig;
use crate::error::ModelError;
use crate::mapping::{Mapping, read_whole};
use crate::native::{self, Native};
use crate::weights::Model;

/// An opened model file or folder: mapped and described, its weights not yet touched.
///
/// The files are mapped, not read: while a model made from a source lives they must not be truncated or
/// overwritten (replacing a file by renaming another over it is fine).
pub struct Source {
    /// As the user named it.
    file: String,
    path: Option<PathBuf>,
    pub(super) content: Content,
    /// Of a single file that is mapped.
    mapping: Option<Arc<Mapping>>,
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source").field("file", &self.file).field("kind", &self.kind()).finish_non_exhaustive()
    }
}

pub(super) enum Content {
    Native { gguf: Gguf, bytes: Bytes },
    Gguf { gguf: Gguf, bytes: Bytes },
    Hf { config: Config, shards: Shards, files: Vec<Bytes> },
    Llama2c { header: Llama2c, bytes: Bytes },
}

/// What kind of thing a [`Source`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceKind {
    /// Our own file: opens in place.
    Native,
    /// A GGUF file of another program.
    Gguf,
    /// A Hugging Face folder.
    HfFolder,
    /// A llama2.c file.
    Llama2c,
}

impl SourceKind {
    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            SourceKind::Native => "native (GGUF)",
            SourceKind::Gguf => "GGUF",
            SourceKind::HfFolder => "Hugging Face folder",
            SourceKind::Llama2c => "llama2.c",
        }
    }
}

impl Source {
    /// Opens a GGUF file (native or not), a Hugging Face folder or a llama2.c file; what it is, its content
    /// says.
    ///
    /// # Errors
    /// Nothing is there, it is none of these, or what describes it is damaged.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        Self::open_as(path, true)
    }

    /// As [`Source::open`], but reads the files into memory instead of mapping them: nothing that happens to them later
    /// matters.
    ///
    /// # Errors
    /// As [`Source::open`].
    pub fn read(path: &Path) -> Result<Self, ModelError> {
        Self::open_as(path, false)
    }

    fn open_as(path: &Path, mapped: bool) -> Result<Self, ModelError> {
        let metadata = std::fs::metadata(path).map_err(|error| ModelError::io(path, error))?;
        let (content, mapping) =
            if metadata.is_dir() { (open_folder(path, mapped)?, None) } else { open_file(path, mapped)? };
        Ok(Self { file: path.display().to_string(), path: Some(path.into()), content, mapping })
    }

    /// A native file in memory, such as the model that ships in the program. `name` stands for the file in
    /// messages.
    ///
    /// # Errors
    /// As [`Source::open`].
    pub fn from_static(bytes: &'static [u8], name: &str) -> Result<Self, ModelError> {
        let content = from_bytes(name, Bytes::from_static(bytes), true)?;
        Ok(Self { file: name.into(), path: None, content, mapping: None })
    }

    /// The mapped file in which the weights of a native model lie; `None` for all others.
    pub fn mapping(&self) -> Option<&Arc<Mapping>> {
        self.mapping.as_ref().filter(|_| self.kind() == SourceKind::Native)
    }

    /// What kind of thing it is.
    pub fn kind(&self) -> SourceKind {
        match &self.content {
            Content::Native { .. } => SourceKind::Native,
            Content::Gguf { .. } => SourceKind::Gguf,
            Content::Hf { .. } => SourceKind::HfFolder,
            Content::Llama2c { .. } => SourceKind::Llama2c,
        }
    }

    /// The file or folder, as it was named.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Where it is; `None` for a model in memory.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// The folder of a Hugging Face model, where its tokenizer.json is.
    pub fn folder(&self) -> Option<&Path> {
        self.path().filter(|_| self.kind() == SourceKind::HfFolder)
    }

    /// The container of a native or foreign GGUF file, for its metadata (tokenizer, chat template).
    pub fn gguf(&self) -> Option<&Gguf> {
        match &self.content {
            Content::Native { gguf, .. } | Content::Gguf { gguf, .. } => Some(gguf),
            Content::Hf { .. } | Content::Llama2c { .. } => None,
        }
    }

    /// `config.json` of a Hugging Face folder.
    pub fn hf_config(&self) -> Option<&Config> {
        match &self.content {
            Content::Hf { config, .. } => Some(config),
            _ => None,
        }
    }

    /// The name of the file or folder without its extension: the model's name, where nothing else gives one.
    fn stem(&self) -> &str {
        let stem = self.path().and_then(|path| match self.kind() {
            SourceKind::HfFolder => path.file_name(),
            _ => path.file_stem(),
        });
        stem.and_then(|stem| stem.to_str()).unwrap_or_default()
    }

    /// What the model is.
    ///
    /// # Errors
    /// The architecture is not supported, or its description is incomplete or impossible.
    pub fn config(&self) -> Result<ModelConfig, ModelError> {
        let mut config = match &self.content {
            Content::Native { gguf, .. } => native::config(&self.file, gguf)?,
            Content::Gguf { gguf, bytes } => {
                gguf::config(&self.file, gguf, tensors::rope_factors(gguf, bytes)?)?
            }
            Content::Hf { config, shards, .. } => hf::config(config, self.stem(), shards.iter().len())?.0,
            Content::Llama2c { header, .. } => llama2c::config(&self.file, self.stem(), header)?,
        };
        if config.name.is_empty() {
            config.name = self.stem().into();
        }
        Ok(config)
    }

    /// Builds the model's weights.
    ///
    /// # Errors
    /// As [`Source::config`]; a tensor that is missing, too many, of the wrong shape, of a type that cannot
    /// be decoded, or damaged.
    pub fn load(&self, exec: &Exec, options: &LoadOptions) -> Result<Model, ModelError> {
        self.assembler(exec, options)?.model()
    }

    /// The model's parts, to be asked for one by one.
    pub(crate) fn assembler<'a>(
        &'a self,
        exec: &'a Exec,
        options: &'a LoadOptions<'a>,
    ) -> Result<Assembler<'a>, ModelError> {
        let config = self.config()?;
        let (store, norm_offset) = match &self.content {
            Content::Native { gguf, bytes } => {
                let weights: Box<dyn Weights> = Box::new(Native::new(&self.file, gguf, bytes, exec, options));
                return Ok(Assembler { config, weights });
            }
            Content::Gguf { gguf, bytes } => (tensors::gguf(&self.file, gguf, bytes)?, 0.0),
            Content::Hf { config: json, shards, files } => {
                let (_, conventions) = hf::config(json, self.stem(), shards.iter().len())?;
                (tensors::hf(&self.file, shards, files, &conventions)?, conventions.norm_offset)
            }
            Content::Llama2c { header, bytes } => (llama2c::store(&self.file, header, bytes), 0.0),
        };
        let weights = Box::new(Foreign::new(store, &config, norm_offset, exec, options)?);
        Ok(Assembler { config, weights })
    }
}

/// The bytes of a file, and its mapping if it is to be mapped.
fn bytes_of(path: &Path, mapped: bool) -> Result<(Bytes, Option<Arc<Mapping>>), ModelError> {
    if !mapped {
        return Ok((read_whole(path)?, None));
    }
    let mapping = Arc::new(Mapping::open(path)?);
    Ok((Bytes::from_owner(Shared(mapping.clone())), Some(mapping)))
}

/// A mapping, as an owner of bytes.
struct Shared(Arc<Mapping>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        (*self.0).as_ref()
    }
}

fn open_folder(path: &Path, mapped: bool) -> Result<Content, ModelError> {
    let json = path.join("config.json");
    if !json.is_file() {
        return Err(ModelError::NotAModel {
            file: path.display().to_string(),
            found: "a folder without config.json".into(),
            expected: "a Hugging Face model folder (config.json, *.safetensors, tokenizer.json)".into(),
            mend: "name the model's folder, or a .gguf file".into(),
        });
    }
    let config = Config::read(&json)?;
    let mut files = Vec::new();
    let mut shards = Vec::new();
    for path in shard_paths(path)? {
        let (bytes, _) = bytes_of(&path, mapped)?;
        shards.push(SafeTensors::parse(&path.display().to_string(), &bytes)?);
        files.push(bytes);
    }
    Ok(Content::Hf { config, shards: Shards::new(shards)?, files })
}

fn open_file(path: &Path, mapped: bool) -> Result<(Content, Option<Arc<Mapping>>), ModelError> {
    let file = path.display().to_string();
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if name.ends_with(".safetensors") || name.ends_with(".json") {
        return Err(ModelError::NotAModel {
            file,
            found: "one file of a Hugging Face model".into(),
            expected: "its folder".into(),
            mend: "name the folder that holds config.json and the .safetensors files".into(),
        });
    }
    let mut magic = Vec::new();
    let read = File::open(path).and_then(|file| file.take(4).read_to_end(&mut magic));
    read.map_err(|error| ModelError::io(path, error))?;
    let is_gguf = magic == container::MAGIC;
    if !is_gguf && !name.ends_with(".bin") {
        return Err(ModelError::NotAModel {
            found: if magic.is_empty() {
                "an empty file".into()
            } else {
                format!("a file that begins with {magic:02x?}")
            },
            file,
            expected: "a GGUF file, a Hugging Face folder or a llama2.c .bin file".into(),
            mend: "check the path".into(),
        });
    }
    let (bytes, mapping) = bytes_of(path, mapped)?;
    Ok((from_bytes(&file, bytes, is_gguf)?, mapping))
}

fn from_bytes(file: &str, bytes: Bytes, is_gguf: bool) -> Result<Content, ModelError> {
    if !is_gguf {
        return Ok(Content::Llama2c { header: Llama2c::parse(file, &bytes)?, bytes });
    }
    let gguf = Gguf::parse(file, &bytes)?;
    Ok(match gguf.metadata.str("general.architecture")? {
        Some(native::ARCHITECTURE) => Content::Native { gguf, bytes },
        _ => Content::Gguf { gguf, bytes },
    })
}
