//! Every truncation and every flipped bit of small files, and large headers made to cost memory: a typed error
//! or a valid load, and never more memory than the file's size and 64 MiB. A binary of its own, because it
//! counts what is allocated.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use chalot_formats::FormatError;
use chalot_formats::gguf::Gguf;
use chalot_formats::hf::{Config, Quantization};
use chalot_formats::llama2c::{Llama2c, Part};
use chalot_formats::safetensors::{SafeTensors, ShardIndex, Shards};
use common::RawGguf;

/// Counts live bytes and their maximum, each thread for itself: tests run side by side.
struct Counting;

thread_local! {
    static LIVE: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    // Neither cell has a destructor, so that they can be reached as long as the thread runs.
    let live = LIVE.get() + bytes;
    LIVE.set(live);
    PEAK.set(PEAK.get().max(live));
}

// SAFETY: every call goes to the system's allocator unchanged; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller keeps the contract of `GlobalAlloc::alloc`, which is that of `System`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: `pointer` came from `System` with this layout, as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: as in `alloc`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // Old and new may live at once while the content moves.
        count(size as isize);
        count(-(layout.size() as isize));
        // SAFETY: as in `dealloc`; the new size is the caller's.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The highest number of bytes that were allocated at once while `work` ran, beyond those before it.
fn peak_of<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = LIVE.get();
    PEAK.set(before);
    let result = work();
    (result, (PEAK.get() - before) as usize)
}

const EXTRA: usize = 64 << 20;

/// Runs `load` on every truncation of `file` and on every single-bit flip of its first `header` bytes.
/// Returns how many of the flips were loaded.
fn torture(file: &[u8], header: usize, load: impl Fn(&[u8]) -> Result<(), FormatError>) -> usize {
    load(file).unwrap_or_else(|error| panic!("the file itself must load: {error}"));
    let check = |bytes: &[u8], what: &str, at: usize| {
        let (result, peak) = peak_of(|| load(bytes));
        assert!(peak <= bytes.len() + EXTRA, "{what} {at}: {peak} bytes allocated");
        if let Err(error) = &result {
            let text = error.to_string();
            assert!(
                text.starts_with("file: ") && !text.contains('\n') && !error.expected.is_empty(),
                "{text}"
            );
        }
        result.is_ok()
    };
    for length in 0..file.len() {
        let loaded = check(&file[..length], "length", length);
        assert!(!loaded || length >= header, "a file cut inside its header, to {length} bytes, was loaded");
    }
    let mut loaded = 0;
    let mut flipped = file.to_vec();
    for bit in 0..8 * header {
        flipped[bit / 8] ^= 1 << (bit % 8);
        loaded += usize::from(check(&flipped, "bit", bit));
        flipped[bit / 8] ^= 1 << (bit % 8);
    }
    loaded
}

/// Parses, and decodes every tensor that can be decoded.
fn load_gguf(bytes: &[u8]) -> Result<(), FormatError> {
    let gguf = Gguf::parse("file", bytes)?;
    for (key, _) in gguf.metadata.iter() {
        let _ = (gguf.metadata.required_u64(key), gguf.metadata.required_strings(key));
    }
    for tensor in &gguf.tensors {
        if let Ok(view) = gguf.view(&tensor.name, bytes) {
            view.decode_rows(0..view.rows())?;
            view.to_f32()?;
        }
    }
    Ok(())
}

#[test]
fn gguf() {
    let raw = common::tiny_gguf();
    let loaded = torture(&raw.bytes(), raw.header().len(), load_gguf);
    // Flips in values and names are legal; flips in counts, lengths, types and offsets are not.
    assert!(loaded > 100, "{loaded}");
}

fn tiny_safetensors() -> Vec<u8> {
    let header = br#"{"__metadata__":{"format":"pt"},"b":{"dtype":"BF16","shape":[2,3],"data_offsets":[16,28]},"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},"w":{"dtype":"U8","shape":[2,2],"data_offsets":[28,32]}}"#;
    [&(header.len() as u64).to_le_bytes()[..], header, &[1; 32]].concat()
}

