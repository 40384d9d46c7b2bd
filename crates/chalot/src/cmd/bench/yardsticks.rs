//! What the machine can do, measured beside the work.
use chalot::{
    simd::AlignedVec,
    tensor::{Exec, yardstick},
};

/// Much more than the caches hold.
const MEMORY: usize = 256 << 20;
/// Tasks of a sample of the peak for each thread: some 15 milliseconds.
const PEAK_TASKS: usize = 1000;

/// Samples of the read bandwidth.
pub struct Bandwidth {
    memory: AlignedVec<u8>,
    samples: Vec<f64>,
}

impl Bandwidth {
    pub fn new() -> Self {
        let mut memory = AlignedVec::zeroed(MEMORY);
        // Untouched pages are all one page, which the cache holds.
        memory.fill(1);
        Self { memory, samples: Vec::new() }
    }

    /// Takes a sample.
    pub fn sample(&mut self, exec: &Exec) {
        self.samples.push(yardstick::read_bandwidth(exec, &self.memory));
    }

    /// Bytes per second.
    pub fn median(self) -> f64 {
        super::median(self.samples)
    }
}

/// Samples of the peak of 8-bit products.
#[derive(Default)]
pub struct Peak {
    samples: Vec<f64>,
}

impl Peak {
    /// Takes a sample, where there are vector kernels.
    pub fn sample(&mut self, exec: &Exec) {
        self.samples.extend(yardstick::dot_peak(exec, PEAK_TASKS * exec.pool.threads()));
    }

    /// Multiply-adds per second; `None` without vector kernels.
    pub fn median(self) -> Option<f64> {
        (!self.samples.is_empty()).then(|| super::median(self.samples))
    }
}
