//! Which networks are in memory, which come next and which go: the bookkeeping, without threads or memory.
//!
//! A *slot* is what is read and released as one: an expert, or the feed-forward network of a dense layer. Who goes is the one
//! that is expected to be needed last (after Belady 1966, who knew the future): a slot that is used in a share `p` of the
//! passes, estimated with exponentially fading memory (as in LRFU, Lee et al. 2001), is expected after `1 / p - 1` passes and
//! the way from the layer at work to its own. So rare experts go before frequent ones, and in a prompt, which needs all
//! of them, the layers that were just passed go before those that come.
use std::collections::VecDeque;

use super::stats::PrefetchStats;

/// What a use adds to the estimated share of passes, and what is left of it after a pass without one: a memory of some
/// fifty passes.
const LEARNING: f32 = 0.02;
/// A share that no slot is below: what was never used is expected after a hundred passes.
const LEAST_SHARE: f32 = 0.01;

/// Where a slot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    Absent,
    /// In one of the queues.
    Queued,
    Loading,
    Ready,
    /// On its way out.
    Releasing,
    /// On its way out, and asked for again.
    ReleasingQueued,
}

#[derive(Clone, Debug)]
struct Slot {
    layer: usize,
    bytes: u64,
    status: Status,
    /// Used by the layer at work: it may not go.
    wanted: bool,
    /// Foretold for this pass, and its layer has not been computed yet.
    foretold: bool,
    /// Foretold by a guess.
    guessed: bool,
    /// Read ahead of use, and not used since.
    unused: bool,
    /// Estimated share of passes that use it, as of pass `used`.
    share: f32,
    /// The last pass that used it.
    used: u64,
}

/// What a thread that reads and releases is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Load(usize),
    Release(usize),
}

/// What came of asking for a slot that a layer needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Ready,
    /// It is on its way.
    Awaited,
}

pub(super) struct Residency {
    slots: Vec<Slot>,
    /// The first slot of each layer, and the end.
    first: Vec<usize>,
    /// Needed now, oldest first.
    demand: VecDeque<usize>,
    /// Foretold, nearest first.
    ahead: VecDeque<usize>,
    /// Those of `layer` that are wanted or were foretold.
    touched: Vec<usize>,
    /// Bytes that slots take or are about to take.
    resident: u64,
    limit: u64,
    pass: u64,
    layer: usize,
    /// Whether slots that a layer needs are loaded at all; otherwise they come by the computation's own page faults.
    loads: bool,
    pub stats: PrefetchStats,
}

impl Residency {
    /// Slots by layer, each with its bytes; nothing is resident.
    pub fn new(layers: &[Vec<u64>], loads: bool) -> Self {
        let mut slots = Vec::new();
        let mut first = vec![0];
        for (layer, sizes) in layers.iter().enumerate() {
            slots.extend(sizes.iter().map(|&bytes| Slot {
                layer,
                bytes,
                status: Status::Absent,
                wanted: false,
                foretold: false,
                guessed: false,
                unused: false,
                share: 0.0,
                used: 0,
            }));
            first.push(slots.len());
        }
        let count = slots.len();
        Self {
            slots,
            first,
            // A slot may stand in each twice before its older entry is met.
            demand: VecDeque::with_capacity(2 * count),
            ahead: VecDeque::with_capacity(2 * count),
            touched: Vec::with_capacity(count),
            resident: 0,
            limit: u64::MAX,
            pass: 0,
            layer: 0,
            loads,
            stats: PrefetchStats::default(),
        }
    }

    /// The number of a layer's network; `None` when there is none.
    pub fn slot(&self, layer: usize, network: usize) -> Option<usize> {
        let slot = self.first.get(layer)?.checked_add(network)?;
        (slot < *self.first.get(layer + 1)?).then_some(slot)
    }

    /// Bytes that slots take.
    pub fn resident(&self) -> u64 {
        self.resident
    }

