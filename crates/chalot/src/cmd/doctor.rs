//! `chalot doctor`: what this machine offers and what is made of it.
use std::{
    io::{self, Write},
    path::PathBuf,
};

use chalot::simd::{Isa, IsaKind, cpu_features, cpu_name};
use serde::Serialize;
use sysinfo::System;

use super::{bytes, print_json};
use crate::{
    args::Doctor,
    settings::{Settings, default_threads, physical_cores},
    tuning::{self, Origin, Tuning, Values},
};

/// What `--json` prints; the text says the same.
#[derive(Serialize)]
struct Report {
    version: &'static str,
    os: String,
    arch: &'static str,
    cpu: Option<String>,
    features: Vec<&'static str>,
    instruction_sets: Vec<&'static str>,
    isa: &'static str,
    kernels: Kernels,
    cores: Option<usize>,
    hardware_threads: usize,
    threads: usize,
    #[serde(flatten)]
    memory: Option<Memory>,
    page_bytes: usize,
    cache_folder: Option<PathBuf>,
    tuning: InForce,
}

/// The tuning that applies, and why.
#[derive(Serialize)]
struct InForce {
    file: Option<PathBuf>,
    /// "tuned", "defaults" or "ignored" (a file that does not apply: defaults again).
    state: &'static str,
    ignored_because: Option<String>,
    #[serde(flatten)]
    values: Values,
}

impl InForce {
    fn of(tuning: &Tuning) -> Self {
        let (state, ignored_because) = match &tuning.origin {
            Origin::Defaults => ("defaults", None),
            Origin::File => ("tuned", None),
            Origin::Ignored(why) => ("ignored", Some(why.clone())),
        };
        Self { file: tuning::file(), state, ignored_because, values: tuning.values }
    }

    fn line(&self) -> String {
        let why = match (&self.ignored_because, &self.file) {
            (Some(why), _) => why.clone(),
            (None, Some(file)) if self.state == "tuned" => file.display().to_string(),
            _ => "defaults; 'chalot tune' measures this machine".into(),
        };
        format!("{} ({why})", self.values)
    }
}

/// What this process may use: in a container less than the machine has.
#[derive(Serialize)]
struct Memory {
    #[serde(rename = "memory_bytes")]
    total: u64,
    #[serde(rename = "memory_available_bytes")]
    available: u64,
}

impl Memory {
    /// `None` where the system does not tell.
    fn of_this_process() -> Option<Self> {
        let mut system = System::new().ok()?;
        system.refresh_memory();
        let machine = Self { total: system.total_memory(), available: system.available_memory() };
        Some(match system.cgroup_limits() {
            Some(limits) => Self {
                total: limits.total_memory.min(machine.total),
                available: limits.free_memory.min(machine.available),
            },
            None => machine,
        })
    }
}

/// Memory that this process may use, and how much of it is free, in bytes.
pub fn memory() -> Option<(u64, u64)> {
    Memory::of_this_process().map(|memory| (memory.total, memory.available))
}

/// Which instructions the kernels of the chosen set use.
#[derive(Serialize)]
struct Kernels {
    integer_products: &'static str,
    float_operations: &'static str,
}

impl Kernels {
    fn of(kind: IsaKind) -> Self {
        let (integer_products, float_operations) = match kind {
            IsaKind::Avx2 => ("vpmaddubsw, 256 bits", "AVX2 and FMA, 256 bits"),
            IsaKind::AvxVnni => ("vpdpbusd, 256 bits", "AVX2 and FMA, 256 bits"),
            IsaKind::Avx512 | IsaKind::Avx512Vbmi => ("vpdpbusd, 512 bits", "AVX-512, 512 bits"),
            IsaKind::Amx => ("vpdpbusd, 512 bits; tdpbssd, tiles of 1024 bytes", "AVX-512, 512 bits"),
            IsaKind::Neon => ("smull and sadalp, 128 bits", "NEON, 128 bits"),
            IsaKind::NeonDot => ("sdot, 128 bits", "NEON, 128 bits"),
            _ => ("portable code", "portable code"),
        };
        Self { integer_products, float_operations }
    }
}

/// Prints the report.
pub fn doctor(args: Doctor, settings: &Settings) -> anyhow::Result<()> {
    let report = Report::new(settings);
    if args.json { print_json(&report) } else { report.print(settings) }
}

impl Report {
    fn new(settings: &Settings) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION"),
            os: System::long_os_version().unwrap_or_else(|_| std::env::consts::OS.to_owned()),
            arch: std::env::consts::ARCH,
            cpu: cpu_name(),
            features: cpu_features(),
            instruction_sets: Isa::available().iter().map(|isa| isa.name()).collect(),
            isa: settings.isa.name(),
            kernels: Kernels::of(settings.isa.kind()),
            cores: physical_cores(),
            hardware_threads: std::thread::available_parallelism().map_or(1, usize::from),
            threads: settings.threads,
            memory: Memory::of_this_process(),
            page_bytes: page_size::get(),
            cache_folder: cache_folder(),
            tuning: InForce::of(&settings.tuning),
        }
    }

    fn print(&self, settings: &Settings) -> anyhow::Result<()> {
        let mut out = io::stdout().lock();
        let mut line = |name: &str, value: String| {
            writeln!(out, "{} {value}", settings.console.bold(&format!("{name:<18}")))
        };
        let plain = if self.isa == Isa::best().name() { "the best here" } else { "as asked" };
        let threads = match self.threads {
            threads if threads == default_threads() => "one for each core",
            threads if threads == self.tuning.values.threads => "as tuned",
            _ => "as asked",
        };
        line("chalot", self.version.to_owned())?;
        line("system", format!("{}, {}", self.os, self.arch))?;
        line("CPU", self.cpu.clone().unwrap_or_else(|| "does not tell its name".into()))?;
        line("instructions", self.features.join(" "))?;
        line("instruction sets", self.instruction_sets.join(" "))?;
        line("kernels", format!("{} ({plain})", self.isa))?;
        line("  ternary, int8/4", self.kernels.integer_products.to_owned())?;
        line("  floats", self.kernels.float_operations.to_owned())?;
        let cores = self.cores.map_or_else(|| "unknown".into(), |cores| cores.to_string());
        line("cores", format!("{cores}, {} hardware threads for this process", self.hardware_threads))?;
        line("threads", format!("{} ({threads})", self.threads))?;
        let memory = self.memory.as_ref();
        let memory =
            memory.map(|memory| format!("{}, {} available", bytes(memory.total), bytes(memory.available)));
        line("memory", memory.unwrap_or_else(|| "unknown".into()))?;
        line("page", bytes(self.page_bytes as u64))?;
        let folder = self.cache_folder.as_ref().map_or("none".into(), |folder| folder.display().to_string());
        line("cache folder", folder)?;
        line("tuning", self.tuning.line())?;
        Ok(())
    }
}

/// The folder for what may be lost: `CHALOT_CACHE`, or `chalot` in the place where the system wants caches.
pub fn cache_folder() -> Option<PathBuf> {
    let var = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(folder) = var("CHALOT_CACHE") {
        return Some(folder);
    }
    let base = if cfg!(windows) {
        var("LOCALAPPDATA")
    } else if cfg!(target_os = "macos") {
        var("HOME").map(|home| home.join("Library/Caches"))
    } else {
        var("XDG_CACHE_HOME").or_else(|| var("HOME").map(|home| home.join(".cache")))
    };
    base.map(|base| base.join("chalot"))
}
