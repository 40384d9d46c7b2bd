//! Scanners for 64 bytes at a time: classes as bit masks, boundaries by arithmetic on them.
//!
//! Each function is given a position where a match begins and returns where further matches begin among the next 63 bytes
//! (bit i: at the position + i), as far as these 64 bytes tell: bit 0 is clear, and behind the highest bit nothing is
//! known. Without any bit the scanner in `scan.rs` must say where the match ends. Since a match depends only on what
//! follows its beginning, the next 64 bytes are taken from the last match found, and nothing is carried over.
//!
//! A mask of a class has all bytes of a character, so `class << 1` are the places whose character before is of the class.

use chalot_simd::bytes::{ByteKernel, ByteLanes, Classes, WIDTH};

use super::scan::Scanner;
use crate::unicode::{self, ByBytes};

/// A match is looked for in so many bytes: a character may begin in the last one.
pub(crate) const REACH: usize = WIDTH + 4;

/// Up to here, what follows a boundary (the rest of a contraction) lies in the 64 bytes.
const CERTAIN: u64 = (1 << 61) - 1;

const LETTER: u8 = 1;
const NUMBER: u8 = 2;
const SPACE: u8 = 4;
const WHITE: u8 = 8;
const NEWLINE: u8 = 16;
const APOSTROPHE: u8 = 32;
const UPPER: u8 = 64;
const SLASH: u8 = 128;

/// The classes of ASCII.
static TABLE: [u8; 128] = {
    let mut table = [0; 128];
    let mut byte = 0;
    while byte < 128 {
        table[byte] = match byte as u8 {
            b'a'..=b'z' => LETTER,
            b'A'..=b'Z' => LETTER | UPPER,
            b'0'..=b'9' => NUMBER,
            b' ' => SPACE | WHITE,
            b'\r' | b'\n' => NEWLINE | WHITE,
            b'\t' | 0x0B | 0x0C => WHITE,
            b'\'' => APOSTROPHE,
            b'/' => SLASH,
            _ => 0,
        };
        byte += 1;
    }
    table
};

/// The classes of 64 bytes; bit i is byte i.
#[derive(Clone, Copy)]
struct Masks {
    letter: u64,
    number: u64,
    /// `[^\s\p{L}\p{N}]`
    other: u64,
    white: u64,
    /// U+0020
    space: u64,
    newline: u64,
    apostrophe: u64,
    /// Letters of [`unicode::UPPER`]; all other letters are of [`unicode::LOWER`].
    upper: u64,
    slash: u64,
    /// All bytes of characters but their first.
    inner: u64,
    /// Where numbers outside ASCII are.
    far_number: u64,
    /// Where characters of both cases or marks are.
    caseless: u64,
}

#[inline(always)]
fn masks(found: Classes) -> Masks {
    let [letter, number, space, white, newline, apostrophe, upper, slash] = found.class;
    let other = !(letter | number | white | found.high);
    let (inner, far_number, caseless) = (0, 0, 0);
    Masks {
        letter,
        number,
        other,
        white,
        space,
        newline,
        apostrophe,
        upper,
        slash,
        inner,
        far_number,
        caseless,
    }
}

