//! What `chalot tune` found out about this machine, kept in the user's cache folder.
//!
//! It is a matter of speed alone, so nothing that is wrong with the file is an error: without it, or with one that is
//! damaged or of another machine, the defaults apply.
use std::{
    fmt,
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use chalot::{
    model::EngineOptions,
    simd::{Isa, cpu_name},
    tensor::{Packing, Tiling},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{cmd::doctor::cache_folder, settings::default_threads};

/// Of the file's layout.
const VERSION: u32 = 1;
/// No tuning is longer.
const MAX_BYTES: u64 = 64 * 1024;
/// Tokens of a pass: fewer than the lower are no chunk, more than the upper only cost memory.
const MIN_CHUNK: usize = 16;
const MAX_CHUNK: usize = 4096;

/// What suits a machine. Serialized flat, under keys that are stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Stored", into = "Stored")]
pub struct Values {
    /// Threads to compute with.
    pub threads: usize,
    /// How ternary weights are packed that come from files of other programs.
    pub packing: Packing,
    /// Tokens of a prompt that are computed in one pass.
    pub chunk: usize,
    /// How products are cut.
    pub tiling: Tiling,
}

impl Values {
    /// Of a machine with `isa` that was not measured.
    pub fn of(isa: Isa) -> Self {
        Self {
            threads: default_threads(),
            packing: Packing::Trit2,
            chunk: EngineOptions::default().chunk,
            tiling: Tiling::of(isa),
        }
    }

    /// For engines.
    pub fn engine_options(&self) -> EngineOptions {
        EngineOptions { chunk: self.chunk }
    }
}

impl fmt::Display for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} threads, {}, chunks of {}, up to {} tokens direct, panels for {} token tiles, tasks of {} bytes",
            self.threads,
            self.packing,
            self.chunk,
            self.tiling.direct_tokens(),
            self.tiling.panel_token_tiles(),
            self.tiling.task_bytes()
        )
    }
}

/// [`Values`] as they are written.
#[derive(Serialize, Deserialize)]
struct Stored {
    threads: usize,
    #[serde(serialize_with = "write_packing", deserialize_with = "read_packing")]
    packing: Packing,
    chunk: usize,
    direct_tokens: usize,
    panel_token_tiles: usize,
    task_bytes: usize,
}

fn write_packing<S: Serializer>(packing: &Packing, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(packing)
}

fn read_packing<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Packing, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
}

impl From<Values> for Stored {
    fn from(values: Values) -> Self {
        Self {
            threads: values.threads,
            packing: values.packing,
            chunk: values.chunk,
            direct_tokens: values.tiling.direct_tokens(),
            panel_token_tiles: values.tiling.panel_token_tiles(),
            task_bytes: values.tiling.task_bytes(),
        }
    }
}

impl From<Stored> for Values {
    /// Whatever stood there, each value is possible afterwards.
    fn from(stored: Stored) -> Self {
        Self {
            threads: stored.threads.clamp(1, hardware_threads()),
            packing: stored.packing,
            chunk: stored.chunk.clamp(MIN_CHUNK, MAX_CHUNK),
            tiling: Tiling::new(stored.direct_tokens, stored.panel_token_tiles, stored.task_bytes),
        }
    }
}

/// What a tuning holds for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// As the CPU states it.
    pub cpu: Option<String>,
    /// The instruction set of the kernels.
    pub isa: String,
    /// Threads that the process may use.
    pub hardware_threads: usize,
}

impl Machine {
    /// This one, computing with `isa`.
    pub fn this(isa: Isa) -> Self {
        Self { cpu: cpu_name(), isa: isa.name().to_owned(), hardware_threads: hardware_threads() }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cpu = self.cpu.as_deref().unwrap_or("a CPU without a name");
        write!(f, "{cpu}, {}, {} hardware threads", self.isa, self.hardware_threads)
    }
}

fn hardware_threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The file's content.
#[derive(Serialize, Deserialize)]
struct Content {
    version: u32,
    #[serde(flatten)]
    machine: Machine,
    #[serde(flatten)]
    values: Values,
}

