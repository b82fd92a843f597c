//! The election as the person is told of it.

use tandem_api::{CandidateView, ServingState, WayView};
use tandem_core::election::{Carrier, Family, State, Way};
use tandem_core::time::Now;

use super::Election;

impl Election {
    /// What this node does for others.
    pub(crate) fn serving_state(&self) -> ServingState {
        match self.state() {
            State::Plain => ServingState::Off,
            State::Reserve => ServingState::Reserve,
            State::Supernode => ServingState::Serving,
            State::Draining => ServingState::Draining,
        }
    }

    /// What others found out about it, and what came of being asked.
    pub(crate) fn view(&self, now: Now) -> CandidateView {
        let figures = self.figures();
        CandidateView {
            ways: self.confirmed_ways(now).into_iter().map(way).collect(),
            recruited: figures.recruited,
            promoted_itself: figures.promoted_itself,
            invited: figures.invited,
            accepted: figures.accepted,
            invitations_ignored: figures.invitations_ignored,
            invitations_refused: figures.invitations_refused,
            orders_ignored: figures.orders_ignored,
            reserves_known: u32::try_from(figures.reserves_known).unwrap_or(u32::MAX),
        }
    }
}

fn way(way: Way) -> WayView {
    WayView { ipv6: way.family == Family::V6, tcp: way.carrier == Carrier::Tcp, mapped: way.mapped }
}
