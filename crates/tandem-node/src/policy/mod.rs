//! What an organisation allows: a policy file that only the system's administrator can write.
//!
//! `parse` reads it, `file` finds it and sees that nobody else could have written it, `words` says what it means. This
//! file decides. Every key only takes something away, so rules never contradict each other: what several keys are about
//! is allowed only where all of them allow it. Without a file everything is allowed.

mod audit;
mod file;
mod keys;
mod parse;
mod warden;
mod words;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;

use tandem_api::Problem;
use tandem_core::call::Strangers;
use tandem_proto::ids::{NetworkKey, ServiceKey};
use tandem_proto::multiaddr::{PeerAddress, TransportAddress};

pub use audit::Audit;
pub use file::{PolicyError, SYSTEM_PATH, Source, check_file, read, system};
pub use keys::{KEYS, Key, KeyKind};
pub use parse::{ParseError, parse};
pub use warden::Warden;

use crate::config::{Caps, Cidr, Config};
use crate::messages::Code;

/// Entries of one list in a policy.
pub const LIST_MAX: usize = 1024;

/// What is allowed; the default allows everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// Where it came from; `None` without a file.
    pub source: Option<Source>,
    pub supernodes: Supernodes,
    pub serving: Serving,
    pub calls: CallRules,
    pub ports: Ports,
    /// The only network this machine's nodes join.
    pub network: Option<String>,
    /// The key of that network, where it is private.
    pub network_key: Option<NetworkKey>,
    /// The file with memberships of it.
    pub membership: Option<PathBuf>,
    /// What a node writes down of what it does.
    pub audit: Option<AuditRules>,
}

/// The audit log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRules {
    /// Absolute; `{uid}` stands for the number of the user that the node runs as.
    pub path: PathBuf,
    /// No new calls while the log cannot be written, and no start.
    pub required: bool,
}

impl AuditRules {
    /// The file itself.
    #[must_use]
    pub fn file(&self) -> PathBuf {
        #[cfg(unix)]
        {
            let uid = nix::unistd::geteuid().to_string();
            PathBuf::from(self.path.to_string_lossy().replace("{uid}", &uid))
        }
        #[cfg(not(unix))]
        self.path.clone()
    }
}

/// Which supernodes this node has to do with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Supernodes {
    /// Where there is such a list, only these.
    pub only_ids: Option<Vec<ServiceKey>>,
    pub only_networks: Option<Vec<Cidr>>,
    pub forbid_ids: Vec<ServiceKey>,
    pub forbid_networks: Vec<Cidr>,
    /// Where nodes begin, besides what their own settings name.
    pub bootstrap: Vec<String>,
}

/// What owners may give to others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Serving {
    /// The roles that may be served, where there is such a list.
    pub roles: Option<Vec<Role>>,
    pub devices: Option<u32>,
    pub calls: Option<u32>,
    pub bits_per_second: Option<u64>,
    pub bytes_per_month: Option<u64>,
    pub directory_bytes_per_month: Option<u64>,
}

/// What a supernode serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    Directory,
    Relay,
}

/// What calls are like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallRules {
    pub relay_only: bool,
    /// The most that a stranger's call may meet.
    pub strangers: Option<Strangers>,
    pub invitations: bool,
    pub recording: bool,
}

impl Default for CallRules {
    fn default() -> Self {
        Self { relay_only: false, strangers: None, invitations: true, recording: true }
    }
}

/// Which ports are used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ports {
    /// Destination ports, where there is such a list.
    pub outgoing: Option<Vec<RangeInclusive<u16>>>,
    /// Local ports of media and of listening.
    pub local: Option<RangeInclusive<u16>>,
    pub mapping: bool,
}

impl Default for Ports {
    fn default() -> Self {
        Self { outgoing: None, local: None, mapping: true }
    }
}

/// What the policy said no to: the key that did, and what it was about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub key: &'static str,
    /// In words that follow "does not allow".
    pub what: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the policy of this machine does not allow {} ({})", self.what, self.key)
    }
}

impl Refusal {
    fn new(key: &'static str, what: impl Into<String>) -> Self {
        Self { key, what: what.into() }
    }

    /// For a person.
    #[must_use]
    pub fn problem(&self) -> Problem {
        Code::PolicyForbids.with(&[("what", &self.what), ("key", self.key), ("file", SYSTEM_PATH)])
    }
}

impl From<tandem_core::election::Role> for Role {
    fn from(role: tandem_core::election::Role) -> Self {
        match role {
            tandem_core::election::Role::Directory => Self::Directory,
            tandem_core::election::Role::Relay => Self::Relay,
        }
    }
}

