//! Loading and writing models: every family's configuration, every form of weights, every error, the native
//! file.
mod config_gguf;
mod config_hf;
mod damage;
mod errors;
mod golden;
mod native;
mod support;
mod weights;
