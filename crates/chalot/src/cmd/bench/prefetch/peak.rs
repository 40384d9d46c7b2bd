//! The most memory that this process has, watched from beside.
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use chalot::model::prefetch::resident_bytes;

const INTERVAL: Duration = Duration::from_millis(2);

/// A thread that looks every few milliseconds.
pub struct PeakMemory {
    most: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl PeakMemory {
    pub fn watch() -> Self {
        let (most, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let thread = thread::spawn({
            let (most, stop) = (most.clone(), stop.clone());
            move || {
                while !stop.load(Ordering::Relaxed) {
                    most.fetch_max(resident_bytes().unwrap_or(0), Ordering::Relaxed);
                    thread::sleep(INTERVAL);
                }
            }
        });
        Self { most, stop, thread }
    }

    /// Forgets what was seen before.
    pub fn begin(&self) {
        self.most.store(0, Ordering::Relaxed);
    }

    /// The most since then.
    pub fn end(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        // The thread only looks at numbers.
        let _ = self.thread.join();
        self.most.load(Ordering::Relaxed)
    }
}