fn load_safetensors(bytes: &[u8]) -> Result<(), FormatError> {
    let file = SafeTensors::parse("file", bytes)?;
    for tensor in &file.tensors {
        file.data(tensor, bytes)?;
        if let Ok(view) = file.view(tensor, bytes) {
            view.to_f32()?;
        }
    }
    Shards::new(vec![file])?;
    Ok(())
}

#[test]
fn safetensors() {
    let file = tiny_safetensors();
    torture(&file, file.len() - 32, load_safetensors);
}

#[test]
fn shard_index() {
    let file = br#"{"metadata":{"total_size":5},"weight_map":{"a":"m-1.safetensors","b":"m-2.safetensors","c":"m-1.safetensors"}}"#;
    torture(file, file.len(), |bytes| ShardIndex::parse("file", bytes).map(drop));
}

#[test]
fn config() {
    let file = br#"{"hidden_size":64,"quantization_config":{"quant_method":"bitnet","modules_to_not_convert":["a"],"rms_norm_eps":1e-6},"eos_token_id":[1,2]}"#;
    torture(file, file.len(), |bytes| {
        let config = Config::parse("file", bytes)?;
        config.usize("hidden_size")?;
        config.ids("eos_token_id")?;
        Quantization::from_config(&config).map(drop)
    });
}

/// 8 wide, 2 heads, 1 layer, 6 tokens, context 4; an own classifier where `vocab` is negative.
fn tiny_llama2c(vocab: i32) -> Vec<u8> {
    let words = [8, 12, 1, 2, 1, vocab, 4];
    let layer = 8 + 64 + 32 + 32 + 64 + 8 + 3 * 96;
    let floats = 48 + layer + 8 + 16 + if vocab < 0 { 48 } else { 0 };
    let mut file: Vec<u8> = words.iter().flat_map(|w: &i32| w.to_le_bytes()).collect();
    file.extend((0..floats).flat_map(|i| (i as f32).to_le_bytes()));
    file
}

fn load_llama2c(bytes: &[u8]) -> Result<(), FormatError> {
    let model = Llama2c::parse("file", bytes)?;
    for part in Part::ALL {
        for layer in 0..=model.config.layers.min(2) {
            if model.range(part, layer).is_some() {
                model.weights(bytes, part, layer)?;
            }
        }
    }
    Ok(())
}

#[test]
fn llama2c() {
    torture(&tiny_llama2c(6), 28, load_llama2c);
    torture(&tiny_llama2c(-6), 28, load_llama2c);
}

/// `count` times `item`, up to what a file of `size` bytes holds.
fn fill(size: usize, item: impl Fn(usize) -> Vec<u8>) -> (usize, Vec<u8>) {
    let (mut count, mut bytes) = (0, Vec::with_capacity(size + 64));
    while bytes.len() < size {
        bytes.extend(item(count));
        count += 1;
    }
    (count, bytes)
}

#[track_caller]
fn bounded(bytes: &[u8], parse: impl Fn(&[u8]) -> bool) -> bool {
    let (loaded, peak) = peak_of(|| parse(bytes));
    assert!(peak <= bytes.len() + EXTRA, "{peak} bytes allocated for {}, loaded: {loaded}", bytes.len());
    loaded
}

/// Files of 1 MiB must load, for they are valid; those of many times that may be refused for what they cost.
const SMALL: usize = 1 << 20;

