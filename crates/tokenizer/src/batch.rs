//! Many texts on many threads.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use crate::{Specials, Tokenizer};

/// A thread takes texts of about this many bytes together at a time, so that short texts are not handed out one by one.
const TAKE: usize = 1 << 16;

/// A thread takes this much of one large text at a time.
const PART: usize = 1 << 18;

/// Where the ids of parts go, in the order of the parts.
struct Places<'a> {
    free: &'a mut [u32],
    /// The part whose place is next, if there is room.
    next: usize,
    /// Ids that have places.
    taken: usize,
    /// Parts that are later, or for which there is no room.
    waiting: Vec<(usize, Vec<u32>)>,
}

impl<'a> Places<'a> {
    /// These parts are encoded: takes all whose places are known now, these or others, and gives them with their places.
    fn ready(&mut self, encoded: &mut Vec<(usize, Vec<u32>)>) -> Vec<(&'a mut [u32], Vec<u32>)> {
        self.waiting.append(encoded);
        let mut ready = Vec::new();
        while let Some(at) = self.waiting.iter().position(|(part, _)| *part == self.next) {
            let len = self.waiting[at].1.len();
            let Some((place, rest)) = std::mem::take(&mut self.free).split_at_mut_checked(len) else { break };
            self.free = rest;
            self.taken += len;
            self.next += 1;
            let ids = self.waiting.swap_remove(at).1;
            // A page is cleared when it is first written to. Two threads that copy to a new one both clear it, two megabytes
            // each, and one does so in vain: so here, where there is one.
            if let (Some(place), Some(id)) = (place.last_mut(), ids.last()) {
                *place = *id;
            }
            ready.push((place, ids));
        }
        ready
    }
}

impl Tokenizer {
    /// [`encode`](Self::encode) on up to `threads` threads: a large text is cut where that does not change its ids.
    ///
    /// Vocabularies for which no such places are known (see [`StreamEncoder`](crate::StreamEncoder)) use one thread.
    pub fn encode_parallel(&self, text: impl AsRef<[u8]>, specials: Specials, threads: usize) -> Vec<u32> {
        let text = text.as_ref();
        // Looking for places to cut takes longer than encoding what has none.
        let parts = if threads <= 1 { Vec::new() } else { self.parts(text, specials) };
        let threads = threads.min(parts.len());
        if threads <= 1 {
            return self.encode(text, specials);
        }
        // Fresh memory costs as much as encoding does, so each id touches some only once: the ids of a part are written to a buffer
        // that is used again, and from there to their place, as soon as it is known. Room for an id every two bytes is reserved but
        // not touched.
        let mut whole = vec![0; text.len() / 2];
        chalot_simd::ask_for_huge_pages(&mut whole);
        let places = Mutex::new(Places { free: &mut whole, next: 0, taken: 0, waiting: Vec::new() });
        on_threads(threads, parts.len(), |take| {
            let (mut buffers, mut encoded) = (Vec::new(), Vec::new());
            let copy = |ready: Vec<(&mut [u32], Vec<u32>)>, buffers: &mut Vec<Vec<u32>>| {
                for (place, ids) in ready {
                    place.copy_from_slice(&ids);
                    buffers.push(ids);
                }
            };
            while let Some(part) = take() {
                let mut ids: Vec<u32> = buffers.pop().unwrap_or_default();
                ids.clear();
                self.encode_into(parts[part], specials, &mut ids);
                encoded.push((part, ids));
                // While another thread is there the next part can be encoded.
                if let Ok(mut places) = places.try_lock() {
                    let ready = places.ready(&mut encoded);
                    drop(places);
                    copy(ready, &mut buffers);
                }
            }
            let ready = places.lock().unwrap_or_else(PoisonError::into_inner).ready(&mut encoded);
            copy(ready, &mut buffers);
        });
        let Places { taken, mut waiting, .. } = places.into_inner().unwrap_or_else(PoisonError::into_inner);
        whole.truncate(taken);
        waiting.sort_unstable_by_key(|(part, _)| *part);
        waiting.iter().for_each(|(_, ids)| whole.extend_from_slice(ids));
        whole.shrink_to_fit();
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