impl Masks {
    /// Adds the characters outside ASCII, whose bytes are `high`.
    #[inline(always)]
    fn add_far<L: ByteLanes>(&mut self, lanes: L, high: u64, ahead: &[u8; REACH]) {
        let Some(bytes) = ahead.first_chunk() else { return };
        let bits = lanes.bits(bytes);
        let firsts = high & bits[6];
        let three = firsts & bits[5];
        let going_on = firsts << 1 | three << 2 | (three & bits[4]) << 3;
        let mut inner = high & !firsts;
        // By the first bytes of characters. Little here can be predicted, so little is a branch.
        let table = ByBytes::get();
        // Those that begin as the first one does, at once, if that tells their class.
        let lead = ahead[firsts.trailing_zeros() as usize % WIDTH];
        let (mut alike, of_alike) = match table.of_all(lead) {
            Some(class) => (firsts & lanes.equal(bytes, lead), class),
            None => (0, 0),
        };
        let (mut classes, mut seen, mut rest) = ([0; WIDTH], 0, firsts & !alike);
        while rest != 0 {
            let place = rest.trailing_zeros() as usize % WIDTH;
            rest &= rest - 1;
            let four = [ahead[place], ahead[place + 1], ahead[place + 2], ahead[place + 3]];
            let class = if four[0] >= 0xF0 {
                unicode::decode_four(four).0.map_or(unicode::INVALID, unicode::class)
            } else {
                table.class([four[0], four[1], four[2]])
            };
            classes[place] = class;
            seen |= class;
        }
        // The last one may end behind these 64 bytes.
        let last = 63 - (firsts | 1).leading_zeros() as usize;
        let whole = firsts == 0 || unicode::decode(&ahead[last..]).0.is_some();
        if going_on != inner || seen & unicode::INVALID != 0 || !whole {
            (classes, inner) = damaged(firsts, ahead);
            // Any of these classes may be there.
            (alike, seen) = (0, !0);
        }
        let bits = if seen == 0 { [0; 8] } else { lanes.bits(&classes) };
        let class = |of: u8| {
            let of_alike = if of_alike & of == 0 { 0 } else { alike };
            bits[of.trailing_zeros() as usize] | of_alike
        };
        let [letter, number, white] = [unicode::LETTER, unicode::NUMBER, unicode::SPACE].map(class);
        let [upper, lower] = [unicode::UPPER, unicode::LOWER].map(class);
        // Bytes that are no UTF-8 are characters of their own and others, also those that only go on.
        self.inner = inner;
        self.letter |= self.all_bytes(letter);
        self.far_number = self.all_bytes(number);
        self.number |= self.far_number;
        self.white |= self.all_bytes(white);
        self.other |= high & !(self.letter | self.number | self.white);
        let upper = self.all_bytes(upper);
        self.upper |= upper;
        self.caseless = upper & self.all_bytes(lower);
    }

    /// For each byte, the first byte of its character.
    #[inline(always)]
    fn first_bytes(&self, mut bits: u64) -> u64 {
        for _ in 0..3 {
            bits = (bits & !self.inner) | (bits & self.inner) >> 1;
        }
        bits
    }

    /// For first bytes, all bytes of their characters.
    #[inline(always)]
    fn all_bytes(&self, mut bits: u64) -> u64 {
        for _ in 0..3 {
            bits |= (bits << 1) & self.inner;
        }
        bits
    }

    /// The last characters of runs of `white` before other characters.
    #[inline(always)]
    fn last_white(&self, white: u64) -> u64 {
        let last = white & !(white >> 1);
        if self.inner == 0 { last } else { self.first_bytes(last) }
    }
}

/// The classes of characters outside ASCII, at their first bytes, and the other bytes of characters, where not all is UTF-8.
/// They begin at some of `firsts`.
#[inline(never)]
fn damaged(mut firsts: u64, ahead: &[u8; REACH]) -> ([u8; WIDTH], u64) {
    let (mut classes, mut inner) = ([0; WIDTH], 0);
    while firsts != 0 {
        let place = firsts.trailing_zeros() as usize % WIDTH;
        let (code, len) = unicode::decode(&ahead[place..]);
        classes[place] = code.map_or(0, unicode::class);
        inner |= ((1u64 << len) - 2) << place;
        firsts &= firsts - 1;
    }
    (classes, inner)
}

/// [`Scanner::boundaries`] where not all characters are ASCII.
struct Far<'t> {
    scanner: Scanner,
    found: Classes,
    ahead: &'t [u8; REACH],
}

