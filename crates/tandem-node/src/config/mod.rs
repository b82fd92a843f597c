//! Settings: flags over environment over `tandem.toml` over defaults, each value with where it came from.

mod cidr;
mod layers;
mod settings;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tandem_api::{Problem, Redundancy};
use tandem_core::call::Strangers;
use tandem_proto::ids::NetworkKey;
use tandem_proto::multiaddr::PeerAddress;
use tandem_proto::names::NetworkId;

pub use cidr::{Cidr, CidrError};
pub use layers::{ConfigError, Flags, Loaded, load, load_under};
pub(crate) use settings::nearest_of;
pub use settings::{SETTINGS, Setting, SettingKind, is_setting};

use crate::messages::{Code, TERMS};
use crate::overlay::Places;
use crate::policy::Policy;

/// The settings file in the data folder.
pub const FILE_NAME: &str = "tandem.toml";
/// The longest time that `answer_after` may say: a caller waits for 60 s.
pub const ANSWER_AFTER_MAX: Duration = Duration::from_secs(50);

/// What a node follows. Made by [`load`], or by hand from [`Config::default`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Networks with different ids do not see each other: 1 to 32 of a–z, 0–9 and `-`.
    pub network: String,
    /// The key of a private network: it says who belongs to it, and only they take part.
    pub network_key: Option<NetworkKey>,
    /// Where this installation's memberships are; `None`: in the data folder.
    pub membership: Option<PathBuf>,
    /// Supernodes to begin with, as `/ip4/…/udp/…/quic-v1/p2p/…`, checked.
    pub bootstrap: Vec<String>,
    /// Where to listen: UDP and TCP for the overlay, the port above each for the relay over UDP. None: a leaf. An IPv6
    /// address takes no IPv4: both families are given one by one.
    pub listen: Vec<SocketAddr>,
    /// Further places for TCP only, overlay and relay in one: port 443, for those whose network lets nothing else out.
    pub listen_tcp: Vec<SocketAddr>,
    /// Where others reach this supernode, if that is not `listen` itself: behind a NAT that passes the port on, and the
    /// one above it, unchanged (also a cloud's one-to-one NAT), or with `listen` on all addresses of the machine.
    pub external: Vec<SocketAddr>,
    /// The same for TCP alone: written `IP:PORT/tcp` in the setting `external`.
    pub external_tcp: Vec<SocketAddr>,
    /// The local API, always on loopback.
    pub api: SocketAddr,
    /// Whether this machine's network costs by the byte: then nobody is served.
    pub metered: MeteredSetting,
    pub volunteer: Volunteer,
    /// What an incoming call meets.
    pub answer: Answer,
    /// An automatic answer rings first for so long, at most [`ANSWER_AFTER_MAX`].
    pub answer_after: Duration,
    pub redundancy: Redundancy,
    /// Never show the other side of a call this machine's address.
    pub relay_only: bool,
    /// Ask the router to forward a port to a call with a contact (PCP, NAT-PMP, UPnP).
    pub port_mapping: bool,
    /// What a call of somebody who is no contact and has no invitation meets; see [`Self::strangers`].
    pub strangers: Option<Strangers>,
    /// Strangers for whom it rings get the media description before somebody picks up, as contacts do.
    pub early_media: bool,
    /// Ranges that count as public besides the global ones: a lab's, or a company's.
    pub public_ranges: Vec<Cidr>,
    /// A level for Tandem's own log (`info`), or a whole `tracing` filter (`tandem_node=debug,libp2p=info`).
    pub log: String,
    /// What an organisation allows on this machine. No setting: [`load`] reads it from where only root can write.
    pub policy: Arc<Policy>,
}

/// What the owner gives to others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volunteer {
    pub directory: bool,
    pub relay: bool,
    /// Number of the terms the owner accepted.
    pub accept_terms: Option<u32>,
    pub caps: Caps,
    /// As [`Config::policy`]: no consent goes beyond it. Set by [`Config::held`].
    pub policy: Arc<Policy>,
}

