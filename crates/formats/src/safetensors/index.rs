//! Models that lie in several files.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};

use super::{SafeTensors, TensorInfo};
use crate::error::{ErrorKind, FormatError, quote};
use crate::hf::read_small_file;

/// Name of the index in a folder of several files.
const INDEX: &str = "model.safetensors.index.json";
/// Name of the file in a folder of one.
const SINGLE: &str = "model.safetensors";
/// Longer indices are refused; the largest published ones are near 10 MB.
const MAX_INDEX: usize = 16 << 20;
const MAX_SHARDS: usize = 10_000;

/// `model.safetensors.index.json`: which tensor lies in which file.
#[derive(Clone, Debug)]
pub struct ShardIndex {
    /// The files, plain names beside the index, in order of first mention.
    pub shards: Vec<String>,
    /// Tensor name and index into `shards`.
    pub tensors: Vec<(String, u32)>,
    file: String,
}

impl ShardIndex {
    /// Parses an index that messages call `file`.
    ///
    /// # Errors
    /// No JSON, no `weight_map` of strings, or a shard that is no plain file name (an index must not lead
    /// out of its folder).
    pub fn parse(file: &str, bytes: &[u8]) -> Result<ShardIndex, FormatError> {
        let error = |kind, place: String, found: String, expected: &str| {
            Err(FormatError::new(kind, file, place, found, expected))
        };
        if bytes.len() > MAX_INDEX {
            return error(
                ErrorKind::TooLarge,
                "size".into(),
                format!("{} bytes", bytes.len()),
                "at most 16 MiB",
            );
        }
        let RawIndex { shards, tensors } = match serde_json::from_slice(bytes) {
            Ok(raw) => raw,
            Err(e) => {
                return error(
                    ErrorKind::Malformed,
                    "JSON".into(),
                    quote(&e.to_string()),
                    "a \"weight_map\" from tensor names to file names",
                );
            }
        };
        for shard in &shards {
            let plain = !matches!(shard.as_str(), "" | "." | "..")
                && !shard.contains(['/', '\\', ':', '\0'])
                && shard.ends_with(".safetensors");
            if !plain {
                return error(
                    ErrorKind::Malformed,
                    "weight_map".into(),
                    format!("the file name {}", quote(shard)),
                    "plain names of .safetensors files in the same folder",
                );
            }
        }
        Ok(ShardIndex { shards, tensors, file: file.to_owned() })
    }
}

/// The weight files of a folder: those of its index, or `model.safetensors`.
///
/// # Errors
/// The folder has neither, the index cannot be read, or a file it names is not there.
pub fn shard_paths(folder: &Path) -> Result<Vec<PathBuf>, FormatError> {
    let index = folder.join(INDEX);
    if index.is_file() {
        let name = index.display().to_string();
        let parsed = ShardIndex::parse(&name, &read_small_file(&index, MAX_INDEX)?)?;
        let paths: Vec<PathBuf> = parsed.shards.iter().map(|shard| folder.join(shard)).collect();
        return match paths.iter().zip(&parsed.shards).find(|(path, _)| !path.is_file()) {
            None => Ok(paths),
            Some((_, shard)) => Err(FormatError::new(
                ErrorKind::Missing,
                &name,
                "weight_map",
                format_args!("the name {} of a file that is not there", quote(shard)),
                format_args!("all {} files beside the index", paths.len()),
            )
            .mend("download the files that are missing")),
        };
    }
    let single = folder.join(SINGLE);
    if single.is_file() {
        return Ok(vec![single]);
    }
    Err(FormatError::new(
        ErrorKind::Missing,
        &folder.display().to_string(),
        "weights",
        format_args!("neither {SINGLE} nor {INDEX}"),
        "one of them",
    )
    .mend("download the safetensors files of the model into this folder"))
}

/// The tensors of all files of a model.
#[derive(Clone, Debug)]
pub struct Shards {
    /// The files, in the order in which they were given.
    pub files: Vec<SafeTensors>,
    /// File and tensor, sorted by name.
    by_name: Vec<(u32, u32)>,
}

