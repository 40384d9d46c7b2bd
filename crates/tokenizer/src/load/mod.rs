//! One reader for each kind of file.

pub(crate) mod gguf;
mod json;
mod json_file;
mod llama2c;
mod ranked;
mod tiktoken;