/// What costs most per byte of the file: empty strings, empty arrays, tiny pairs, tiny tensors.
#[test]
fn large_gguf_headers_stay_within_the_bound() {
    for size in [SMALL, 24 << 20] {
        let array = |type_id: u32, (count, items): (usize, Vec<u8>)| {
            [&type_id.to_le_bytes()[..], &(count as u64).to_le_bytes(), &items].concat()
        };
        let strings = array(8, fill(size, |_| vec![0; 8]));
        let arrays = array(9, fill(size, |_| vec![0; 12]));
        for value in [strings, arrays] {
            let bytes = RawGguf::default().pair(b"k", 9, &value).bytes();
            assert!(bounded(&bytes, |b| Gguf::parse("f", b).is_ok()) || size > SMALL);
        }
        let pair = |i: usize| {
            let key = [(i >> 16) as u8 & 0x7f, (i >> 9) as u8 & 0x7f, (i >> 2) as u8 & 0x7f, (i & 3) as u8];
            [&common::string(&key)[..], &[0; 5]].concat()
        };
        let tensor = |i: usize| {
            let name = [(i >> 14) as u8 & 0x7f, (i >> 7) as u8 & 0x7f, i as u8 & 0x7f];
            let offset = (i as u64 * 32).to_le_bytes();
            [&common::string(&name)[..], &0u32.to_le_bytes(), &0u32.to_le_bytes(), &offset].concat()
        };
        for (tensors, (count, items)) in [(false, fill(size, pair)), (true, fill(size, tensor))] {
            let counts = if tensors { [count as u64, 0] } else { [0, count as u64] };
            let mut bytes =
                [&b"GGUF\x03\0\0\0"[..], &counts[0].to_le_bytes(), &counts[1].to_le_bytes(), &items].concat();
            let data = if tensors { 32 * count } else { 0 };
            bytes.resize(bytes.len().next_multiple_of(32) + data, 0);
            assert!(bounded(&bytes, |b| Gguf::parse("f", b).is_ok()) || size > SMALL);
        }
    }
}

#[test]
fn large_json_stays_within_the_bound() {
    for size in [SMALL, (16 << 20) - 256] {
        let tensor = |i: usize| {
            format!("\"{i:x}\":{{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}},").into_bytes()
        };
        let metadata = |i: usize| format!("\"{i:x}\":\"\",").into_bytes();
        let close = |opening: &str, body: Vec<u8>, closing: &str| {
            let body = body.strip_suffix(b",").unwrap_or(&body);
            [opening.as_bytes(), body, closing.as_bytes()].concat()
        };
        let with_length = |json: Vec<u8>| [&(json.len() as u64).to_le_bytes()[..], &json].concat();
        let tensors = with_length(close("{", fill(size, tensor).1, "}"));
        assert!(bounded(&tensors, |b| SafeTensors::parse("f", b).is_ok()) || size > SMALL);
        let metadata = with_length(close("{\"__metadata__\":{", fill(size, metadata).1, "}}"));
        assert!(!bounded(&metadata, |b| SafeTensors::parse("f", b).is_ok()), "100,000 free-form strings");
        let entry = |i: usize| format!("\"{i:x}\":\"a.safetensors\",").into_bytes();
        let index = close("{\"weight_map\":{", fill(size, entry).1, "}}");
        assert!(bounded(&index, |b| ShardIndex::parse("f", b).is_ok()) || size > SMALL);
    }
    let values = [b"{\"a\":[".to_vec(), b"0,".repeat((1 << 19) - 10), b"0]}".to_vec()].concat();
    assert!(bounded(&values, |b| Config::parse("f", b).is_ok()));
    let objects = [b"{\"a\":[".to_vec(), b"{\"\":[]},".repeat((1 << 17) - 10), b"0]}".to_vec()].concat();
    assert!(bounded(&objects, |b| Config::parse("f", b).is_ok()));
}

/// Deep JSON must not overflow the stack.
#[test]
fn deep_json_is_refused() {
    let deep = "{\"a\":".repeat(100_000);
    assert!(Config::parse("f", deep.as_bytes()).is_err());
    assert!(ShardIndex::parse("f", deep.as_bytes()).is_err());
    let file = [&(deep.len() as u64).to_le_bytes()[..], deep.as_bytes()].concat();
    assert!(SafeTensors::parse("f", &file).is_err());
}
