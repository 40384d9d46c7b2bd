//! The threads that read and release.
use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use super::regions::{Region, Regions};
use super::residency::{Action, Residency};
use crate::mapping::Mapping;

/// Threads that read. Several, because a disk answers several requests at once faster than one after the other.
pub(super) const THREADS: usize = 4;
/// Bytes of what stays resident that are read in one go, so that what is needed now gets its turn.
const PIECE: usize = 2 << 20;

/// What the threads and the computation share.
pub(super) struct Shared {
    pub mapping: Arc<Mapping>,
    regions: Regions,
    /// The region of each slot: its layer and its place there.
    places: Vec<(usize, usize)>,
    state: Mutex<State>,
    /// There is something to do.
    work: Condvar,
    /// Something has been read.
    done: Condvar,
}

/// What one lock guards.
pub(super) struct State {
    pub residency: Residency,
    /// What stays resident and has not been read yet.
    fixed: VecDeque<Range<usize>>,
    /// Pieces of it that are being read.
    reading_fixed: usize,
    stop: bool,
}

/// What a thread does without the lock.
enum Task {
    Slot(Action),
    Fixed(Range<usize>),
}

impl Shared {
    pub fn new(mapping: Arc<Mapping>, regions: Regions, residency: Residency) -> Self {
        let layers = regions.networks.iter().enumerate();
        let places =
            layers.flat_map(|(layer, networks)| (0..networks.len()).map(move |place| (layer, place)));
        Self {
            mapping,
            places: places.collect(),
            regions,
            state: Mutex::new(State { residency, fixed: VecDeque::new(), reading_fixed: 0, stop: false }),
            work: Condvar::new(),
            done: Condvar::new(),
        }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes threads for so many requests.
    pub fn wake(&self, requests: usize) {
        (0..requests.min(THREADS)).for_each(|_| self.work.notify_one());
    }

    /// Waits until something has been read.
    pub fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.done.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to read what stays resident, first layer first.
    pub fn load_fixed(&self) {
        (0..self.regions.attention.len()).for_each(|layer| {
            self.load_attention(layer);
        });
        self.load_region(&self.regions.head);
    }

    /// Begins to read the attention of a layer, its router and shared expert; whether they lie in the file.
    pub fn load_attention(&self, layer: usize) -> bool {
        self.regions.attention.get(layer).is_some_and(|region| self.load_region(region))
    }

    fn load_region(&self, region: &Region) -> bool {
        let pieces = |range: &Range<usize>| {
            let end = range.end;
            range.clone().step_by(PIECE).map(move |start| start..end.min(start + PIECE))
        };
        self.state().fixed.extend(region.iter().flat_map(pieces));
        self.wake(THREADS);
        !region.is_empty()
    }

    /// Waits until what stays resident has been read.
    pub fn wait_for_fixed(&self) {
        let mut state = self.state();
        while !state.fixed.is_empty() || state.reading_fixed > 0 {
            state = self.wait(state);
        }
    }

    /// Ends the threads when they have done what they are at.
    pub fn stop(&self) {
        self.state().stop = true;
        self.work.notify_all();
    }

    /// The life of a thread.
    fn work(&self) {
        let mut state = self.state();
        while !state.stop {
            let Some(task) = state.next() else {
                state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            drop(state);
            match &task {
                Task::Slot(Action::Load(slot)) => self.load(self.region(*slot)),
                Task::Slot(Action::Release(slot)) => {
                    self.region(*slot).iter().for_each(|range| self.mapping.release(range.clone()));
                }
                Task::Fixed(range) => self.load(std::slice::from_ref(range)),
            }
            state = self.state();
            if state.end(&task) {
                self.done.notify_all();
            }
        }
    }

    fn region(&self, slot: usize) -> &Region {
        let (layer, place) = self.places[slot];
        &self.regions.networks[layer][place]
    }

    /// Asks for all of it first, so that the disk has it in one go.
    fn load(&self, ranges: &[Range<usize>]) {
        ranges.iter().for_each(|range| self.mapping.will_need(range.clone()));
        ranges.iter().for_each(|range| self.mapping.populate(range.clone()));
    }
}

impl State {
    /// What is needed now, then what was foretold, then what stays resident.
    fn next(&mut self) -> Option<Task> {
        if let Some(action) = self.residency.next() {
            return Some(Task::Slot(action));
        }
        let range = self.fixed.pop_front()?;
        self.reading_fixed += 1;
        Some(Task::Fixed(range))
    }

    /// A task is done; whether somebody may be waiting for it.
    fn end(&mut self, task: &Task) -> bool {
        match task {
            Task::Slot(Action::Load(slot)) => self.residency.loaded(*slot),
            Task::Slot(Action::Release(slot)) => {
                self.residency.released(*slot);
                false
            }
            Task::Fixed(_) => {
                self.reading_fixed -= 1;
                self.reading_fixed == 0 && self.fixed.is_empty()
            }
        }
    }
}

/// Starts the threads: fewer, if the system refuses some.
///
/// # Errors
/// It refuses all.
pub(super) fn start(shared: &Arc<Shared>) -> io::Result<Vec<JoinHandle<()>>> {
    let mut threads = Vec::new();
    for index in 1..=THREADS {
        let shared = shared.clone();
        match thread::Builder::new().name(format!("chalot-read-{index}")).spawn(move || shared.work()) {
            Ok(thread) => threads.push(thread),
            Err(error) if threads.is_empty() => return Err(error),
            Err(_) => break,
        }
    }
    Ok(threads)
}