impl Role {
    /// As in settings.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Directory => "directory",
            Self::Relay => "relay",
        }
    }
}

impl Policy {
    /// Whether there is a policy at all.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// May this node have anything to do with a supernode, as far as its key tells?
    ///
    /// # Errors
    /// Which key says no.
    pub fn may_know(&self, service: ServiceKey) -> Result<(), Refusal> {
        let rules = &self.supernodes;
        if rules.forbid_ids.contains(&service) {
            return Err(Refusal::new("supernodes.forbid_ids", format!("the supernode {service}")));
        }
        match &rules.only_ids {
            Some(ids) if !ids.contains(&service) => {
                Err(Refusal::new("supernodes.only_ids", format!("the supernode {service}")))
            }
            _ => Ok(()),
        }
    }

    /// May a supernode be at this address?
    ///
    /// # Errors
    /// Which key says no.
    pub fn may_reach(&self, ip: IpAddr) -> Result<(), Refusal> {
        let rules = &self.supernodes;
        if rules.forbid_networks.iter().any(|range| range.contains(ip)) {
            return Err(Refusal::new("supernodes.forbid_networks", format!("supernodes at {ip}")));
        }
        match &rules.only_networks {
            Some(ranges) if !ranges.iter().any(|range| range.contains(ip)) => {
                Err(Refusal::new("supernodes.only_networks", format!("supernodes at {ip}")))
            }
            _ => Ok(()),
        }
    }

    /// May packets go to this port, of whomever?
    ///
    /// # Errors
    /// Which key says no.
    pub fn may_send(&self, port: u16) -> Result<(), Refusal> {
        match &self.ports.outgoing {
            Some(ranges) if !ranges.iter().any(|range| range.contains(&port)) => {
                Err(Refusal::new("ports.outgoing", format!("connections to port {port}")))
            }
            _ => Ok(()),
        }
    }

    /// May this node connect to a supernode there? `None`: whose key it has is not known beforehand.
    ///
    /// # Errors
    /// Which key says no.
    pub fn may_connect(&self, service: Option<ServiceKey>, at: SocketAddr) -> Result<(), Refusal> {
        if let Some(service) = service {
            self.may_know(service)?;
        } else if self.supernodes.only_ids.is_some() {
            return Err(Refusal::new("supernodes.only_ids", format!("an unknown supernode at {at}")));
        }
        self.may_reach(at.ip())?;
        self.may_send(at.port())
    }

    /// Of a supernode's binary addresses, those it may be connected to at; none when its key is not allowed.
    #[must_use]
    pub fn allowed_addresses(&self, service: ServiceKey, addresses: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let allowed = |bytes: &&Vec<u8>| match TransportAddress::from_bytes(bytes) {
            Ok(address) => self.may_connect(Some(service), address.socket()).is_ok(),
            // Nobody connects to what cannot be read.
            Err(_) => true,
        };
        addresses.iter().filter(allowed).cloned().collect()
    }

    /// May a call use a direct path to this place of the other side?
    ///
    /// # Errors
    /// Which key says no.
    pub fn may_go_direct(&self, at: SocketAddr) -> Result<(), Refusal> {
        if self.calls.relay_only {
            return Err(Refusal::new("calls.relay_only", "direct calls"));
        }
        self.may_send(at.port())
    }

    /// May this node listen on a port?
    ///
    /// # Errors
    /// Which key says no.
    pub fn may_listen(&self, port: u16) -> Result<(), Refusal> {
        match &self.ports.local {
            Some(range) if !range.contains(&port) => {
                Err(Refusal::new("ports.local", format!("listening on port {port}")))
            }
            _ => Ok(()),
        }
    }

    /// May the owner serve others in this role?
    ///
    /// # Errors
    /// Which key says no.
    pub fn may_serve(&self, role: Role) -> Result<(), Refusal> {
        match &self.serving.roles {
            Some(roles) if !roles.contains(&role) => {
                Err(Refusal::new("serving.roles", format!("serving others as {}", role.name())))
            }
            _ => Ok(()),
        }
    }

