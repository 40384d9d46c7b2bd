//! The model that ships in the binary.

/// The bytes of the built-in model: a native file (GGUF) with its tokenizer inside.
///
/// They lie on a page boundary, as a mapped file would, so that the kernels read the weights in place.
pub fn builtin() -> &'static [u8] {
    &FILE.bytes
}

/// What the built-in model is called where a file's name would stand.
pub const BUILTIN_NAME: &str = "built-in model";

/// Gives `bytes` the alignment of a page: the alignment that native files promise to their tensors counts from the
/// file's start, and `include_bytes!` alone aligns to one byte.
#[repr(C, align(4096))]
struct Page<T: ?Sized> {
    bytes: T,
}

static FILE: &Page<[u8]> = &Page { bytes: *include_bytes!("../assets/stories.gguf") };

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_lies_on_a_page_and_stays_small() {
        assert!(builtin().as_ptr().addr().is_multiple_of(4096));
        assert!(builtin().starts_with(b"GGUF"));
        assert!(builtin().len() < 6_000_000, "{} bytes", builtin().len());
    }
}