impl ByteKernel for Far<'_> {
    type Output = u64;

    #[inline(always)]
    fn run<L: ByteLanes>(self, lanes: L) -> u64 {
        let mut masks = masks(self.found);
        masks.add_far(lanes, self.found.high, self.ahead);
        self.ahead.first_chunk().map_or(0, |bytes| self.scanner.within(&masks, bytes))
    }
}

/// The bits below the lowest bit of `bits`.
#[inline(always)]
fn below(bits: u64) -> u64 {
    bits.wrapping_sub(1) & !bits
}

/// The beginnings of runs.
#[inline(always)]
fn begins(class: u64) -> u64 {
    class & !(class << 1)
}

impl Scanner {
    /// See the module. `at + REACH` must not be past the end of the text.
    #[inline(always)]
    pub(crate) fn boundaries<L: ByteLanes>(self, lanes: L, text: &[u8], at: usize) -> u64 {
        let Some(ahead) = text.get(at..).and_then(|rest| rest.first_chunk::<REACH>()) else { return 0 };
        let Some(bytes) = ahead.first_chunk() else { return 0 };
        let found = lanes.classify(bytes, &TABLE);
        if found.high == 0 {
            self.within(&masks(found), bytes)
        } else {
            // Apart, so that the masks of the other case stay in registers.
            lanes.call_apart(Far { scanner: self, found, ahead })
        }
    }

    #[inline(always)]
    fn within(self, masks: &Masks, bytes: &[u8; WIDTH]) -> u64 {
        match self {
            Scanner::Gpt2 => gpt2(masks, bytes),
            Scanner::Cl100k { digits, long_s, .. } => cl100k(masks, bytes, digits, long_s),
            Scanner::O200k { digits, contractions } => o200k(masks, bytes, digits, contractions),
        }
    }
}

#[inline(always)]
fn gpt2(masks: &Masks, bytes: &[u8; WIDTH]) -> u64 {
    let Masks { letter, number, other, white, space, apostrophe, .. } = *masks;
    // A run of any class is a match, together with the space before it.
    let runs = (begins(letter) | begins(number) | begins(other)) & !(space << 1);
    let mut found = runs | begins(white) | masks.last_white(white);
    let mut quotes = apostrophe & (found | 1) & letter >> 1 & CERTAIN;
    while quotes != 0 {
        let place = quotes.trailing_zeros();
        quotes &= quotes - 1;
        let at = place as usize % WIDTH;
        let len = match (bytes[(at + 1) % WIDTH], bytes[(at + 2) % WIDTH]) {
            (b's' | b't' | b'm' | b'd', _) => 2,
            (b'r' | b'v', b'e') | (b'l', b'l') => 3,
            _ => continue,
        };
        found = found & !(2 << place) | 1 << place << len;
    }
    found & !masks.inner & CERTAIN & !1
}

/// The length of a contraction in any case, or 0; `at` is an apostrophe's place.
#[inline(always)]
fn contraction(bytes: &[u8; WIDTH], at: usize, long_s: bool) -> u32 {
    let (first, second) = (bytes[(at + 1) % WIDTH], bytes[(at + 2) % WIDTH]);
    match (first | 0x20, second | 0x20) {
        (b's' | b't' | b'm' | b'd', _) => 2,
        (b'r' | b'v', b'e') | (b'l', b'l') => 3,
        _ if long_s && (first, second) == (0xC5, 0xBF) => 3,
        _ => 0,
    }
}

/// Where numbers begin: `\p{N}{1,digits}`, digits 1 or 3. Numbers outside ASCII are not counted here.
#[inline(always)]
fn numbers(masks: &Masks, digits: usize) -> u64 {
    if digits == 1 {
        return masks.number;
    }
    let mut begin = begins(masks.number);
    let more = masks.number & masks.number << 1;
    let three_before = more & more << 1 & more << 2;
    let mut found = begin;
    loop {
        begin = begin << 3 & three_before;
        if begin == 0 {
            return found;
        }
        found |= begin;
    }
}