/// The most that is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caps {
    /// Devices this node is a home for.
    pub devices: u32,
    /// Relayed calls at once.
    pub calls: u32,
    /// Relayed traffic, both directions together.
    pub bits_per_second: u64,
    /// Relayed traffic in a calendar month (UTC), both directions together.
    pub bytes_per_month: u64,
    /// What the directory's connections carry in a calendar month (UTC), both ways.
    pub directory_bytes_per_month: u64,
}

/// What the owner says of the network's cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MeteredSetting {
    /// The system is asked (NetworkManager); where it does not know, the network does not count as metered.
    Auto,
    Yes,
    No,
}

impl MeteredSetting {
    fn of(metered: bool) -> Self {
        if metered { Self::Yes } else { Self::No }
    }

    /// `None`: the system is to be asked.
    #[must_use]
    pub fn said(self) -> Option<bool> {
        match self {
            Self::Auto => None,
            Self::Yes => Some(true),
            Self::No => Some(false),
        }
    }
}

/// What an incoming call meets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Ring until a person answers or declines.
    Ring,
    /// Answer by itself and send back what arrives.
    Echo,
    /// Answer by itself and play this WAV file.
    Wav(PathBuf),
}

impl Default for Config {
    fn default() -> Self {
        Self {
            network: NetworkId::default().to_string(),
            network_key: None,
            membership: None,
            bootstrap: Vec::new(),
            listen: Vec::new(),
            listen_tcp: Vec::new(),
            external: Vec::new(),
            external_tcp: Vec::new(),
            api: SocketAddr::from((Ipv4Addr::LOCALHOST, 7710)),
            metered: MeteredSetting::Auto,
            volunteer: Volunteer {
                directory: false,
                relay: false,
                accept_terms: None,
                caps: Caps::default(),
                policy: Arc::default(),
            },
            answer: Answer::Ring,
            answer_after: Duration::ZERO,
            redundancy: Redundancy::Auto,
            relay_only: false,
            port_mapping: true,
            strangers: None,
            early_media: true,
            public_ranges: Vec::new(),
            log: "info".to_owned(),
            policy: Arc::default(),
        }
    }
}

impl Default for Caps {
    fn default() -> Self {
        Self {
            devices: 500,
            calls: 20,
            bits_per_second: 10_000_000,
            bytes_per_month: 100_000_000_000,
            directory_bytes_per_month: 100_000_000_000,
        }
    }
}

impl Volunteer {
    /// Did the owner ask to serve at all?
    #[must_use]
    pub fn any(&self) -> bool {
        self.directory || self.relay
    }
}

impl Config {
    /// Whether a node may start with these settings: what no single value can tell.
    ///
    /// # Errors
    /// The problem to show: consent missing, nowhere to listen or to be reached, API not on loopback.
    pub fn check(&self) -> Result<(), Problem> {
        if !self.api.ip().is_loopback() {
            return Err(Code::ApiNotLoopback.with(&[("address", &self.api.to_string())]));
        }
        self.policy.check(self).map_err(|refusal| refusal.problem())?;
        if !self.volunteer.any() {
            return Ok(());
        }
        // Older terms do not keep anybody from calling: such a node serves nobody and says why.
        if !self.volunteer.accept_terms.is_some_and(|terms| (1..=TERMS).contains(&terms)) {
            return Err(Code::TermsNotAccepted.with(&[("terms", &TERMS.to_string())]));
        }
        if self.listen.is_empty() {
            return Err(Code::VolunteerListen.problem());
        }
        let nowhere = self.listen.iter().chain(&self.listen_tcp).find(|at| at.ip().is_unspecified());
        match nowhere.filter(|_| self.external.is_empty()) {
            Some(listen) => Err(Code::VolunteerExternal.with(&[("address", &listen.to_string())])),
            None => Ok(()),
        }
    }

    /// The same settings, made to obey [`Self::policy`].
    #[must_use]
    pub fn held(mut self) -> Self {
        let policy = Arc::clone(&self.policy);
        let changed = self.obey(policy);
        if !changed.is_empty() {
            tracing::warn!(settings = ?changed, "the policy of this machine holds these settings");
        }
        self
    }

