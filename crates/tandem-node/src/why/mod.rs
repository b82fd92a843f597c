//! Why a call went the way it went.
//!
//! `recorder` collects what one end observes, within bounds; `explain` draws sentences from it and knows nothing else, so
//! that a stored call is explained as well as one that goes on.

mod explain;
mod past;
mod recorder;

pub(crate) use explain::conclude;
pub use explain::{explain, short};
pub use past::{of_past_call, of_report, read_report, reports};
pub(crate) use recorder::{CallFact, Recorder, put_session};
