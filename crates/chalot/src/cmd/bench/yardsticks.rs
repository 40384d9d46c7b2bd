//! What the machine can do, measured beside the work.
use chalot::{
    simd::AlignedVec,
    tensor::{Exec, yardstick},
};

/// Much more than the caches hold.
const MEMORY: usize = 256 << 20;
/// Less is over before the threads have met.
const LEAST: usize = 1 << 20;
/// Tasks of a sample of the peak for each thread: some 15 milliseconds.
const PEAK_TASKS: usize = 1000;

/// Samples of the read bandwidth.
pub struct Bandwidth {
    memory: AlignedVec<u8>,
    /// Where the next sample begins.
    next: usize,
    samples: Vec<f64>,
}

impl Bandwidth {
    pub fn new() -> Self {
        let mut memory = AlignedVec::zeroed(MEMORY);
        // Untouched pages are all one page, which the cache holds.
        memory.fill(1);
        Self { memory, next: 0, samples: Vec::new() }
    }

    /// Takes a sample of about as many bytes as the work reads: where others want the cores too, a short piece of work is
    /// often left alone and a long one never, so only equally long ones compare.
    pub fn sample(&mut self, exec: &Exec, bytes: usize) {
        let bytes = bytes.clamp(LEAST, MEMORY);
        let start = if self.next + bytes > MEMORY { 0 } else { self.next };
        self.next = start + bytes;
        self.samples.push(yardstick::read_bandwidth(exec, &self.memory[start..][..bytes]));
    }

    /// Bytes per second.
    pub fn median(self) -> f64 {
        super::median(self.samples)
    }
}

/// Multiply-adds of 8-bit integers per second, one sample; `None` without vector kernels.
pub fn peak(exec: &Exec) -> Option<f64> {
    yardstick::dot_peak(exec, PEAK_TASKS * exec.pool.threads())
}

/// Samples of the peak of 8-bit products.
#[derive(Default)]
pub struct Peak {
    samples: Vec<f64>,
}

impl Peak {
    /// Takes a sample, where there are vector kernels.
    pub fn sample(&mut self, exec: &Exec) {
        self.samples.extend(peak(exec));
    }

    /// Multiply-adds per second; `None` without vector kernels.
    pub fn median(self) -> Option<f64> {
        (!self.samples.is_empty()).then(|| super::median(self.samples))
    }
}
