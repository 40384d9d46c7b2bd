//! One persistent pool of threads for operations that last microseconds.
//!
//! # How it works
//! [`Pool::run`] publishes a job, works on it itself, closes it, and waits for the workers that joined.
//! One atomic word, the *gate*, holds the job's number, whether it may be joined, and how many workers are
//! inside:
//!
//! ```text
//! gate = number << 32 | open << 31 | workers inside
//! ```
//!
//! A worker joins by incrementing the gate while it is open, claims tasks (those of a part of its own first, then what
//! is left of the others' parts), and leaves by decrementing it. The caller closes the gate when no task is left to
//! claim, and returns when nobody is inside. A worker that wakes too late finds the gate closed and was never waited
//! for: a thread that the system keeps from running delays nobody.
//!
//! Workers spin for a moment after a job (the next operation usually follows at once), then park; while somebody holds
//! [`Pool::stay_awake`] (a forward pass), they spin for much longer, so that a pass wakes a thread at most once. While they spin
//! they read ahead what [`Pool::read_ahead`] says. No path takes a lock or allocates, except to carry a panic's payload.
//!
//! A pool that is busy (a task calls `run` again, or another thread is in `run`) runs the newcomer's tasks on
//! the newcomer's own thread: no waiting, so no deadlock, and the results are the same.
//!
//! `tools/loom` checks the protocol: every order of events of small cases, in the memory model of the language.

use std::{
    any::Any,
    fmt,
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{Arc, PoisonError, atomic::Ordering},
};

use crate::ahead::{Ahead, Reader};
use crate::sync::{
    AtomicBool, AtomicU64, AtomicUsize, Mutex, UnsafeCell, cores, fence, hint, spins,
    thread::{self, JoinHandle, Thread},
};

/// How often a worker looks for the next job before it parks (some 50 microseconds; waking costs about as much).
const SPINS: u32 = spins(4000);
/// The same while a pass is under way: some milliseconds, more than any part of it that one thread computes alone. It ends
/// all the same, so that a caller who waits for a disk does not heat a core.
const AWAKE_SPINS: u32 = spins(64 * SPINS);
/// How often the caller looks whether the last workers have left before it lets other threads run.
const JOIN_SPINS: u32 = spins(2000);
/// More threads than any machine this decade has; a limit so that a mistyped number cannot exhaust the system.
const MAX_THREADS: usize = 1024;

const OPEN: u64 = 1 << 31;
const INSIDE: u64 = OPEN - 1;
const NUMBER_STEP: u64 = 1 << 32;

type Payload = Box<dyn Any + Send>;

/// A task function borrowed from a caller of [`Pool::run`], its lifetime erased.
#[derive(Copy, Clone)]
struct Job {
    f: *const (dyn Fn(usize) + Sync + 'static),
    tasks: usize,
}

/// A value alone on its cache lines (two: the hardware prefetches them in pairs).
#[repr(align(128))]
struct Padded<T>(T);

struct Shared {
    gate: Padded<AtomicU64>,
    /// One counter a thread, the caller first: tasks that have been claimed of its part.
    claimed: Vec<Padded<AtomicUsize>>,
    /// Written by the one caller that holds `busy` while the gate is closed and nobody is inside;
    /// read by workers that are inside.
    job: UnsafeCell<Option<Job>>,
    busy: Padded<AtomicBool>,
    shutdown: AtomicBool,
    /// One flag a worker: it is parked, or about to park.
    parked: Vec<Padded<AtomicBool>>,
    panic: Mutex<Option<Payload>>,
    /// Whether `panic` holds one; so that no one else takes the lock.
    panicked: AtomicBool,
    /// How many hold [`Awake`].
    awake: AtomicUsize,
    /// Whether workers spin at all.
    spinning: bool,
    /// One a worker: what it reads while it spins.
    ahead: Vec<Padded<Ahead>>,
}

// SAFETY: `job` is written only while nobody can read it (see the field), and what it points to is `Sync`.
unsafe impl Sync for Shared {}
// SAFETY: as above; the pointer in `job` is only followed while its caller waits in `run`.
unsafe impl Send for Shared {}

/// Persistent threads that share the tasks of one operation at a time.
///
/// ```
/// use std::sync::atomic::{AtomicUsize, Ordering};
/// use chalot_tensor::pool::Pool;
///
/// let pool = Pool::new(2);
/// let sum = AtomicUsize::new(0);
/// pool.run(100, &|task| {
///     sum.fetch_add(task, Ordering::Relaxed);
/// });
/// assert_eq!(sum.into_inner(), 4950);
/// ```
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    wakers: Vec<Thread>,
}

