//! The classes of characters that the pre-tokenizers' patterns speak of.

use std::sync::LazyLock;

use unicode_general_category::{GeneralCategory as G, get_general_category};

/// `\p{L}`.
pub(crate) const LETTER: u8 = 1;
/// `\p{N}`.
pub(crate) const NUMBER: u8 = 2;
/// `\s`: the property White_Space.
pub(crate) const SPACE: u8 = 4;
/// `[\r\n]`.
pub(crate) const NEWLINE: u8 = 8;
/// `[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]`.
pub(crate) const UPPER: u8 = 16;
/// `[\p{Ll}\p{Lm}\p{Lo}\p{M}]`.
pub(crate) const LOWER: u8 = 32;
/// `\p{P}`.
pub(crate) const PUNCTUATION: u8 = 64;

/// The classes of a character, as bits.
fn classify(c: char) -> u8 {
    let mut class = match get_general_category(c) {
        G::UppercaseLetter | G::TitlecaseLetter => LETTER | UPPER,
        G::LowercaseLetter => LETTER | LOWER,
        G::ModifierLetter | G::OtherLetter => LETTER | UPPER | LOWER,
        G::NonspacingMark | G::SpacingMark | G::EnclosingMark => UPPER | LOWER,
        G::DecimalNumber | G::LetterNumber | G::OtherNumber => NUMBER,
        G::ConnectorPunctuation
        | G::DashPunctuation
        | G::OpenPunctuation
        | G::ClosePunctuation
        | G::InitialPunctuation
        | G::FinalPunctuation
        | G::OtherPunctuation => PUNCTUATION,
        _ => 0,
    };
    if c.is_whitespace() {
        class |= SPACE;
    }
    if matches!(c, '\r' | '\n') {
        class |= NEWLINE;
    }
    class
}

/// Classes by code point in two stages: pages of 256, equal pages kept once.
struct Table {
    pages: Vec<[u8; 256]>,
    page_of: Box<[u16; 0x1100]>,
}

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    let mut table = Table { pages: vec![[0; 256]], page_of: Box::new([0; 0x1100]) };
    for (number, page_of) in (0u32..).zip(table.page_of.iter_mut()) {
        // Planes 4 to 13 are unassigned, 15 and 16 for private use: no class.
        if matches!(number >> 8, 4..=13 | 15..) {
            continue;
        }
        let mut page = [0; 256];
        for (low, class) in (0u32..).zip(page.iter_mut()) {
            *class = char::from_u32(number << 8 | low).map_or(0, classify);
        }
        let found = table.pages.iter().position(|other| *other == page);
        *page_of = found.unwrap_or(table.pages.len()) as u16;
        if found.is_none() {
            table.pages.push(page);
        }
    }
    table
});

/// The same of ASCII, without a table that must be made first.
static ASCII: [u8; 128] = {
    let mut table = [0; 128];
    let mut byte = 0;
    while byte < 128 {
        let c = byte as u8;
        table[byte] = match c {
            b'A'..=b'Z' => LETTER | UPPER,
            b'a'..=b'z' => LETTER | LOWER,
            b'0'..=b'9' => NUMBER,
            b'\r' | b'\n' => SPACE | NEWLINE,
            b'\t' | 0x0B | 0x0C | b' ' => SPACE,
            b'$' | b'+' | b'<' | b'=' | b'>' | b'^' | b'`' | b'|' | b'~' => 0,
            _ if c.is_ascii_punctuation() => PUNCTUATION,
            _ => 0,
        };
        byte += 1;
    }
    table
};

/// The classes of the character with this code point.
#[inline]
pub(crate) fn class(code: u32) -> u8 {
    if let Some(&class) = ASCII.get(code as usize) {
        return class;
    }
    let table = &*TABLE;
    match table.page_of.get(code as usize >> 8) {
        Some(&page) => table.pages[page as usize][code as usize & 255],
        None => 0,
    }
}

/// Stands in [`ByBytes`] for bytes that are no UTF-8; no class has this bit.
pub(crate) const INVALID: u8 = 128;

