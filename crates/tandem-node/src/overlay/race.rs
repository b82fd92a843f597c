//! Reaching a device: its homes are tried in order, the next one when the one before failed or took too long, and the
//! first circuit whose stream opens is used.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use libp2p::swarm::ConnectionId;
use libp2p::{Multiaddr, PeerId};
use tandem_api::DeviceFailure;
use tandem_proto::ids::DeviceKey;

/// A race without a winner ends here.
const GIVE_UP_AFTER: Duration = Duration::from_secs(12);
const RACES_MAX: usize = 256;
const ROUTES_MAX: usize = 8;

/// One supernode that may carry the circuit.
#[derive(Debug, Clone)]
pub(super) struct Route {
    pub(super) relay: PeerId,
    pub(super) addresses: Vec<Multiaddr>,
}

/// All races, by the number of their request.
#[derive(Debug, Default)]
pub(super) struct Races(BTreeMap<u64, Race>);

#[derive(Debug)]
struct Race {
    device: DeviceKey,
    peer: PeerId,
    untried: Vec<Route>, // last first
    stagger: Duration,
    next_at: Instant,
    give_up_at: Instant,
    attempts: Vec<Attempt>,
    last_error: String,
    /// What tells most of all that went wrong.
    failure: Option<DeviceFailure>,
}

impl Race {
    fn blame(&mut self, failure: DeviceFailure, error: &str) {
        self.failure = self.failure.max(Some(failure));
        error.clone_into(&mut self.last_error);
    }

    /// Without a winner: what was waited for last, and what failed before.
    fn verdict(mut self) -> (DeviceFailure, String) {
        for attempt in std::mem::take(&mut self.attempts) {
            let at_home = attempt.state.connection().is_some();
            let failure = if at_home { DeviceFailure::NotThere } else { DeviceFailure::HomesUnreachable };
            self.failure = self.failure.max(Some(failure));
        }
        (self.failure.unwrap_or(DeviceFailure::Other), self.last_error)
    }
}

#[derive(Debug)]
struct Attempt {
    relay: PeerId,
    state: AttemptState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AttemptState {
    /// Waits for a connection to the supernode.
    Linking,
    /// That connection is there; the circuit is to be dialled.
    Linked,
    Dialing(ConnectionId),
    Opening(ConnectionId),
}

impl AttemptState {
    fn connection(self) -> Option<ConnectionId> {
        match self {
            Self::Linking | Self::Linked => None,
            Self::Dialing(id) | Self::Opening(id) => Some(id),
        }
    }
}

/// What to do now, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RaceAction {
    /// Get a connection to this supernode; then [`Races::linked`] or [`Races::link_failed`].
    Link(PeerId, Vec<Multiaddr>),
    /// Dial the device through the supernode, and tell the number to [`Races::dialing`].
    Dial {
        request: u64,
        relay: PeerId,
        device: PeerId,
    },
    Failed {
        request: u64,
        failure: DeviceFailure,
        reason: String,
    },
}

/// The circuit that is used.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Won {
    pub(super) request: u64,
    pub(super) device: DeviceKey,
    pub(super) relay: PeerId,
    /// Connections to close.
    pub(super) losers: Vec<ConnectionId>,
}

