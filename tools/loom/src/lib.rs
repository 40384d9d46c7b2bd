//! The pool of `chalot-tensor`, compiled with loom's atomics, cells and threads. `tests/protocol.rs` has loom try every order of
//! events that the memory model of the language allows, in small cases.
//!
//! Run it with `cargo test` in this folder. Loom reports accesses that race, deadlocks (a wake-up that is lost), and panics.
#[path = "../../../crates/tensor/src/ahead.rs"]
mod ahead;
#[path = "../../../crates/tensor/src/pool.rs"]
pub mod pool;
mod sync;

pub use sync::UnsafeCell;
