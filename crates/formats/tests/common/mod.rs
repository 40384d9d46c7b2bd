//! What several test binaries share.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::path::PathBuf;

/// The folder of golden files.
pub fn golden(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden")).join(name)
}

/// A file of the assets beside the workspace, or `None` and a message.
pub fn asset(name: &str) -> Option<Vec<u8>> {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/assets")).join(name);
    let bytes = std::fs::read(&path).ok();
    if bytes.is_none() {
        println!("skipped: asset {name} is not there");
    }
    bytes
}

/// A GGUF file written byte by byte, with no checks at all: what an attacker has.
pub struct RawGguf {
    pub version: u32,
    pub tensor_count: Option<u64>,
    pub pair_count: Option<u64>,
    pub pairs: Vec<Vec<u8>>,
    pub tensors: Vec<Vec<u8>>,
    pub alignment: usize,
    pub data: Vec<u8>,
}

impl Default for RawGguf {
    fn default() -> Self {
        RawGguf {
            version: 3,
            tensor_count: None,
            pair_count: None,
            pairs: Vec::new(),
            tensors: Vec::new(),
            alignment: 32,
            data: Vec::new(),
        }
    }
}

pub fn string(text: &[u8]) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text].concat()
}

impl RawGguf {
    /// A pair with the given type number and the bytes of its value.
    pub fn pair(mut self, key: &[u8], type_id: u32, value: &[u8]) -> Self {
        self.pairs.push([&string(key)[..], &type_id.to_le_bytes(), value].concat());
        self
    }

    pub fn tensor(mut self, name: &[u8], dims: &[u64], type_id: u32, offset: u64) -> Self {
        let mut bytes = string(name);
        bytes.extend((dims.len() as u32).to_le_bytes());
        dims.iter().for_each(|dim| bytes.extend(dim.to_le_bytes()));
        bytes.extend(type_id.to_le_bytes());
        bytes.extend(offset.to_le_bytes());
        self.tensors.push(bytes);
        self
    }

    pub fn data(mut self, data: Vec<u8>) -> Self {
        self.data = data;
        self
    }

    /// Everything before the padding and the data.
    pub fn header(&self) -> Vec<u8> {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(self.version.to_le_bytes());
        bytes.extend(self.tensor_count.unwrap_or(self.tensors.len() as u64).to_le_bytes());
        bytes.extend(self.pair_count.unwrap_or(self.pairs.len() as u64).to_le_bytes());
        self.pairs.iter().chain(&self.tensors).for_each(|part| bytes.extend(part));
        bytes
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.header();
        bytes.resize(bytes.len().next_multiple_of(self.alignment), 0);
        bytes.extend(&self.data);
        bytes
    }
}

/// A tiny file with a value of every type, nested arrays, and tensors of many types.
pub fn tiny_gguf() -> RawGguf {
    let u64s = |v: &[u64]| -> Vec<u8> { v.iter().flat_map(|x| x.to_le_bytes()).collect() };
    let array = |type_id: u32, count: u64, items: &[u8]| -> Vec<u8> {
        [&type_id.to_le_bytes()[..], &count.to_le_bytes(), items].concat()
    };
    let nested = array(9, 2, &[array(0, 2, &[1, 2]), array(8, 1, &string(b"x"))].concat());
    RawGguf::default()
        .pair(b"general.architecture", 8, &string(b"llama"))
        .pair(b"general.alignment", 4, &32u32.to_le_bytes())
        .pair(b"u8", 0, &[7])
        .pair(b"i16", 3, &(-2i16).to_le_bytes())
        .pair(b"f32", 6, &1.5f32.to_le_bytes())
        .pair(b"bool", 7, &[1])
        .pair(b"u64", 10, &u64s(&[1 << 40]))
        .pair(b"f64", 12, &0.1f64.to_le_bytes())
        .pair(b"tokens", 9, &array(8, 2, &[string(b"a"), string("ü".as_bytes())].concat()))
        .pair(b"scores", 9, &array(6, 2, &[0; 8]))
        .pair(b"bools", 9, &array(7, 3, &[0, 1, 1]))
        .pair(b"nested", 9, &nested)
        .tensor(b"norm", &[8], 0, 0)
        .tensor(b"half", &[4, 2], 1, 32)
        .tensor(b"q4_0", &[32, 2], 2, 64)
        .tensor(b"i2_s", &[128], 36, 128)
        .tensor(b"q2_0", &[64, 1], 42, 192)
        .tensor(b"ptq1", &[128, 1, 1, 1], 143, 224)
        .data((0..252u32).map(|i| if (128..160).contains(&i) { 0x55 } else { i as u8 }).collect())
}
