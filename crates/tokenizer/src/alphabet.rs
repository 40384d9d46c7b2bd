//! GPT-2's alphabet: one printable character for each byte, so that byte-level vocabularies can be written as text.
//!
//! Bytes that are printable in Latin-1 stand for themselves; the other 68 are shifted, in order, to U+0100 and up
//! (Radford et al. 2019, `bytes_to_unicode`). A space is therefore written `Ġ`.

/// `CHARS[byte]` is the character that stands for the byte.
const CHARS: [char; 256] = {
    let mut chars = ['\0'; 256];
    let mut byte = 0;
    let mut shifted = 0x100;
    while byte < 256 {
        let printable = matches!(byte, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF);
        let code = if printable { byte as u32 } else { shifted };
        if !printable {
            shifted += 1;
        }
        chars[byte] = match char::from_u32(code) {
            Some(c) => c,
            None => panic!("every code up to U+0143 is a character"),
        };
        byte += 1;
    }
    chars
};

/// One past the last character of the alphabet.
const END: usize = 0x144;

/// `BYTES[character]` is the byte it stands for; 256 = none.
const BYTES: [u16; END] = {
    let mut bytes = [256; END];
    let mut byte = 0;
    while byte < 256 {
        bytes[CHARS[byte] as usize] = byte as u16;
        byte += 1;
    }
    bytes
};

/// The character that stands for `byte`.
pub(crate) fn char_of(byte: u8) -> char {
    CHARS[byte as usize]
}

/// The byte that `c` stands for.
pub(crate) fn byte_of(c: char) -> Option<u8> {
    BYTES.get(c as usize).and_then(|&byte| u8::try_from(byte).ok())
}

/// The bytes that `text` stands for; `None` if a character is not of the alphabet.
pub(crate) fn to_bytes(text: &str) -> Option<Vec<u8>> {
    text.chars().map(byte_of).collect()
}

/// The text that stands for `bytes`.
pub(crate) fn to_text(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| char_of(byte)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_characters() {
        assert_eq!(char_of(b'A'), 'A');
        assert_eq!(char_of(b' '), 'Ġ');
        assert_eq!(char_of(b'\n'), 'Ċ');
        assert_eq!(char_of(0xAD), '\u{143}');
        assert_eq!(byte_of('日'), None);
        assert_eq!(byte_of(' '), None);
    }

    #[test]
    fn one_to_one() {
        for byte in 0..=255 {
            assert_eq!(byte_of(char_of(byte)), Some(byte));
        }
        assert_eq!(to_bytes("Ġthe").unwrap(), b" the");
        assert_eq!(to_text(b" the"), "Ġthe");
        assert_eq!(to_bytes("the cat"), None);
    }
}