/// Classes by the bytes of characters of two and three bytes, in two stages: pages of 64, equal pages kept once.
pub(crate) struct ByBytes {
    /// By the first two bytes.
    page_of: Box<[u16; 64 * 64]>,
    /// By the third one; characters of two bytes have pages of one class.
    pages: Vec<[u8; 64]>,
    /// The class of all characters that begin with a byte, or [`INVALID`] where they differ.
    alike: [u8; 256],
}

impl ByBytes {
    pub(crate) fn get() -> &'static ByBytes {
        static TABLE: LazyLock<ByBytes> = LazyLock::new(|| {
            let (page_of, pages, alike) = (Box::new([0; 64 * 64]), vec![[INVALID; 64]], [INVALID; 256]);
            let mut table = ByBytes { page_of, pages, alike };
            for first in 0xC2..=0xEF {
                for second in 0x80..=0xBF {
                    let page = std::array::from_fn(|third| {
                        let (code, _) = decode_four([first, second, 0x80 | third as u8, 0]);
                        code.map_or(INVALID, class)
                    });
                    let found = table.pages.iter().position(|other| *other == page);
                    table.page_of[ByBytes::index(first, second)] = found.unwrap_or(table.pages.len()) as u16;
                    if found.is_none() {
                        table.pages.push(page);
                    }
                }
                let of = |second, third| table.class([first, second, third]);
                let class = of(0x80, 0x80);
                let all = (0x80..=0xBF).all(|second| (0x80..=0xBF).all(|third| of(second, third) == class));
                table.alike[usize::from(first)] = if all { class } else { INVALID };
            }
            table
        });
        &TABLE
    }

    fn index(first: u8, second: u8) -> usize {
        usize::from(first & 0x3F) << 6 | usize::from(second & 0x3F)
    }

    /// The classes of every character that begins with this byte, if they are the same.
    #[inline(always)]
    pub(crate) fn of_all(&self, first: u8) -> Option<u8> {
        Some(self.alike[usize::from(first)]).filter(|&class| class != INVALID)
    }

    /// The classes of a character that begins with these bytes, the first one from 0xC0 to 0xEF, if as many of the others
    /// as it has go on with one.
    #[inline(always)]
    pub(crate) fn class(&self, [first, second, third]: [u8; 3]) -> u8 {
        let page = usize::from(self.page_of[Self::index(first, second)]);
        self.pages.get(page).map_or(INVALID, |page| page[usize::from(third & 0x3F)])
    }
}

/// The first character of `bytes` and its length. Bytes that are no UTF-8 come one by one, without a code.
///
/// `bytes` must not be empty.
#[inline]
pub(crate) fn decode(bytes: &[u8]) -> (Option<u32>, usize) {
    let lead = bytes[0];
    if lead < 0x80 {
        return (Some(u32::from(lead)), 1);
    }
    decode_long(bytes)
}

fn decode_long(bytes: &[u8]) -> (Option<u32>, usize) {
    let mut four = [0; 4];
    let len = bytes.len().min(4);
    four[..len].copy_from_slice(&bytes[..len]);
    decode_four(four)
}

/// [`decode`] of a character outside ASCII; behind the end of a text come zeros.
#[inline(always)]
pub(crate) fn decode_four(bytes: [u8; 4]) -> (Option<u32>, usize) {
    let word = u32::from_be_bytes(bytes);
    let bits = |mask: u32, shift: u32| (word >> shift) & mask;
    let (code, len, valid) = match bytes[0] {
        0xC2..=0xDF => (bits(0x1F, 24) << 6 | bits(0x3F, 16), 2, word & 0x00C0_0000 == 0x0080_0000),
        0xE0..=0xEF => {
            let code = bits(0xF, 24) << 12 | bits(0x3F, 16) << 6 | bits(0x3F, 8);
            let valid = word & 0x00C0_C000 == 0x0080_8000 && code >= 0x800 && code >> 11 != 0xD800 >> 11;
            (code, 3, valid)
        }
        0xF0..=0xF4 => {
            let code = bits(7, 24) << 18 | bits(0x3F, 16) << 12 | bits(0x3F, 8) << 6 | bits(0x3F, 0);
            let valid = word & 0x00C0_C0C0 == 0x0080_8080 && (0x10000..0x11_0000).contains(&code);
            (code, 4, valid)
        }
        _ => (0, 1, false),
    };
    if valid { (Some(code), len) } else { (None, 1) }
}

