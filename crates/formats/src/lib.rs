//! Model files, read and written: GGUF, safetensors with Hugging Face's `config.json`, and llama2.c's
//! model file; and the codecs of their tensor types.
//!
//! | module | what |
//! |---|---|
//! | [`gguf`] | GGUF version 2 and 3: [`gguf::Gguf::parse`], [`gguf::Writer`] |
//! | [`codec`] | tensor bytes to weights: [`codec::TensorView`], [`codec::decode`] |
//! | [`safetensors`] | safetensors files and sharded folders |
//! | [`hf`] | `config.json`, `quantization_config`, packed BitNet weights |
//! | [`llama2c`] | llama2.c's model file |
//!
//! # Trust
//! A file is the word of a stranger. Everything here works over a byte slice (usually a mapped file) and
//! checks every count, length, offset and product against the bytes that are there before it believes or
//! allocates anything: parsing takes at most the file's size plus 64 MiB of memory, whatever the file says.
//! What cannot be right comes back as a [`FormatError`] that names the file, the place, what was found, what
//! was expected and what to do. Nothing here panics on input, and nothing prints.
//!
//! # Example
//! ```
//! use chalot_formats::gguf::{Gguf, Header, Value};
//! use chalot_formats::TensorType;
//!
//! let mut header = Header::new();
//! header.set("general.architecture", Value::from("llama"));
//! header.tensor("output_norm.weight", &[4], TensorType::F32);
//! let mut writer = header.write_to("example.gguf", Vec::new())?;
//! writer.write_tensor(&to_bytes(&[1.0, 2.0, 3.0, 4.0]))?;
//! let bytes = writer.finish()?;
//!
//! let gguf = Gguf::parse("example.gguf", &bytes)?;
//! assert_eq!(gguf.metadata.required_str("general.architecture")?, "llama");
//! let norm = gguf.view("output_norm.weight", &bytes)?.to_f32()?;
//! assert_eq!(norm, [1.0, 2.0, 3.0, 4.0]);
//! # fn to_bytes(x: &[f32]) -> Vec<u8> { x.iter().flat_map(|x| x.to_le_bytes()).collect() }
//! # Ok::<(), chalot_formats::FormatError>(())
//! ```

mod cursor;
mod error;
mod tensor_type;

pub mod codec;
pub mod gguf;
pub mod hf;
pub mod llama2c;
pub mod safetensors;

pub use error::{ErrorKind, FormatError};
pub use tensor_type::{BlockSize, TensorType};
