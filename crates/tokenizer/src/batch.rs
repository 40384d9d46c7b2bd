//! Many texts on many threads.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::{Specials, Tokenizer};

/// A thread takes texts of about this many bytes together at a time, so that short texts are not handed out one by one.
const TAKE: usize = 1 << 16;

impl Tokenizer {
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
