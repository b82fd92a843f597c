//! The NAT lab: a private internet in network namespaces, in which the real `tandem` binary runs.
//!
//! [`Plan`] says what there is: servers, homes behind each kind of NAT, carriers. [`Lab::build`] makes it; dropping the
//! [`Lab`] removes it, as do SIGINT and SIGTERM. [`Process`] is one node in it, [`Call`] one call between two.
//! [`Link`] changes a line while packets are on it; [`Router::flush`] makes a NAT forget; [`Host::move_to`] takes a
//! host to another network. `docs/LAB.md` explains all of it.

mod address;
pub mod attacks;
mod call;
mod cast;
pub mod changes;
pub mod election;
mod figures;
mod lab;
pub mod mapping;
pub mod matrix;
mod namespace;
mod nat;
mod plan;
pub mod privacy;
mod process;
mod shell;
pub mod sound;
mod wire;

pub use call::{Call, CallOutcome, CallPlan};
pub use lab::{Host, Lab, Router};
pub use namespace::{Namespace, can_make_namespaces, why_not};
pub use plan::{CarrierPlan, Families, HomePlan, Nat, Plan, ServerPlan};
pub use process::{Ground, NodePlan, Process, Starting};
pub use wire::{Conditions, Counts, Link, Loss, UNDER_WAY_MAX, Way};