impl Shards {
    /// Joins the files of one model.
    ///
    /// # Errors
    /// Two files hold a tensor of one name.
    pub fn new(files: Vec<SafeTensors>) -> Result<Shards, FormatError> {
        let mut by_name: Vec<(u32, u32)> = Vec::new();
        for (f, file) in files.iter().enumerate() {
            by_name.extend((0..file.tensors.len()).map(|t| (f as u32, t as u32)));
        }
        let name = |&(f, t): &(u32, u32)| files[f as usize].tensors[t as usize].name.as_str();
        by_name.sort_unstable_by(|a, b| name(a).cmp(name(b)));
        if let Some(twice) = by_name.windows(2).find(|w| name(&w[0]) == name(&w[1])) {
            return Err(FormatError::new(
                ErrorKind::Duplicate,
                files[twice[0].0 as usize].file(),
                format_args!("tensor {}", quote(name(&twice[0]))),
                format_args!("a tensor of that name in {} too", files[twice[1].0 as usize].file()),
                "unique names",
            ));
        }
        Ok(Shards { by_name, files })
    }

    /// The tensor with this name, and the number of its file.
    pub fn tensor(&self, name: &str) -> Option<(usize, &TensorInfo)> {
        let info = |&(f, t): &(u32, u32)| &self.files[f as usize].tensors[t as usize];
        let at = self.by_name.binary_search_by(|place| info(place).name.as_str().cmp(name)).ok()?;
        let place = &self.by_name[at];
        Some((place.0 as usize, info(place)))
    }

    /// All tensors with the number of their file, sorted by name.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (usize, &TensorInfo)> {
        self.by_name.iter().map(|&(f, t)| (f as usize, &self.files[f as usize].tensors[t as usize]))
    }

    /// Checks that every tensor of an index is there.
    ///
    /// # Errors
    /// The first that is not.
    pub fn check(&self, index: &ShardIndex) -> Result<(), FormatError> {
        match index.tensors.iter().find(|(name, _)| self.tensor(name).is_none()) {
            None => Ok(()),
            Some((name, shard)) => Err(FormatError::new(
                ErrorKind::Missing,
                &index.file,
                format_args!("tensor {}", quote(name)),
                format_args!("no such tensor in {}", quote(&index.shards[*shard as usize])),
                "every tensor of the index in its file",
            )),
        }
    }
}

/// Shards are few and named over and over: tensors keep a number instead of the name.
struct RawIndex {
    shards: Vec<String>,
    tensors: Vec<(String, u32)>,
}

impl<'de> Deserialize<'de> for RawIndex {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct IndexVisitor;
        impl<'de> Visitor<'de> for IndexVisitor {
            type Value = RawIndex;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a map with a weight_map")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawIndex, A::Error> {
                let mut found = None;
                while let Some(key) = map.next_key::<String>()? {
                    if key != "weight_map" {
                        map.next_value::<IgnoredAny>()?;
                    } else if found.replace(map.next_value::<WeightMap>()?.0).is_some() {
                        return Err(serde::de::Error::duplicate_field("weight_map"));
                    }
                }
                found.ok_or_else(|| serde::de::Error::missing_field("weight_map"))
            }
        }
        deserializer.deserialize_map(IndexVisitor)
    }
}

struct WeightMap(RawIndex);

impl<'de> Deserialize<'de> for WeightMap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MapVisitor;
        impl<'de> Visitor<'de> for MapVisitor {
            type Value = WeightMap;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a map from tensor names to file names")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<WeightMap, A::Error> {
                let mut shards: Vec<String> = Vec::new();
                let mut numbers = std::collections::HashMap::new();
                let mut tensors = Vec::new();
                while let Some((name, shard)) = map.next_entry::<String, String>()? {
                    let number = match numbers.get(&shard) {
                        Some(&number) => number,
                        None if shards.len() == MAX_SHARDS => {
                            return Err(serde::de::Error::custom(format_args!(
                                "more than {MAX_SHARDS} files"
                            )));
                        }
                        None => {
                            let number = shards.len() as u32;
                            shards.push(shard.clone());
                            numbers.insert(shard, number);
                            number
                        }
                    };
                    tensors.push((name, number));
                }
                Ok(WeightMap(RawIndex { shards, tensors }))
            }
        }
        deserializer.deserialize_map(MapVisitor)
    }
}
