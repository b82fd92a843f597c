//! A seeded world that runs the policy of `tandem-core` for a million nodes, to see what it does on the day everything
//! fails. docs/SIMULATOR.md says what is modelled, what is left out, and how far to trust it.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "virtual milliseconds fit 32 bits by the wheel's bound, and shares are drawn in floating point"
)]

mod geography;
pub mod policy;
pub mod report;
pub mod scenario;
pub mod wheel;
pub mod world;