    /// The caps in force where the owner set these.
    #[must_use]
    pub fn caps(&self, caps: Caps) -> Caps {
        let most = &self.serving;
        Caps {
            devices: caps.devices.min(most.devices.unwrap_or(u32::MAX)),
            calls: caps.calls.min(most.calls.unwrap_or(u32::MAX)),
            bits_per_second: caps.bits_per_second.min(most.bits_per_second.unwrap_or(u64::MAX)),
            bytes_per_month: caps.bytes_per_month.min(most.bytes_per_month.unwrap_or(u64::MAX)),
            directory_bytes_per_month: caps
                .directory_bytes_per_month
                .min(most.directory_bytes_per_month.unwrap_or(u64::MAX)),
        }
    }

    /// May a call's sound be written to disk?
    ///
    /// # Errors
    /// Which key says no.
    pub fn may_record(&self) -> Result<(), Refusal> {
        if self.calls.recording { Ok(()) } else { Err(Refusal::new("calls.recording", "recording calls")) }
    }

    /// May invitations be made, and do those there are count?
    ///
    /// # Errors
    /// Which key says no.
    pub fn may_invite(&self) -> Result<(), Refusal> {
        let refusal = || Refusal::new("calls.invitations", "invitations");
        if self.calls.invitations { Ok(()) } else { Err(refusal()) }
    }

    /// May the router be asked to forward ports? It is asked at ports of its own, so a list of outgoing ports says no too.
    #[must_use]
    pub fn may_map_ports(&self) -> bool {
        self.ports.mapping && self.ports.outgoing.is_none()
    }

    /// Makes settings obey. Returns the keys of those that had to change.
    pub fn hold(&self, config: &mut Config) -> Vec<&'static str> {
        let before = config.clone();
        if let Some(network) = &self.network {
            config.network.clone_from(network);
        }
        config.network_key = self.network_key.or(config.network_key);
        config.membership = self.membership.clone().or(config.membership.take());
        let allowed = |text: &String| {
            text.parse::<PeerAddress>()
                .is_ok_and(|peer| self.may_connect(Some(peer.service), peer.address.socket()).is_ok())
        };
        config.bootstrap.retain(allowed);
        for address in &self.supernodes.bootstrap {
            if !config.bootstrap.contains(address) {
                config.bootstrap.push(address.clone());
            }
        }
        config.relay_only |= self.calls.relay_only;
        config.port_mapping &= self.may_map_ports();
        if let Some(most) = self.calls.strangers
            && openness(config.strangers()) > openness(most)
        {
            config.strangers = Some(most);
        }
        config.volunteer.directory &= self.may_serve(Role::Directory).is_ok();
        config.volunteer.relay &= self.may_serve(Role::Relay).is_ok();
        config.volunteer.caps = self.caps(config.volunteer.caps);
        changed(&before, config)
    }

    /// What no single setting can be made to obey: places to listen on.
    ///
    /// # Errors
    /// Which key says no.
    pub fn check(&self, config: &Config) -> Result<(), Refusal> {
        for at in &config.listen {
            self.may_listen(at.port())?;
            if config.volunteer.relay {
                // The relay's own port is the next one.
                self.may_listen(at.port().saturating_add(1))?;
            }
        }
        config.listen_tcp.iter().try_for_each(|at| self.may_listen(at.port()))
    }
}

/// Greater for what lets more in.
fn openness(strangers: Strangers) -> u8 {
    match strangers {
        Strangers::Refuse => 0,
        Strangers::Requests => 1,
        Strangers::Ring => 2,
    }
}

fn changed(before: &Config, after: &Config) -> Vec<&'static str> {
    let (caps, held) = (&before.volunteer.caps, &after.volunteer.caps);
    let roles = |config: &Config| (config.volunteer.directory, config.volunteer.relay);
    [
        ("network", before.network != after.network),
        ("network_key", before.network_key != after.network_key),
        ("membership", before.membership != after.membership),
        ("bootstrap", before.bootstrap != after.bootstrap),
        ("relay_only", before.relay_only != after.relay_only),
        ("port_mapping", before.port_mapping != after.port_mapping),
        ("strangers", before.strangers != after.strangers),
        ("volunteer.roles", roles(before) != roles(after)),
        ("volunteer.devices", caps.devices != held.devices),
        ("volunteer.calls", caps.calls != held.calls),
        ("volunteer.bits_per_second", caps.bits_per_second != held.bits_per_second),
        ("volunteer.bytes_per_month", caps.bytes_per_month != held.bytes_per_month),
        (
            "volunteer.directory_bytes_per_month",
            caps.directory_bytes_per_month != held.directory_bytes_per_month,
        ),
    ]
    .into_iter()
    .filter(|(_, changed)| *changed)
    .map(|(key, _)| key)
    .collect()
}

#[cfg(test)]
mod tests;