/// The last character before the end of `text`.
pub(crate) fn last_char(text: &[u8]) -> Option<char> {
    let start = (1..=text.len().min(4)).map(|len| text.len() - len).find(|&at| text[at] & 0xC0 != 0x80)?;
    std::str::from_utf8(&text[start..]).ok()?.chars().next_back()
}

/// The first character of `text`.
pub(crate) fn first_char(text: &[u8]) -> Option<char> {
    if text.is_empty() {
        return None;
    }
    decode(text).0.and_then(char::from_u32)
}

/// Where the white space that ends at `end` begins.
pub(crate) fn space_before(text: &[u8], mut end: usize) -> usize {
    while let Some(c) = last_char(&text[..end]).filter(|c| c.is_whitespace()) {
        end -= c.len_utf8();
    }
    end
}

/// Where the white space that begins at `start` ends.
pub(crate) fn space_after(text: &[u8], mut start: usize) -> usize {
    while let Some(c) = first_char(&text[start..]).filter(|c| c.is_whitespace()) {
        start += c.len_utf8();
    }
    start
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn classes_of_known_characters() {
        assert_eq!(class('a' as u32), LETTER | LOWER);
        assert_eq!(class('A' as u32), LETTER | UPPER);
        assert_eq!(class('日' as u32), LETTER | UPPER | LOWER);
        assert_eq!(class('5' as u32), NUMBER);
        assert_eq!(class('½' as u32), NUMBER);
        assert_eq!(class(0x301), UPPER | LOWER);
        assert_eq!(class('\n' as u32), SPACE | NEWLINE);
        assert_eq!(class(0xA0), SPACE);
        assert_eq!(class(0x200B), 0);
        assert_eq!(class('!' as u32), PUNCTUATION);
        assert_eq!(class('$' as u32), 0);
        assert_eq!(class(0x10_FFFF), 0);
        assert_eq!(class(u32::MAX), 0);
    }

    #[test]
    fn ascii_is_as_unicode_says() {
        for c in '\0'..='\x7F' {
            assert_eq!(class(c as u32), classify(c), "{c:?}");
        }
    }

    /// The counts of Unicode 16, which is also what Hugging Face's wheels are built with.
    #[test]
    fn counts_of_unicode_16() {
        let count = |bit: u8| (0..0x11_0000).filter(|&code| class(code) & bit != 0).count();
        assert_eq!(count(LETTER), 141_028);
        assert_eq!(count(NUMBER), 1911);
        assert_eq!(count(SPACE), 25);
        assert_eq!(count(PUNCTUATION), 855);
    }

    #[test]
    fn classes_by_bytes() {
        let table = ByBytes::get();
        for c in (0x80..0x10000).filter_map(char::from_u32) {
            let mut bytes = [0x85; 4];
            c.encode_utf8(&mut bytes);
            assert_eq!(table.class([bytes[0], bytes[1], bytes[2]]), class(c as u32), "{c:?}");
            assert!(table.of_all(bytes[0]).is_none_or(|all| all == class(c as u32)), "{c:?}");
        }
        assert!(table.of_all(0xCC).is_some() && table.of_all(0xE5).is_some() && table.of_all(0xE0).is_none());
        for bytes in [[0xC0, 0x80, 0x80], [0xC1, 0xBF, 0x80], [0xE0, 0x9F, 0xBF], [0xED, 0xA0, 0x80]] {
            assert_eq!(table.class(bytes), INVALID);
        }
    }

    proptest! {
        #[test]
        fn decode_agrees_with_the_standard_library(bytes in prop::collection::vec(prop_oneof![any::<u8>(), 0xE0..=0xF5u8, 0x80..=0xBFu8], 1..40)) {
            let mut at = 0;
            let mut valid = String::new();
            while at < bytes.len() {
                let (code, len) = decode(&bytes[at..]);
                let expected = std::str::from_utf8(&bytes[at..at + len]).ok();
                prop_assert_eq!(code.and_then(char::from_u32), expected.and_then(|s| s.chars().next()));
                valid.extend(code.and_then(char::from_u32));
                at += len;
            }
            let standard: String = bytes.utf8_chunks().map(|chunk| chunk.valid()).collect();
            prop_assert_eq!(valid, standard);
        }
    }
}
