//! One call of attention: its checks, and its work cut into jobs for the threads.
use std::{
    ops::Range,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::{
    AttentionParams, AttentionScratch, KvBlock, KvType,
    job::{Job, Merge, OneChunk, Whole},
    state::{Size, Workspace},
};
use crate::{
    exec::{Exec, ShapeError},
    math::lanes::dispatch,
    out::SharedOut,
};

/// Positions of a chunk: the unit of online softmax.
pub(super) const CHUNK: usize = 1024;

/// Rows (a query token of one head each) that a job aims at: enough to pay for a tile of keys fetched from
/// the outer caches, few enough that their scores stay in the inner one.
const JOB_ROWS: usize = 96;

/// With fewer jobs per thread than this, the key chunks become jobs of their own.
const JOBS_PER_THREAD: usize = 4;

/// Where the numbers of a head of a token lie in `q` and `out`.
#[derive(Clone, Copy)]
pub(super) struct Strides {
    pub token: usize,
    pub head: usize,
}

/// The arguments of a call.
pub(super) struct Call<'a> {
    pub params: &'a AttentionParams,
    pub blocks: &'a (dyn Fn(usize) -> &'a KvBlock + Sync),
    pub block_count: usize,
    pub q: &'a [f32],
    pub strides: Strides,
    pub tokens: usize,
    pub first_position: usize,
    /// Keys that exist.
    pub keys: usize,
    pub causal: bool,
}

