//! What reading ahead did, for people and for programs.
use chalot::{
    PrefetchStats, TextModel,
    model::prefetch::{major_faults, resident_bytes},
};
use serde::Serialize;

use super::bytes;

/// What `--json` prints of it.
#[derive(Serialize)]
pub struct Prefetched {
    #[serde(flatten)]
    stats: PrefetchStats,
    /// Share of the needs of what was not in memory that were read in time.
    in_time_share: f64,
    /// Page faults of the process that waited for a disk, where the system tells.
    major_faults: Option<u64>,
    /// Bytes of the process in memory now, where the system tells.
    resident_bytes: Option<u64>,
    budget_bytes: Option<u64>,
}

impl Prefetched {
    /// `None` for a model whose weights are left to the system.
    pub fn of(model: &TextModel) -> Option<Self> {
        let prefetcher = model.prefetcher()?;
        let stats = prefetcher.stats();
        Some(Self {
            stats,
            in_time_share: stats.in_time_share(),
            major_faults: major_faults(),
            resident_bytes: resident_bytes(),
            budget_bytes: prefetcher.options().budget,
        })
    }
}

/// The same for people: "; experts: ..."; nothing for a model whose weights are left to the system.
pub fn figures(model: &TextModel) -> String {
    let Some(Prefetched { stats, in_time_share, major_faults, resident_bytes, .. }) = Prefetched::of(model)
    else {
        return String::new();
    };
    let or_unknown = |number: Option<String>| number.unwrap_or_else(|| "unknown".into());
    format!(
        "; experts: {} there, {} read in time ({:.0}% of what was absent), {} late, {} not foretold; {:.0}% of what was \
         foretold was needed; {} read ahead, {} of it used, {} read on demand, {} released; {:.2} s of waiting; \
         {} major faults; resident: {}",
        stats.hits,
        stats.in_time,
        100.0 * in_time_share,
        stats.late,
        stats.misses,
        100.0 * stats.right_share(),
        bytes(stats.bytes_prefetched),
        bytes(stats.bytes_used),
        bytes(stats.bytes_demanded),
        bytes(stats.bytes_released),
        stats.stall.as_secs_f64(),
        or_unknown(major_faults.map(|count| count.to_string())),
        or_unknown(resident_bytes.map(bytes)),
    )
}
