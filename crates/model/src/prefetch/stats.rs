//! What prefetching did.
use std::time::Duration;

use serde::Serialize;

/// Counters of a [`Prefetcher`](super::Prefetcher), since it was made. A *need* is a layer that needs an expert (or a dense
/// layer its network) in a pass; each is one of `hits`, `in_time`, `late` and `misses`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PrefetchStats {
    /// Needs of what was in memory since an earlier use.
    pub hits: u64,
    /// Needs of what was read ahead, and was there.
    pub in_time: u64,
    /// Needs of what was foretold but not there yet.
    pub late: u64,
    /// Needs of what nobody had foretold.
    pub misses: u64,
    /// Foretold networks that were needed.
    pub predicted_right: u64,
    /// Foretold networks that were not needed.
    pub predicted_wrong: u64,
    /// Bytes read ahead of use.
    pub bytes_prefetched: u64,
    /// Those of them that were used before they went.
    pub bytes_used: u64,
    /// Bytes read when they were needed.
    pub bytes_demanded: u64,
    /// Bytes that were released.
    pub bytes_released: u64,
    /// Time for which computation waited for reads.
    #[serde(rename = "stall_seconds", serialize_with = "seconds")]
    pub stall: Duration,
}

fn seconds<S: serde::Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64())
}

impl PrefetchStats {
    /// Of the needs of what was not in memory already, the share that was read in time. 1 when there were none.
    pub fn in_time_share(&self) -> f64 {
        let absent = self.in_time + self.late + self.misses;
        if absent == 0 { 1.0 } else { self.in_time as f64 / absent as f64 }
    }

    /// Of the foretold networks, the share that was needed. 1 when there were none.
    pub fn right_share(&self) -> f64 {
        let predicted = self.predicted_right + self.predicted_wrong;
        if predicted == 0 { 1.0 } else { self.predicted_right as f64 / predicted as f64 }
    }

    /// What was counted since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            hits: self.hits - earlier.hits,
            in_time: self.in_time - earlier.in_time,
            late: self.late - earlier.late,
            misses: self.misses - earlier.misses,
            predicted_right: self.predicted_right - earlier.predicted_right,
            predicted_wrong: self.predicted_wrong - earlier.predicted_wrong,
            bytes_prefetched: self.bytes_prefetched - earlier.bytes_prefetched,
            bytes_used: self.bytes_used - earlier.bytes_used,
            bytes_demanded: self.bytes_demanded - earlier.bytes_demanded,
            bytes_released: self.bytes_released - earlier.bytes_released,
            stall: self.stall - earlier.stall,
        }
    }
}