impl Pool {
    /// A pool of `threads` threads, the caller of [`Pool::run`] included: `threads - 1` are started now.
    ///
    /// At least one and at most 1024; fewer when the system refuses more ([`Pool::threads`] tells).
    pub fn new(threads: usize) -> Self {
        let workers = threads.clamp(1, MAX_THREADS) - 1;
        let shared = Arc::new(Shared {
            gate: Padded(AtomicU64::new(0)),
            claimed: (0..=workers).map(|_| Padded(AtomicUsize::new(0))).collect(),
            job: UnsafeCell::new(None),
            busy: Padded(AtomicBool::new(false)),
            shutdown: AtomicBool::new(false),
            parked: (0..workers).map(|_| Padded(AtomicBool::new(false))).collect(),
            panic: Mutex::new(None),
            panicked: AtomicBool::new(false),
            awake: AtomicUsize::new(0),
            // Spinning pays only on a core that nobody else needs.
            spinning: workers < cores(),
            ahead: (0..workers).map(|_| Padded(Ahead::default())).collect(),
        });
        let mut handles = Vec::with_capacity(workers);
        for index in 0..workers {
            let shared = Arc::clone(&shared);
            let thread = thread::Builder::new().name(format!("chalot-{}", index + 1));
            match thread.spawn(move || shared.work(index)) {
                Ok(handle) => handles.push(handle),
                Err(_) => break,
            }
        }
        let wakers = handles.iter().map(|handle| handle.thread().clone()).collect();
        Self { shared, workers: handles, wakers }
    }

    /// Threads that share the work, the caller included.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Runs `f(0)`, `f(1)`, ..., `f(tasks - 1)`, each once, in no particular order and on any of the threads
    /// (the caller is one of them); returns when all are done.
    ///
    /// With one task, one thread, or while the pool is busy with another `run` (an outer one included), all
    /// tasks run on the calling thread.
    ///
    /// # Panics
    /// When a task panics: the other tasks are still run, then the panic (of one of them, if several) continues
    /// here.
    pub fn run(&self, tasks: usize, f: &(dyn Fn(usize) + Sync)) {
        let alone = tasks <= 1 || self.workers.is_empty();
        let busy = &self.shared.busy.0;
        if alone || busy.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_err() {
            let mut payload = None;
            for task in 0..tasks {
                run_task(f, task, |p| {
                    payload.get_or_insert(p);
                });
            }
            if let Some(payload) = payload {
                resume_unwind(payload);
            }
            return;
        }
        self.open(tasks, f);
        self.wake((tasks - 1).min(self.workers.len()));
        self.shared.claim_tasks(0, f, tasks);
        self.close();
        // Ordered by the gate, which every worker has left.
        let payload = match self.shared.panicked.swap(false, Ordering::Relaxed) {
            true => self.shared.panic.lock().unwrap_or_else(PoisonError::into_inner).take(),
            false => None,
        };
        busy.store(false, Ordering::Release);
        if let Some(payload) = payload {
            resume_unwind(payload);
        }
    }

    /// Until the guard is dropped, workers that have worked wait for the next operation without parking (for some
    /// milliseconds): for a run of operations with work of one thread between them, as a forward pass is.
    pub fn stay_awake(&self) -> Awake<'_> {
        self.shared.awake.fetch_add(1, Ordering::Relaxed);
        Awake(&self.shared)
    }

    /// Has the workers that wait for a job ask for memory that they will need, once the next operation with more than one task
    /// is done: part `p` of the threads (the caller is part 0) from `from(p)` on, one or two places, or null. Advice: the addresses
    /// need not exist; a job ends it, and what was said before is forgotten.
    pub fn read_ahead(&self, from: impl Fn(usize) -> [*const u8; 2]) {
        let next = self.shared.gate.0.load(Ordering::Relaxed) / NUMBER_STEP + 1;
        for (worker, ahead) in self.shared.ahead.iter().enumerate().take(self.workers.len()) {
            ahead.0.set(next, from(worker + 1));
        }
    }

    fn open(&self, tasks: usize, f: &(dyn Fn(usize) + Sync)) {
        let shared = &*self.shared;
        let f: *const (dyn Fn(usize) + Sync + '_) = f;
        // SAFETY: only the lifetime changes; `close` makes sure that no worker uses it after `run` returns.
        let f = unsafe {
            std::mem::transmute::<*const (dyn Fn(usize) + Sync + '_), *const (dyn Fn(usize) + Sync + 'static)>(
                f,
            )
        };
        // SAFETY: this thread holds `busy`, the gate is closed and nobody is inside: no one else looks at `job`.
        shared.job.with_mut(|job| unsafe { *job = Some(Job { f, tasks }) });
        shared.claimed.iter().for_each(|claimed| claimed.0.store(0, Ordering::Relaxed));
        let number = shared.gate.0.load(Ordering::Relaxed) & !(OPEN | INSIDE);
        // Release: who joins sees the job and the counter.
        shared.gate.0.store(number.wrapping_add(NUMBER_STEP) | OPEN, Ordering::Release);
    }

    /// Wakes up to `count` parked workers.
    fn wake(&self, count: usize) {
        // Pairs with the fence in `Shared::park`: either this thread sees the flag, or the worker sees the gate.
        fence(Ordering::SeqCst);
        let parked = self.shared.parked.iter().zip(&self.wakers);
        parked
            .filter(|(flag, _)| flag.0.load(Ordering::Relaxed) && flag.0.swap(false, Ordering::Relaxed))
            .take(count)
            .for_each(|(_, thread)| thread.unpark());
    }

    /// Lets nobody in any more and waits until everybody has left.
    fn close(&self) {
        let gate = &self.shared.gate.0;
        gate.fetch_and(!OPEN, Ordering::Relaxed);
        let mut spins = 0;
        // Acquire: what the workers wrote is visible to the caller.
        while gate.load(Ordering::Acquire) & INSIDE != 0 {
            if spins < JOIN_SPINS && self.shared.spinning {
                spins += 1;
                hint::spin_loop();
            } else {
                thread::yield_now();
            }
        }
    }
}

