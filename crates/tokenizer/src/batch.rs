//! Many texts on many threads.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::{Specials, Tokenizer};

/// A thread takes texts of about this many bytes together at a time, so that short texts are not handed out one by one.
const TAKE: usize = 1 << 16;

/// A thread takes this much of one large text at a time.
const PART: usize = 1 << 18;

impl Tokenizer {
    /// [`encode`](Self::encode) on up to `threads` threads: a large text is cut where that does not change its ids.
    ///
    /// Vocabularies for which no such places are known (see [`StreamEncoder`](crate::StreamEncoder)) use one thread.
    pub fn encode_parallel(&self, text: impl AsRef<[u8]>, specials: Specials, threads: usize) -> Vec<u32> {
        let text = text.as_ref();
        let parts = self.parts(text, specials);
        let threads = threads.min(parts.len());
        if threads <= 1 {
            return self.encode(text, specials);
        }
        // Each thread's ids in one vector, and of each part: its number, where its ids begin and end in it.
        let encoded = on_threads(threads, parts.len(), |take| {
            let mut ids = Vec::with_capacity(text.len() / threads / 4);
            let mut spans = Vec::new();
            while let Some(part) = take() {
                let start = ids.len();
                self.encode_into(parts[part], specials, &mut ids);
                spans.push((part, start, ids.len()));
            }
            (ids, spans)
        });
        let mut places = vec![&[][..]; parts.len()];
        for (ids, spans) in &encoded {
            spans.iter().for_each(|&(part, start, end)| places[part] = &ids[start..end]);
        }
        // One after the other: all threads together, as each must touch fresh memory.
        let mut whole = vec![0; places.iter().map(|ids| ids.len()).sum()];
        let share = places.len().div_ceil(threads);
        thread::scope(|scope| {
            let mut rest = &mut whole[..];
            for places in places.chunks(share) {
                let (mine, after) = rest.split_at_mut(places.iter().map(|ids| ids.len()).sum());
                rest = after;
                scope.spawn(move || {
                    let mut at = 0;
                    for ids in places {
                        mine[at..at + ids.len()].copy_from_slice(ids);
                        at += ids.len();
                    }
                });
            }
        });
        whole
    }

    /// The text in parts that can be encoded one by one.
    fn parts<'t>(&self, text: &'t [u8], specials: Specials) -> Vec<&'t [u8]> {
        let mut parts = Vec::new();
        let mut start = 0;
        if let Some(seams) = self.seams(specials) {
            while let Some(seam) = seams.first(text, start + PART) {
                parts.push(&text[start..seam]);
                start = seam;
            }
        }
        parts.push(&text[start..]);
        parts
    }

    /// [`encode`](Self::encode) for each text, on up to `threads` threads; the results in the order of the texts.
    pub fn encode_batch<T: AsRef<[u8]> + Sync>(
        &self,
        texts: &[T],
        specials: Specials,
        threads: usize,
    ) -> Vec<Vec<u32>> {
        let shares = shares(texts);
        let threads = threads.min(shares.len());
        let encode = |text: &T| self.encode(text, specials);
        if threads <= 1 {
            return texts.iter().map(encode).collect();
        }
        let done = on_threads(threads, shares.len(), |take| {
            let mut done = Vec::new();
            while let Some(share) = take() {
                let (start, end) = shares[share];
                done.push((start, texts[start..end].iter().map(encode).collect::<Vec<_>>()));
            }
            done
        });
        let mut done: Vec<_> = done.into_iter().flatten().collect();
        done.sort_unstable_by_key(|(start, _)| *start);
        done.into_iter().flat_map(|(_, ids)| ids).collect()
    }
}

/// Runs `work` on so many threads, this one among them. What it is given hands out the numbers below `count`, each once.
fn on_threads<R: Send>(
    threads: usize,
    count: usize,
    work: impl Fn(&dyn Fn() -> Option<usize>) -> R + Sync,
) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let take = || Some(next.fetch_add(1, Ordering::Relaxed)).filter(|&number| number < count);
    thread::scope(|scope| {
        let helpers: Vec<_> = (1..threads).map(|_| scope.spawn(|| work(&take))).collect();
        let mut done = vec![work(&take)];
        for helper in helpers {
            match helper.join() {
                Ok(more) => done.push(more),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        done
    })
}

/// Neighbouring texts that are encoded together, as ranges of indices.
fn shares<T: AsRef<[u8]>>(texts: &[T]) -> Vec<(usize, usize)> {
    let mut shares = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    for (at, text) in texts.iter().enumerate() {
        bytes += text.as_ref().len();
        if bytes >= TAKE || at + 1 == texts.len() {
            shares.push((start, at + 1));
            (start, bytes) = (at + 1, 0);
        }
    }
    shares
}