/// Where values come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// There is no file, or the user asked for another instruction set than the file's.
    Defaults,
    /// The file.
    File,
    /// The defaults, as the file does not apply: one line with the file, the reason and the mend.
    Ignored(String),
}

/// What suits this machine.
#[derive(Clone, Debug)]
pub struct Tuning {
    /// What applies.
    pub values: Values,
    /// Why.
    pub origin: Origin,
}

impl Tuning {
    /// The tuning of this machine for `isa`, which the user has `asked` for or not.
    pub fn read(isa: Isa, asked: bool) -> Self {
        let defaults = |origin| Self { values: Values::of(isa), origin };
        let Some(file) = file() else { return defaults(Origin::Defaults) };
        let content = match content(&file) {
            Ok(Some(content)) => content,
            Ok(None) => return defaults(Origin::Defaults),
            Err(found) => return defaults(ignored(&file, &found)),
        };
        let this = Machine::this(isa);
        if content.machine == this {
            return Self { values: content.values, origin: Origin::File };
        }
        // Whoever tries an instruction set knows that nothing was tuned for it.
        if asked && content.machine.isa != this.isa {
            return defaults(Origin::Defaults);
        }
        defaults(ignored(&file, &format!("tuned for {}, but this is {this}", content.machine)))
    }

    /// Keeps `values` for this machine and `isa` in `file`, which is whole at any time.
    ///
    /// # Errors
    /// What the system said about which file.
    pub fn write(values: Values, isa: Isa, file: &Path) -> anyhow::Result<()> {
        let content = Content { version: VERSION, machine: Machine::this(isa), values };
        let text = serde_json::to_string_pretty(&content)? + "\n";
        let write = || -> io::Result<()> {
            let folder = file.parent().unwrap_or(Path::new("."));
            fs::create_dir_all(folder)?;
            let mut aside = tempfile::NamedTempFile::new_in(folder)?;
            aside.write_all(text.as_bytes())?;
            aside.persist(file)?;
            Ok(())
        };
        write().map_err(|error| {
            anyhow::anyhow!("{}: {error}; name another folder with CHALOT_CACHE", file.display())
        })
    }
}

/// Where the tuning is kept; `None` where there is no cache folder.
pub fn file() -> Option<PathBuf> {
    cache_folder().map(|folder| folder.join("tuning.json"))
}

fn ignored(file: &Path, found: &str) -> Origin {
    Origin::Ignored(format!("{}: {found}; ignored ('chalot tune' makes it anew)", file.display()))
}

/// What the file says, `None` when there is none, or what is wrong with it.
fn content(file: &Path) -> Result<Option<Content>, String> {
    let mut bytes = Vec::new();
    match File::open(file).and_then(|file| file.take(MAX_BYTES).read_to_end(&mut bytes)) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    }
    let content: Content =
        serde_json::from_slice(&bytes).map_err(|error| format!("is no tuning ({error})"))?;
    match content.version {
        VERSION => Ok(Some(content)),
        other => Err(format!("version {other}, but this program knows {VERSION}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_survive_and_impossible_ones_become_possible() {
        let values =
            Values { threads: 1, packing: Packing::Trit5, chunk: 128, tiling: Tiling::new(16, 8, 12288) };
        let text = serde_json::to_string(&values).unwrap();
        assert_eq!(serde_json::from_str::<Values>(&text).unwrap(), values);
        let text = r#"{"threads":0,"packing":"trit2","chunk":0,"direct_tokens":0,"panel_token_tiles":999,"task_bytes":0}"#;
        let values: Values = serde_json::from_str(text).unwrap();
        assert_eq!((values.threads, values.chunk, values.tiling), (1, MIN_CHUNK, Tiling::new(12, 48, 1024)));
        for broken in [text.replace("trit2", "trit9"), text.replace("999", "-1"), text.replace("999", "1.5")]
        {
            assert!(serde_json::from_str::<Values>(&broken).is_err(), "{broken}");
        }
    }
}