    /// Follows this policy. Returns the keys of the settings that had to change.
    pub(crate) fn obey(&mut self, policy: Arc<Policy>) -> Vec<&'static str> {
        let changed = policy.hold(self);
        self.volunteer.policy = Arc::clone(&policy);
        self.policy = policy;
        changed
    }

    /// What a call of a stranger meets. Unless it is set: where a machine answers by itself it rings, since nobody is
    /// disturbed; where a person answers it does not.
    #[must_use]
    pub fn strangers(&self) -> Strangers {
        let default = if self.answer == Answer::Ring { Strangers::Requests } else { Strangers::Ring };
        self.strangers.unwrap_or(default)
    }

    /// Where others reach this supernode; none on a leaf.
    #[must_use]
    pub fn reached_at(&self) -> Places {
        if self.external.is_empty() {
            Places { full: self.listen.clone(), tcp: self.listen_tcp.clone() }
        } else {
            Places { full: self.external.clone(), tcp: self.external_tcp.clone() }
        }
    }

    /// The address that this machine's own connections are made from: the first of `listen` that names one.
    #[must_use]
    pub fn source_address(&self) -> Option<IpAddr> {
        self.listen.iter().map(SocketAddr::ip).find(|ip| !ip.is_unspecified())
    }

    /// `bootstrap`, parsed.
    #[must_use]
    pub fn bootstrap_addresses(&self) -> Vec<PeerAddress> {
        self.bootstrap.iter().filter_map(|text| text.parse().ok()).collect()
    }

    /// All ranges that count as public besides the global ones: those configured, and the whole block of loopback or
    /// private addresses in which `listen`, `external`, a `bootstrap` address or one of `known` lies. Somebody who builds a
    /// network there by hand means it to work there.
    #[must_use]
    pub fn effective_public_ranges(&self, known: &[IpAddr]) -> Vec<Cidr> {
        let mut ranges = self.public_ranges.clone();
        let own = self.listen.iter().map(SocketAddr::ip).filter(|ip| !ip.is_unspecified());
        let bootstrap = self.bootstrap_addresses().into_iter().map(|peer| peer.address.ip);
        let external = self.external.iter().map(SocketAddr::ip);
        for ip in own.chain(external).chain(bootstrap).chain(known.iter().copied()) {
            if let Some(block) = cidr::special_block(ip)
                && !ranges.contains(&block)
            {
                ranges.push(block);
            }
        }
        ranges
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_built_on_loopback_counts_it_as_public() {
        let mut config = Config::default();
        assert!(config.effective_public_ranges(&[]).is_empty());
        config.listen = vec!["127.3.0.1:4000".parse().unwrap()];
        assert_eq!(config.effective_public_ranges(&[]), ["127.0.0.0/8".parse().unwrap()]);
        let known = ["10.1.2.3".parse().unwrap(), "192.0.2.1".parse().unwrap()];
        assert_eq!(config.effective_public_ranges(&known).len(), 2, "192.0.2.1 is no block of its own");
    }

    #[test]
    fn volunteering_needs_consent_and_a_place() {
        let mut config = Config::default();
        config.volunteer.relay = true;
        assert_eq!(config.check().unwrap_err().code, "T1204");
        config.volunteer.accept_terms = Some(TERMS + 1);
        assert_eq!(config.check().unwrap_err().code, "T1204");
        config.volunteer.accept_terms = Some(TERMS);
        assert_eq!(config.check().unwrap_err().code, "T1205");
        config.listen = vec!["0.0.0.0:4000".parse().unwrap()];
        assert_eq!(config.check().unwrap_err().code, "T1206");
        config.external = vec!["198.51.100.7:4000".parse().unwrap()];
        assert_eq!(config.check(), Ok(()));
        assert_eq!(config.reached_at().full, config.external);
        config.api = "0.0.0.0:7710".parse().unwrap();
        assert_eq!(config.check().unwrap_err().code, "T1306");
    }
}