    /// A pass begins, in which slots may take `limit` bytes.
    pub fn begin_pass(&mut self, limit: u64) {
        self.pass += 1;
        self.layer = 0;
        self.limit = limit;
    }

    /// Layer `layer` needs the slot, which stays until [`Residency::end_layer`].
    pub fn need(&mut self, slot: usize) -> Found {
        let entry = &mut self.slots[slot];
        self.layer = entry.layer;
        if !entry.wanted {
            entry.wanted = true;
            if !entry.foretold {
                self.touched.push(slot);
            }
            if entry.used != self.pass {
                entry.share = entry.share_at(self.pass) * (1.0 - LEARNING) + LEARNING;
                entry.used = self.pass;
            }
            self.count_need(slot);
        }
        let entry = &mut self.slots[slot];
        match entry.status {
            Status::Ready => return Found::Ready,
            Status::Loading => {}
            Status::Absent if !self.loads => {
                entry.status = Status::Ready;
                self.resident += entry.bytes;
                return Found::Ready;
            }
            Status::Absent => {
                entry.status = Status::Queued;
                self.demand.push_back(slot);
            }
            // It may stand in the wrong queue.
            Status::Queued => self.demand.push_back(slot),
            Status::Releasing => entry.status = Status::ReleasingQueued,
            Status::ReleasingQueued => {}
        }
        Found::Awaited
    }

    fn count_need(&mut self, slot: usize) {
        let (entry, stats) = (&mut self.slots[slot], &mut self.stats);
        stats.predicted_right += u64::from(entry.guessed);
        match (entry.status, entry.unused) {
            (Status::Ready, true) => {
                entry.unused = false;
                stats.in_time += 1;
                stats.bytes_used += entry.bytes;
            }
            (Status::Ready, false) => stats.hits += 1,
            (Status::Queued | Status::Loading | Status::ReleasingQueued, _) if entry.foretold => {
                stats.late += 1;
            }
            _ => stats.misses += 1,
        }
    }

    /// The slot will be needed in this pass, certainly or as a guess; whether a request was made.
    pub fn expect(&mut self, slot: usize, guess: bool) -> bool {
        let entry = &mut self.slots[slot];
        if !entry.foretold && !entry.wanted {
            (entry.foretold, entry.guessed) = (true, guess);
            self.touched.push(slot);
        }
        match entry.status {
            Status::Absent if self.loads => {
                entry.status = Status::Queued;
                self.ahead.push_back(slot);
                true
            }
            _ => false,
        }
    }

    /// The layer has been computed: what it used may go, and what was foretold in vain is no longer asked for.
    pub fn end_layer(&mut self, layer: usize) {
        let Self { slots, touched, stats, .. } = self;
        touched.retain(|&slot| {
            let slot = &mut slots[slot];
            if slot.layer > layer {
                return true;
            }
            stats.predicted_wrong += u64::from(slot.guessed && !slot.wanted);
            // Its entry in the queue is skipped when it is met.
            if slot.status == Status::Queued && !slot.wanted {
                slot.status = Status::Absent;
            }
            (slot.wanted, slot.foretold, slot.guessed) = (false, false, false);
            false
        });
    }

    /// The next thing to do, if there is one. Whoever takes it reports [`Residency::loaded`] or [`Residency::released`].
    pub fn next(&mut self) -> Option<Action> {
        if self.resident > self.limit
            && let Some(victim) = self.victim(0.0)
        {
            return Some(self.evict(victim));
        }
        if let Some(slot) = self.front(true) {
            let over = self.resident + self.slots[slot].bytes > self.limit;
            if over && let Some(victim) = self.victim(0.0) {
                return Some(self.evict(victim));
            }
            self.demand.pop_front();
            return Some(self.load(slot));
        }
        while let Some(slot) = self.front(false) {
            if self.resident + self.slots[slot].bytes > self.limit {
                // Only for the sake of what is needed sooner than the victim.
                let layer = self.slots[slot].layer;
                let way = if layer == self.layer { 0.0 } else { self.way_to(layer) };
                if let Some(victim) = self.victim(way) {
                    return Some(self.evict(victim));
                }
                self.slots[slot].status = Status::Absent;
                self.ahead.pop_front();
                continue;
            }
            self.ahead.pop_front();
            return Some(self.load(slot));
        }
        None
    }

