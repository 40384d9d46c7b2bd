//! Sets of numbers as bits of words.

/// The words of `count` ones.
pub(super) fn ones(words: &mut Vec<u64>, count: usize) {
    words.clear();
    words.resize(count / 64, u64::MAX);
    if !count.is_multiple_of(64) {
        words.push((1 << (count % 64)) - 1);
    }
}

pub(super) fn clear(words: &mut [u64], bit: usize) {
    words[bit / 64] &= !(1 << (bit % 64));
}

pub(super) fn has(words: &[u64], bit: usize) -> bool {
    words[bit / 64] >> (bit % 64) & 1 == 1
}

/// Appends the words of the bits `from..to`; whether there is a one.
pub(super) fn append_part(words: &[u64], from: usize, to: usize, out: &mut Vec<u64>) -> bool {
    let mut any = 0;
    for start in (from..to).step_by(64) {
        let (word, shift) = (start / 64, start % 64);
        let mut part = words[word] >> shift;
        if shift != 0 && word + 1 < words.len() {
            part |= words[word + 1] << (64 - shift);
        }
        if to - start < 64 {
            part &= (1 << (to - start)) - 1;
        }
        any |= part;
        out.push(part);
    }
    any != 0
}