impl Races {
    /// Starts one. `Err`: why not.
    pub(super) fn start(
        &mut self,
        request: u64,
        (device, peer): (DeviceKey, PeerId),
        mut routes: Vec<Route>,
        stagger: Duration,
        now: Instant,
    ) -> Result<(), &'static str> {
        if self.0.len() >= RACES_MAX {
            return Err("too many devices are being reached at once");
        }
        if routes.is_empty() {
            return Err("no route to the device is known");
        }
        routes.truncate(ROUTES_MAX);
        routes.reverse();
        let race = Race {
            device,
            peer,
            untried: routes,
            stagger,
            next_at: now,
            give_up_at: now + GIVE_UP_AFTER,
            attempts: Vec::new(),
            last_error: String::from("no answer"),
            failure: None,
        };
        self.0.insert(request, race);
        Ok(())
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let due = |race: &Race| {
            if race.untried.is_empty() { race.give_up_at } else { race.next_at.min(race.give_up_at) }
        };
        self.0.values().map(due).min()
    }

    /// The next thing to do, until there is none.
    pub(super) fn poll(&mut self, now: Instant) -> Option<RaceAction> {
        for (&request, race) in &mut self.0 {
            if let Some(attempt) = race.attempts.iter_mut().find(|a| a.state == AttemptState::Linked) {
                // The driver answers with the number at once; until then nothing else may take this attempt.
                attempt.state = AttemptState::Linking;
                return Some(RaceAction::Dial { request, relay: attempt.relay, device: race.peer });
            }
            let lost = race.untried.is_empty() && race.attempts.is_empty();
            if lost || now >= race.give_up_at {
                let (failure, reason) = self.0.remove(&request)?.verdict();
                return Some(RaceAction::Failed { request, failure, reason });
            }
            if (now >= race.next_at || race.attempts.is_empty())
                && let Some(route) = race.untried.pop()
            {
                race.next_at = now + race.stagger;
                race.attempts.push(Attempt { relay: route.relay, state: AttemptState::Linking });
                return Some(RaceAction::Link(route.relay, route.addresses));
            }
        }
        None
    }

    /// A connection to this supernode stands.
    pub(super) fn linked(&mut self, relay: &PeerId) {
        for attempt in self.0.values_mut().flat_map(|race| &mut race.attempts) {
            if attempt.relay == *relay && attempt.state == AttemptState::Linking {
                attempt.state = AttemptState::Linked;
            }
        }
    }

    pub(super) fn link_failed(&mut self, relay: &PeerId, error: &str) {
        for race in self.0.values_mut() {
            let before = race.attempts.len();
            race.attempts.retain(|a| a.relay != *relay || a.state.connection().is_some());
            if race.attempts.len() < before {
                race.blame(DeviceFailure::HomesUnreachable, error);
            }
        }
    }

    pub(super) fn dialing(&mut self, request: u64, relay: &PeerId, id: ConnectionId) {
        let Some(race) = self.0.get_mut(&request) else { return };
        if let Some(attempt) =
            race.attempts.iter_mut().find(|a| a.relay == *relay && a.state.connection().is_none())
        {
            attempt.state = AttemptState::Dialing(id);
        }
    }

    /// `true`: open a stream on it. `false`: it belongs to no race (any more).
    pub(super) fn established(&mut self, id: ConnectionId) -> bool {
        let attempts = self.0.values_mut().flat_map(|race| &mut race.attempts);
        for attempt in attempts {
            if attempt.state == AttemptState::Dialing(id) {
                attempt.state = AttemptState::Opening(id);
                return true;
            }
        }
        false
    }

    /// A dial failed, a connection closed, or its stream did not open.
    pub(super) fn failed(&mut self, id: ConnectionId, failure: DeviceFailure, error: &str) {
        for race in self.0.values_mut() {
            if let Some(at) = race.attempts.iter().position(|a| a.state.connection() == Some(id)) {
                race.attempts.remove(at);
                race.blame(failure, error);
                return;
            }
        }
    }

    /// A stream opened on this connection: the race is over.
    pub(super) fn opened(&mut self, id: ConnectionId) -> Option<Won> {
        let is_this = |a: &Attempt| a.state == AttemptState::Opening(id);
        let request = *self.0.iter().find(|(_, race)| race.attempts.iter().any(is_this))?.0;
        let race = self.0.remove(&request)?;
        let relay = race.attempts.iter().find(|a| is_this(a))?.relay;
        let losers = race.attempts.iter().filter_map(|a| a.state.connection()).filter(|other| *other != id);
        Some(Won { request, device: race.device, relay, losers: losers.collect() })
    }

    /// Ends all of them; their requests.
    pub(super) fn clear(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.0).into_keys().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAGGER: Duration = Duration::from_millis(300);

    fn id(n: usize) -> ConnectionId {
        ConnectionId::new_unchecked(n)
    }

    struct World {
        races: Races,
        relays: [PeerId; 2],
        now: Instant,
    }

    fn world() -> World {
        let mut world = World {
            races: Races::default(),
            relays: [PeerId::random(), PeerId::random()],
            now: Instant::now(),
        };
        let routes = world.relays.map(|relay| Route { relay, addresses: vec![] }).to_vec();
        world.races.start(1, (DeviceKey([1; 32]), PeerId::random()), routes, STAGGER, world.now).unwrap();
        world
    }

    impl World {
        fn link(&mut self, n: usize, after: Duration) {
            let action = self.races.poll(self.now + after);
            assert_eq!(action, Some(RaceAction::Link(self.relays[n], vec![])));
        }

        fn dial(&mut self, n: usize, connection: ConnectionId) {
            self.races.linked(&self.relays[n]);
            let action = self.races.poll(self.now);
            assert!(
                matches!(action, Some(RaceAction::Dial { request: 1, relay, .. }) if relay == self.relays[n])
            );
            self.races.dialing(1, &self.relays[n], connection);
        }
    }

    #[test]
    fn a_silent_route_is_overtaken_and_closed() {
        let mut w = world();
        w.link(0, Duration::ZERO);
        w.dial(0, id(1));
        assert_eq!(w.races.poll(w.now), None);
        assert_eq!(w.races.poll_timeout(), Some(w.now + STAGGER));
        w.link(1, STAGGER);
        w.dial(1, id(2));
        assert!(w.races.established(id(2)));
        assert!(!w.races.established(id(2)));
        let won = w.races.opened(id(2)).unwrap();
        assert_eq!((won.request, won.relay, won.losers), (1, w.relays[1], vec![id(1)]));
        assert!(!w.races.established(id(1)), "a late circuit belongs to no race");
        assert_eq!(w.races.poll_timeout(), None);
    }

    #[test]
    fn a_failed_route_gives_way_at_once_and_the_last_reason_is_told() {
        let mut w = world();
        w.link(0, Duration::ZERO);
        w.races.link_failed(&w.relays[0], "refused");
        w.link(1, Duration::ZERO);
        w.dial(1, id(2));
        w.races.failed(id(2), DeviceFailure::NotThere, "the device is not there");
        let failed = RaceAction::Failed {
            request: 1,
            failure: DeviceFailure::NotThere,
            reason: "the device is not there".into(),
        };
        assert_eq!(w.races.poll(w.now), Some(failed));
    }

    #[test]
    fn what_tells_most_is_told() {
        let failure = |w: &mut World| match w.races.poll(w.now + GIVE_UP_AFTER) {
            Some(RaceAction::Failed { failure, .. }) => failure,
            other => panic!("{other:?}"),
        };
        let mut w = world();
        w.link(0, Duration::ZERO);
        w.link(1, STAGGER);
        w.races.link_failed(&w.relays[1], "refused");
        assert_eq!(failure(&mut w), DeviceFailure::HomesUnreachable, "one refused, one silent");
        let mut w = world();
        w.link(0, Duration::ZERO);
        w.dial(0, id(1));
        w.link(1, STAGGER);
        w.races.link_failed(&w.relays[1], "refused");
        assert_eq!(failure(&mut w), DeviceFailure::NotThere, "a home was reached, the device was silent");
        let mut w = world();
        w.link(0, Duration::ZERO);
        w.dial(0, id(1));
        w.races.failed(id(1), DeviceFailure::Other, "full");
        w.link(1, STAGGER);
        w.races.link_failed(&w.relays[1], "refused");
        assert_eq!(failure(&mut w), DeviceFailure::Other, "one of its homes did answer");
    }

    #[test]
    fn nothing_lasts_for_ever() {
        let mut w = world();
        w.link(0, Duration::ZERO);
        w.link(1, STAGGER);
        let end = w.races.poll_timeout().unwrap();
        assert_eq!(end, w.now + GIVE_UP_AFTER);
        assert!(matches!(w.races.poll(end), Some(RaceAction::Failed { request: 1, .. })));
    }
}