    /// The first slot of a queue that is still waiting there.
    fn front(&mut self, demand: bool) -> Option<usize> {
        let queue = if demand { &mut self.demand } else { &mut self.ahead };
        while let Some(&slot) = queue.front() {
            if self.slots[slot].status == Status::Queued {
                return Some(slot);
            }
            queue.pop_front();
        }
        None
    }

    fn load(&mut self, slot: usize) -> Action {
        let entry = &mut self.slots[slot];
        entry.status = Status::Loading;
        // What is needed now is no longer ahead of its use.
        entry.unused = !entry.wanted;
        self.resident += entry.bytes;
        let bytes =
            if entry.unused { &mut self.stats.bytes_prefetched } else { &mut self.stats.bytes_demanded };
        *bytes += entry.bytes;
        Action::Load(slot)
    }

    fn evict(&mut self, slot: usize) -> Action {
        let entry = &mut self.slots[slot];
        entry.status = Status::Releasing;
        entry.unused = false;
        self.resident -= entry.bytes;
        self.stats.bytes_released += entry.bytes;
        Action::Release(slot)
    }

    /// The slot has been read; whether somebody waits for it.
    pub fn loaded(&mut self, slot: usize) -> bool {
        let entry = &mut self.slots[slot];
        entry.status = Status::Ready;
        if entry.wanted && entry.unused {
            // Foretold, begun ahead, and late.
            entry.unused = false;
            self.stats.bytes_used += entry.bytes;
        }
        entry.wanted
    }

    /// The slot has gone.
    pub fn released(&mut self, slot: usize) {
        let entry = &mut self.slots[slot];
        if entry.status == Status::ReleasingQueued {
            entry.status = Status::Queued;
            self.demand.push_back(slot);
        } else {
            entry.status = Status::Absent;
        }
    }

    /// Whether a slot that is needed is there. If it has gone in the meantime (other engines share the slots), it is asked for
    /// again.
    pub fn is_ready(&mut self, slot: usize) -> bool {
        match self.slots[slot].status {
            Status::Absent => self.need(slot) == Found::Ready,
            status => status == Status::Ready,
        }
    }

    /// Whether there is something to do.
    pub fn has_work(&mut self) -> bool {
        self.front(true).is_some()
            || self.front(false).is_some()
            || (self.resident > self.limit && self.victim(0.0).is_some())
    }

    /// The slot that is expected to be needed last, if that is later than in `after` passes.
    fn victim(&self, after: f32) -> Option<usize> {
        let candidates = self.slots.iter().enumerate();
        let candidates =
            candidates.filter(|(_, slot)| slot.status == Status::Ready && !slot.wanted && !slot.foretold);
        let expected = candidates.map(|(index, slot)| (index, self.expected(slot)));
        expected.filter(|(_, at)| *at > after).max_by(|a, b| a.1.total_cmp(&b.1)).map(|(index, _)| index)
    }

    /// In how many passes the slot is expected to be needed.
    fn expected(&self, slot: &Slot) -> f32 {
        1.0 / slot.share_at(self.pass).max(LEAST_SHARE) - 1.0 + self.way_to(slot.layer)
    }

    /// The way to a layer, as a part of a pass. The layer at work is behind: what it needs is wanted, and does not go.
    fn way_to(&self, layer: usize) -> f32 {
        let layers = self.first.len() - 1;
        let steps = (layer + layers - self.layer - 1) % layers;
        steps as f32 / layers as f32
    }
}

impl Slot {
    fn share_at(&self, pass: u64) -> f32 {
        let passes = i32::try_from(pass.saturating_sub(self.used)).unwrap_or(i32::MAX);
        self.share * (1.0 - LEARNING).powi(passes)
    }
}

#[cfg(test)]
mod tests;
