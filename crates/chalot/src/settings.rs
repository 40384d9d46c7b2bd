//! The global options, checked against this machine.
use chalot_simd::Isa;
use chalot_tensor::exec::Exec;

use crate::{
    args::Global,
    console::Console,
    failure::Usage,
    tuning::{Origin, Tuning},
};

/// Where and how to compute, and how to talk about it.
#[derive(Debug)]
pub struct Settings {
    /// The instruction set; this CPU has it.
    pub isa: Isa,
    /// Threads to compute with.
    pub threads: usize,
    /// What suits this machine.
    pub tuning: Tuning,
    /// The terminal.
    pub console: Console,
}

impl Settings {
    /// Checks what was typed.
    ///
    /// # Errors
    /// [`Usage`] when this CPU lacks the instruction set.
    pub fn resolve(global: &Global) -> Result<Self, Usage> {
        let isa = match global.isa {
            None => Isa::best(),
            Some(kind) => Isa::of(kind).ok_or_else(|| {
                let available: Vec<_> = Isa::available().iter().map(|isa| isa.name()).collect();
                Usage(format!("--isa {kind}: this CPU lacks it; it has {}", available.join(", ")))
            })?,
        };
        let tuning = Tuning::read(isa, global.isa.is_some());
        let threads = global.threads.unwrap_or(tuning.values.threads);
        Ok(Self { isa, threads, tuning, console: Console::new(global.quiet, global.no_color) })
    }

    /// The threads, started. Says when there is a tuning that does not apply.
    pub fn exec(&self) -> Exec {
        if let Origin::Ignored(why) = &self.tuning.origin {
            self.console.note(&format!("note: {why}"));
        }
        Exec::new(self.isa, self.threads).with_tiling(self.tuning.values.tiling)
    }
}

/// One for each core that this process may use. Two threads of one core share the units that the kernels keep busy, so
/// the second adds next to nothing.
pub fn default_threads() -> usize {
    let allowed = std::thread::available_parallelism().map_or(1, usize::from);
    physical_cores().unwrap_or(allowed).clamp(1, allowed)
}

/// Cores of this machine, where the system tells.
pub fn physical_cores() -> Option<usize> {
    sysinfo::System::physical_core_count().ok().filter(|&cores| cores > 0)
}
