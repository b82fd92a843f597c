//! The wire messages, generated from `spec/proto`.

#[expect(
    missing_debug_implementations,
    clippy::use_self,
    clippy::allow_attributes_without_reason,
    reason = "generated code"
)]
mod generated;

pub use generated::*;