impl Call<'_> {
    /// Query heads per key-value head.
    pub(super) fn group(&self) -> usize {
        self.params.heads / self.params.kv_heads
    }

    /// The positions of the keys that the query of `token` (0 is the call's first) sees.
    #[inline(always)]
    pub(super) fn visible(&self, token: usize) -> Range<usize> {
        let end = if self.causal { self.first_position + token + 1 } else { self.keys };
        let start = match self.params.window {
            Some(window) => (self.first_position + token + 1).saturating_sub(window),
            None => 0,
        };
        start.min(end)..end
    }

    /// The chunks that any of `tokens` sees.
    pub(super) fn chunks(&self, tokens: &Range<usize>) -> Range<usize> {
        let (first, last) = (self.visible(tokens.start), self.visible(tokens.end - 1));
        first.start / CHUNK..last.end.div_ceil(CHUNK)
    }

    /// Whether keys and values are codes.
    pub(super) fn integers(&self) -> bool {
        self.tokens > 0 && (self.blocks)(self.first_block()).kv_type() == KvType::Int8
    }

    /// The first block that is read.
    fn first_block(&self) -> usize {
        self.visible(0).start / KvBlock::TOKENS
    }

    fn check(&self) -> Result<(), ShapeError> {
        const OP: &str = "attention";
        let AttentionParams { heads, kv_heads, head_dim, window, .. } = *self.params;
        if kv_heads == 0 || heads == 0 || !heads.is_multiple_of(kv_heads) {
            return Err(ShapeError { op: OP, what: "the query heads", expected: kv_heads, found: heads });
        }
        if head_dim == 0 || window == Some(0) {
            let what = if head_dim == 0 { "a head" } else { "the window" };
            return Err(ShapeError { op: OP, what, expected: 1, found: 0 });
        }
        let blocks = self.keys.div_ceil(KvBlock::TOKENS);
        if self.block_count < blocks {
            return Err(ShapeError { op: OP, what: "blocks", expected: blocks, found: self.block_count });
        }
        if self.tokens == 0 {
            return Ok(());
        }
        let first = self.first_block();
        let bits = (self.blocks)(first).kv_type().bits();
        for block in (first..blocks).map(self.blocks) {
            ShapeError::check(OP, "a block's kv heads", kv_heads, block.kv_heads())?;
            ShapeError::check(OP, "a block's keys", head_dim, block.head_dim())?;
            ShapeError::check(OP, "bits: a block's number", bits, block.kv_type().bits())?;
        }
        Ok(())
    }

    /// Checks the arguments and computes.
    pub(super) fn run(
        &self,
        exec: &Exec,
        scratch: &mut AttentionScratch,
        out: &SharedOut<'_, f32>,
    ) -> Result<(), ShapeError> {
        self.check()?;
        if self.tokens == 0 {
            return Ok(());
        }
        let threads = exec.pool.threads();
        let tokens_per_job = (JOB_ROWS / self.group()).clamp(1, self.tokens);
        let tiles = self.tokens.div_ceil(tokens_per_job);
        let jobs = tiles * self.params.kv_heads;
        // The last tile sees most: it goes first, so that the threads finish together.
        let job = |i: usize| {
            let start = (tiles - 1 - i % tiles) * tokens_per_job;
            let end = self.tokens.min(start + tokens_per_job);
            Job { call: self, kv_head: i / tiles, tokens: start..end }
        };
        let chunks = self.chunks(&(0..self.tokens));
        let split = threads > 1 && chunks.len() > 1 && jobs < JOBS_PER_THREAD * threads;

        let rows = self.group() * tokens_per_job;
        // The chunks whose heads all go to one thread, in equal numbers to all: the rest is enough to be finished together.
        let together = split && tiles == 1 && rows * jobs <= JOB_ROWS;
        let whole_chunks = if together { chunks.len() * 3 / 4 / threads * threads } else { 0 };
        let heads = if whole_chunks > 0 { jobs } else { 1 };
        let size = Size { rows, head_dim: self.params.head_dim, heads, integers: self.integers() };
        let (tasks, states) = if split {
            (whole_chunks + (chunks.len() - whole_chunks) * jobs, chunks.len() * jobs)
        } else {
            (jobs, 0)
        };
        let (workspaces, partials) = scratch.prepare(threads.min(tasks), &size, states);
        if !split {
            each(exec, workspaces, jobs, &|i, next, workspace| {
                let next = next.map(job);
                let after = next.as_ref().map(|job| job.first_lines(self.chunks(&job.tokens).start));
                dispatch(
                    exec.isa,
                    Whole { job: job(i), after: after.unwrap_or_default(), size, workspace, out },
                );
            });
            return Ok(());
        }

        // Every chunk by itself, then their merging, in order.
        let shared = SharedOut::new(&mut *partials);
        // The i-th task: first job, chunk, jobs. None where its tokens see nothing of the chunk.
        let task = |i: usize| {
            let (first, chunk, count) = match i.checked_sub(whole_chunks) {
                None => (0, i, jobs),
                Some(i) => {
                    let others = chunks.len() - whole_chunks;
                    (i / others, whole_chunks + i % others, 1)
                }
            };
            let at = (chunk * jobs + first) * size.state();
            let (job, chunk) = (job(first), chunks.start + chunk);
            self.chunks(&job.tokens).contains(&chunk).then_some((job, chunk, at..at + count * size.state()))
        };
        each(exec, workspaces, tasks, &|i, next, workspace| {
            let next = next.and_then(task);
            let after = next.as_ref().map(|(job, chunk, _)| job.first_lines(*chunk)).unwrap_or_default();
            if let Some((job, chunk, states)) = task(i) {
                // SAFETY: of the tasks, this one alone has these jobs' states of this chunk.
                let memory = unsafe { shared.part(states.start, states.len()) };
                dispatch(exec.isa, OneChunk { job, size, chunk, after, workspace, memory });
            }
        });
        let partials = &*partials;
        each(exec, workspaces, jobs, &|i, _, workspace| {
            let (states, stride) = (&partials[i * size.state()..], jobs * size.state());
            let first_chunk = chunks.start;
            dispatch(exec.isa, Merge { job: job(i), size, first_chunk, states, stride, workspace, out });
        });
        Ok(())
    }
}

/// `f(i, what the same thread does next, a workspace)` for every i below `n`, on as many threads as there are workspaces.
///
/// A thread takes its next i before it does one, so that it can ask for that memory in time.
fn each(
    exec: &Exec,
    workspaces: &[Mutex<Workspace>],
    n: usize,
    f: &(dyn Fn(usize, Option<usize>, &mut Workspace) + Sync),
) {
    let next = AtomicUsize::new(0);
    exec.pool.run(workspaces.len(), &|worker| {
        // Never contended: task `worker` runs once. A panic of an earlier call left nothing that matters.
        let mut workspace = workspaces[worker].lock().unwrap_or_else(PoisonError::into_inner);
        let take = || Some(next.fetch_add(1, Ordering::Relaxed)).filter(|i| *i < n);
        let mut current = take();
        while let Some(i) = current {
            current = take();
            f(i, current, &mut workspace);
        }
    });
}
