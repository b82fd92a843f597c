//! Looking about: the ways in, what the machine has to spare, who serves; and what the scout is told.

use tandem_core::election::{Carrier, Way};
use tandem_core::time::Now;
use tandem_proto::ids::ServiceKey;
use tandem_proto::network::group_of_all;
use tandem_proto::signed::SupernodeDescriptor;

use super::Seen;
use super::sight::CANDIDATES_MAX;
use crate::node::event_loop::Node;
use crate::node::listening::WayIn;
use crate::node::scout::{Door, ScoutNews};
use crate::node::supernode::{MachineLoad, Reached};
use crate::overlay::SupernodeAddress;

/// How often it looks about: as often as the clocks are compared, so that nothing wakes up more often for it.
const LOOK_MS: u64 = 1_000;
/// How often the processors are looked at while this node serves.
const PROCESSORS_MS: u64 = 10_000;
/// Supernodes that the service part is told of when it begins to serve, and while it finds nobody.
const INTRODUCED_MAX: usize = 8;

impl Node {
    /// Takes up whatever is otherwise than before.
    pub(super) fn look_about(&mut self, now: Now) {
        self.election.desk.look_ms = now.mono_ms + LOOK_MS;
        self.look_at_ways(now);
        self.look_at_machine(now);
        let load = self.load_now(now);
        match self.supernode.as_mut().filter(|supernode| supernode.serves()) {
            Some(supernode) => {
                supernode.note_load(load, now);
                let alive: Vec<Seen> = supernode.in_sight().map(seen).take(CANDIDATES_MAX).collect();
                let (load_percent, no_place) = (supernode.load_percent(), supernode.figures().no_place);
                self.election.handle_sight(&alive, &alive, now);
                self.election.handle_load(load_percent, now);
                self.election.handle_no_place(no_place, now);
                if alive.is_empty() {
                    self.introduce_supernode(now);
                }
            }
            None => self.look_out(now),
        }
    }

    /// How near the machine is to its end.
    fn load_now(&mut self, now: Now) -> MachineLoad {
        let bandwidth_percent = self.volunteering.bandwidth_percent();
        let desk = &mut self.election.desk;
        let is_due = now.mono_ms >= desk.processors_ms;
        if is_due {
            desk.processors_ms = now.mono_ms + PROCESSORS_MS;
        }
        let processors_percent = is_due.then(|| desk.processors.sample(now.mono_ms)).flatten();
        MachineLoad { bandwidth_percent, processors_percent }
    }

    /// Tells the service part whom the person's device and the scout know to be there. What it knew when its sockets were
    /// bound may all be gone; and a supernode that finds no other is one that nobody hears of.
    pub(super) fn introduce_supernode(&mut self, now: Now) {
        let homes = self.person.homes().filter_map(|home| self.peers.address(home));
        let alive = self.election.desk.lookout.alive(now.mono_ms);
        let alive = alive.filter_map(|seen| self.address_of(seen.service));
        let there: Vec<SupernodeAddress> = homes.chain(alive).take(INTRODUCED_MAX).collect();
        if let Some(supernode) = self.supernode.as_mut().filter(|_| !there.is_empty()) {
            supernode.handle_bootstrap(&there, now);
        }
    }

    /// Who serves, as the person's device knows it and the scout finds.
    fn look_out(&mut self, now: Now) {
        let (known, homes) = self.known_to_device(now);
        let lookout = &mut self.election.desk.lookout;
        lookout.set_known(known.clone(), homes, now.mono_ms);
        let alive: Vec<Seen> = lookout.alive(now.mono_ms).copied().collect();
        self.election.handle_sight(&known, &alive, now);
        while let Some(service) = self.election.desk.lookout.poll(now.mono_ms) {
            self.ask_load(service, now);
        }
    }

    /// The supernodes that the person's device knows, in an order that does not change from one look to the next, and its
    /// homes.
    fn known_to_device(&self, now: Now) -> (Vec<Seen>, Vec<ServiceKey>) {
        let own = self.installation.keys.service.public();
        let others = self.peers.descriptors(now.unix_ms).filter(|known| known.service() != own);
        let mut known: Vec<(u64, Seen)> =
            others.map(|known| (self.peers.told(known.service()), seen(known))).collect();
        if known.len() > CANDIDATES_MAX {
            known.sort_unstable_by_key(|(told, _)| std::cmp::Reverse(*told));
            known.truncate(CANDIDATES_MAX);
        }
        let mut known: Vec<Seen> = known.into_iter().map(|(_, seen)| seen).collect();
        known.sort_unstable_by_key(|seen| seen.service);
        let homes = self.person.homes().filter_map(|home| Some(self.peers.get(home)?.service)).collect();
        (known, homes)
    }