/// What `\s*[\r\n]+|\s+(?!\S)|\s+` makes of `white`, and which bits are certain: the boundaries in it.
#[inline(always)]
fn white_space(masks: &Masks, white: u64) -> (u64, u64) {
    let blank = white & !masks.newline;
    let mut found = begins(white) | masks.last_white(white) & blank;
    // Behind the last newline of a run begins a match; but behind a newline that is not the last none does.
    let mut behind = blank & masks.newline << 1 & white << 1;
    let mut certain = CERTAIN;
    if behind != 0 {
        if blank >> 63 == 1 {
            // The run goes on where we cannot see.
            let open = 64 - (!blank).leading_zeros();
            if behind >> (open & 63) & 1 == 1 {
                certain &= (1 << (open & 63)) - 1;
            }
        }
        let mut not_last = blank.wrapping_add(behind) & !blank & masks.newline;
        while not_last != 0 {
            let before = below(not_last) & behind;
            behind &= !(1u64 << 63 >> before.leading_zeros());
            not_last &= not_last - 1;
        }
        found |= behind;
    }
    (found, certain)
}

#[inline(always)]
fn cl100k(masks: &Masks, bytes: &[u8; WIDTH], digits: usize, long_s: bool) -> u64 {
    let Masks { letter, other, white, space, newline, apostrophe, .. } = *masks;
    let others = begins(other) & !(space << 1);
    // A run of others takes the newlines behind it.
    let taken = newline & !newline.wrapping_add(newline & other << 1);
    let (white_found, certain) = white_space(masks, white & !taken);
    // Letters take one character before them, if a match begins there: a blank, or the only one of its run.
    let prefix = if masks.inner == 0 { others } else { masks.all_bytes(others) };
    let words = begins(letter) & !((white & !newline | prefix) << 1);
    let mut found = others | words | white_found | numbers(masks, digits);
    let mut quotes = apostrophe & (others | 1) & CERTAIN & (letter >> 1);
    while quotes != 0 {
        let place = quotes.trailing_zeros();
        quotes &= quotes - 1;
        let len = contraction(bytes, place as usize % WIDTH, long_s);
        if len != 0 {
            found |= 1 << place << len;
        }
    }
    let far = if digits == 1 { 0 } else { masks.far_number };
    found & !masks.inner & certain & below(far) & !1
}

#[inline(always)]
fn o200k(masks: &Masks, bytes: &[u8; WIDTH], digits: usize, contractions: bool) -> u64 {
    let Masks { letter, other, white, space, newline, apostrophe, upper, slash, .. } = *masks;
    let others = begins(other) & !(space << 1);
    let taken = newline & !newline.wrapping_add(newline & other << 1);
    let (white_found, certain) = white_space(masks, white & !taken);
    let prefix = if masks.inner == 0 { others } else { masks.all_bytes(others) };
    let lower = letter & !upper;
    // Letters without case go with either; what that makes of them is known where there are no capitals, and of marks never.
    let (capitals, caseless) = match letter & upper & !masks.caseless {
        0 => (0, masks.caseless & !letter),
        _ => (letter & upper, masks.caseless),
    };
    let words = begins(letter) & !((white & !newline | prefix) << 1) | (capitals & lower << 1);
    let mut found = others | words | white_found | numbers(masks, digits);
    if contractions {
        // Behind a word, and not behind a contraction: that one is a match of its own.
        let mut quotes = apostrophe & letter << 1 & CERTAIN & (letter >> 1);
        let mut end = 64;
        while quotes != 0 {
            let place = quotes.trailing_zeros();
            quotes &= quotes - 1;
            let len = contraction(bytes, place as usize % WIDTH, true);
            if len != 0 && place != end {
                found = found & !(((1 << len) - 1) << place) | 1 << place << len;
                end = place + len;
            }
        }
    }
    let far = if digits == 1 { 0 } else { masks.far_number };
    // A slash behind a newline may belong to the others before it.
    let unclear = far | caseless | slash & newline << 1;
    found & !masks.inner & certain & below(unclear) & !1
}
