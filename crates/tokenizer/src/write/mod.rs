//! One writer for each kind of file.

mod gguf;
mod json;
mod tiktoken;