    /// Ways in that came or went, and where others reach this node by those that were confirmed.
    pub(super) fn look_at_ways(&mut self, now: Now) {
        let Some(standby) = &mut self.election.desk.standby else { return };
        let ways = standby.listening.ways.borrow_and_update().clone();
        if ways != standby.ways {
            // What was found out of an address says nothing of another one.
            let moved = standby.ways.iter().any(|was| ways.iter().any(|is| is.way == was.way && is != was));
            let open: Vec<Way> = ways.iter().map(|open| open.way).collect();
            standby.ways = ways;
            self.election.handle_listening(&open, moved, now);
        }
        let confirmed = self.election.confirmed_ways(now);
        let refuted = self.election.refuted_ways(now);
        let Some(standby) = &mut self.election.desk.standby else { return };
        // A confirmation that grew old, or that more are wanted of now, is no reason to vanish.
        let (ways, before) = (&standby.ways, std::mem::take(&mut standby.proved));
        let proved = |open: &&WayIn| {
            confirmed.contains(&open.way) || before.contains(open) && !refuted.contains(&open.way)
        };
        standby.proved = ways.iter().filter(proved).copied().collect();
        let mut reached = Reached::default();
        for open in &standby.proved {
            match open.way.carrier {
                Carrier::Udp => reached.add_udp(open.at, open.relay),
                Carrier::Tcp => reached.add_tcp(open.at),
            }
        }
        if reached == standby.reached || reached == Reached::default() {
            return;
        }
        standby.reached = reached.clone();
        if let Some(supernode) = &mut self.supernode {
            supernode.set_reached(reached, now);
        }
    }

    fn look_at_machine(&mut self, now: Now) {
        let situation = self.situation();
        self.election.handle_situation(situation, now);
        let Some(standby) = &mut self.election.desk.standby else { return };
        let headroom = standby.measuring.readings.borrow_and_update().headroom();
        if let Some(headroom) = headroom {
            self.election.handle_headroom(headroom, now);
        }
    }

    // ---- the scout ------------------------------------------------------------------------------------------------

    pub(super) fn ask_check(&mut self, of: ServiceKey, way: Way, now: Now) {
        let at = self.address_of(of);
        let Some((at, standby)) = at.zip(self.election.desk.standby.as_mut()) else {
            return self.election.handle_check_not_asked(of, way, now);
        };
        match standby.ways.iter().find(|open| open.way == way) {
            Some(open) => {
                let relay_port = open.relay.map(|relay| relay.port());
                standby.scout.check(&at, Door { way, port: open.at.port(), relay_port }, now);
            }
            None => self.election.handle_check_not_asked(of, way, now),
        }
    }

    pub(super) fn announce_reserve(&mut self, to: ServiceKey, now: Now) {
        self.look_at_ways(now);
        let at = self.address_of(to);
        if let Some((at, standby)) = at.zip(self.election.desk.standby.as_mut()) {
            let addresses = standby.reached.overlay_bytes();
            standby.scout.notify(&at, &addresses, now);
        }
    }

    pub(super) fn ask_load(&mut self, of: ServiceKey, now: Now) {
        let at = self.address_of(of);
        match at.zip(self.election.desk.standby.as_mut()) {
            Some((at, standby)) => standby.scout.ask_load(&at, now),
            None => self.take_load(of, None, now),
        }
    }

    /// What the scout found out. Says whether there was anything.
    pub(super) fn take_scout_news(&mut self) -> bool {
        let now = self.clock.now();
        let mut any = false;
        while let Some(news) = self.election.desk.standby.as_mut().and_then(|it| it.scout.poll_news()) {
            any = true;
            match news {
                ScoutNews::Checked { by, way, reached, detail } => {
                    tracing::debug!(%by, ?way, reached, detail, "a supernode tried to reach this node");
                    self.election.desk.lookout.answered(&by, None, now.mono_ms);
                    self.election.handle_checked(by, way, reached, now);
                }
                ScoutNews::NotChecked { by, way, retry_after_ms: 0, reason } => {
                    tracing::debug!(%by, ?way, reason, "a supernode could not be asked to reach this node");
                    self.election.handle_check_not_asked(by, way, now);
                }
                ScoutNews::NotChecked { by, way, retry_after_ms, reason } => {
                    tracing::debug!(%by, ?way, reason, "a supernode has no time to reach this node");
                    self.election.desk.lookout.answered(&by, None, now.mono_ms);
                    self.election.handle_check_refused(by, way, retry_after_ms, now);
                }
                ScoutNews::Noted { by, kept } => tracing::debug!(%by, kept, "announced as a reserve"),
                ScoutNews::Load { by, load_percent } => self.take_load(by, load_percent, now),
                ScoutNews::HeldBack { of, way: Some(way), wait_ms } => {
                    let wait_ms = u32::try_from(wait_ms).unwrap_or(u32::MAX);
                    self.election.handle_check_refused(of, way, wait_ms, now);
                }
                ScoutNews::HeldBack { of, way: None, wait_ms } => {
                    self.election.desk.lookout.held_back(&of, wait_ms, now.mono_ms);
                    self.election.handle_load_answer(of, None, now);
                }
            }
        }
        any
    }

    fn take_load(&mut self, by: ServiceKey, load_percent: Option<u32>, now: Now) {
        match load_percent {
            Some(_) => self.election.desk.lookout.answered(&by, load_percent, now.mono_ms),
            None => self.election.desk.lookout.failed(&by, now.mono_ms),
        }
        self.election.handle_load_answer(by, load_percent, now);
    }

    fn address_of(&self, service: ServiceKey) -> Option<SupernodeAddress> {
        let (peer, _) = self.peers.by_key(&service)?;
        self.peers.address(peer)
    }
}

fn seen(descriptor: &SupernodeDescriptor) -> Seen {
    Seen {
        service: descriptor.service(),
        network: group_of_all(descriptor.known_addresses().map(|address| address.ip)),
        roles: descriptor.roles(),
        load_percent: descriptor.load_percent(),
    }
}
