//! The wire messages, generated from `spec/proto` by `cargo xtask proto`.

mod generated;

pub use generated::*;
