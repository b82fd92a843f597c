//! The network chooses who serves it (DESIGN "Choosing supernodes").
//!
//! [`Eligibility`] says whether this node may serve and what is missing; [`Candidacy`] what it is: plain, reserve,
//! supernode or draining; [`Reserves`] whom a supernode can invite when it has too much to do. Each decides for its own
//! node only, from what it measured and what several others say: there is no input by which somebody else could
//! promote, demote or ban it.

mod candidacy;
mod conditions;
mod confirming;
mod eligibility;
mod reachability;
mod reserves;
mod sight;

pub use candidacy::{Candidacy, Command, Config, Figures, Invitation, Leave, State};
pub use conditions::{Caps, Carrier, Consent, Family, Headroom, Hours, Missing, Role, Situation, Way};
pub use eligibility::{Command as EligibilityCommand, Eligibility, Requirements};
pub use reachability::{CONFIRMING_NETWORKS, Checker};
pub use reserves::{RESERVES_MAX, Reserves};
pub use sight::{ENOUGH_IN_SIGHT, Sighted};
