//! The wire messages, generated from `spec/proto` by `cargo xtask proto`.

// As the generator writes it, so that `cargo xtask proto --check` can compare.
#[rustfmt::skip]
mod generated;

pub use generated::*;