/// See [`Pool::stay_awake`].
#[must_use = "workers park again when it is dropped"]
pub struct Awake<'a>(&'a Shared);

impl Drop for Awake<'_> {
    fn drop(&mut self) {
        self.0.awake.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.shutdown.store(true, Ordering::Release);
        fence(Ordering::SeqCst); // as in `wake`
        self.wakers.iter().for_each(Thread::unpark);
        for worker in self.workers.drain(..) {
            // Tasks' panics are caught, so a worker never ends with one.
            let _ = worker.join();
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("threads", &self.threads()).finish()
    }
}

impl Shared {
    /// The life of worker `index`.
    fn work(&self, index: usize) {
        let mut last = 0;
        let mut spins = 0;
        let mut reader = Reader::default();
        while !self.shutdown.load(Ordering::Acquire) {
            if let Some(number) = self.join(index, last) {
                last = number;
                spins = 0;
            } else if spins < self.patience() {
                spins += 1;
                if !reader.step(&self.ahead[index].0, last) {
                    hint::spin_loop();
                }
            } else {
                self.park(index, last);
                spins = 0;
            }
        }
    }

    /// How often to look for a job before parking.
    fn patience(&self) -> u32 {
        match (self.spinning, self.awake.load(Ordering::Relaxed)) {
            (false, _) => 0,
            (true, 0) => SPINS,
            (true, _) => AWAKE_SPINS,
        }
    }

    /// Joins the open job, if there is one after job number `last`, works on it and leaves; its number.
    fn join(&self, index: usize, last: u64) -> Option<u64> {
        let mut gate = self.gate.0.load(Ordering::Relaxed);
        loop {
            let number = gate / NUMBER_STEP;
            if gate & OPEN == 0 || number == last {
                return None;
            }
            // Acquire: pairs with the release in `open`.
            match self.gate.0.compare_exchange_weak(gate, gate + 1, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => {
                    // SAFETY: inside the gate; the caller writes `job` only when nobody is.
                    if let Some(job) = self.job.with(|job| unsafe { *job }) {
                        // SAFETY: the caller stays in `run`, where it borrows `f`, until everybody has left.
                        self.claim_tasks(index + 1, unsafe { &*job.f }, job.tasks);
                    }
                    // Release: pairs with the acquire in `close`.
                    self.gate.0.fetch_sub(1, Ordering::Release);
                    return Some(number);
                }
                Err(now) => gate = now,
            }
        }
    }

    /// Runs the tasks of `thread`'s part, then what is left of the others'.
    fn claim_tasks(&self, thread: usize, f: &(dyn Fn(usize) + Sync), tasks: usize) {
        let threads = self.claimed.len();
        for part in (thread..threads).chain(0..thread) {
            let Range { start, end } = part_of(tasks, part, threads);
            let claimed = &self.claimed[part].0;
            // Looked at first: parts of others are mostly done, and a look leaves them their line of memory.
            while claimed.load(Ordering::Relaxed) < end - start {
                let task = start + claimed.fetch_add(1, Ordering::Relaxed);
                if task >= end {
                    break;
                }
                run_task(f, task, |payload| {
                    self.panic.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(payload);
                    self.panicked.store(true, Ordering::Relaxed);
                });
            }
        }
    }

    fn park(&self, index: usize, last: u64) {
        let flag = &self.parked[index].0;
        flag.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst); // pairs with the fence in `Pool::wake`
        let gate = self.gate.0.load(Ordering::Relaxed);
        let news = gate & OPEN != 0 && gate / NUMBER_STEP != last;
        if !news && !self.shutdown.load(Ordering::Relaxed) {
            // May return early; the caller of `park` looks again.
            thread::park();
        }
        flag.store(false, Ordering::Relaxed);
    }
}

/// The tasks that thread `part` of `threads` begins with: neighbours, so that what it reads for one leads to the next.
pub(crate) fn part_of(tasks: usize, part: usize, threads: usize) -> Range<usize> {
    tasks * part / threads..tasks * (part + 1) / threads
}

fn run_task(f: &(dyn Fn(usize) + Sync), task: usize, keep: impl FnOnce(Payload)) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| f(task))) {
        keep(payload);
    }
}

#[cfg(test)]
mod tests;
