//! A machine of the lab, and its interfaces.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};

use crate::address::{self, LAN_FIRST, LAN_ROUTER};
use crate::namespace::Namespace;
use crate::plan::{HomePlan, Nat};
use crate::shell;

/// A machine: a server with public addresses, or a host on a home's LAN.
#[derive(Debug)]
pub struct Host {
    name: String,
    namespace: Namespace,
    /// Every home of the lab, for moves.
    homes: Arc<Vec<Lan>>,
    uplinks: Mutex<Vec<Uplink>>,
}

/// A home's LAN, as hosts join it.
#[derive(Debug, Clone)]
pub(super) struct Lan {
    pub(super) home: String,
    pub(super) number: u8,
    pub(super) router: Namespace,
    pub(super) public: bool,
    pub(super) v4: bool,
    pub(super) v6: bool,
    /// Hosts that ever joined: gives each its own address.
    joined: Arc<Mutex<u8>>,
}

impl Lan {
    pub(super) fn new(plan: &HomePlan, number: u8, router: Namespace) -> Self {
        Self {
            home: plan.name.clone(),
            number,
            router,
            public: plan.nat == Nat::None,
            v4: plan.families.v4(),
            v6: plan.families.v6(),
            joined: Arc::default(),
        }
    }

    /// The next free place: number of the port at the bridge, addresses.
    pub(super) fn place(&self, interface: &str) -> Uplink {
        let mut joined = self.joined.lock().unwrap_or_else(PoisonError::into_inner);
        let last = LAN_FIRST + *joined;
        *joined += 1;
        Uplink {
            interface: interface.to_owned(),
            port: format!("p{last}"),
            lan: Some(self.home.clone()),
            v4: self.v4.then(|| {
                (
                    address::lan_v4(self.number, self.public, last),
                    address::lan_v4(self.number, self.public, LAN_ROUTER),
                )
            }),
            v6: self.v6.then(|| {
                (
                    address::lan_v6(self.number, u16::from(last)),
                    address::lan_v6(self.number, u16::from(LAN_ROUTER)),
                )
            }),
            up: true,
        }
    }
}

/// One interface of a host.
#[derive(Debug, Clone)]
pub(super) struct Uplink {
    pub(super) interface: String,
    /// The other end of its cable, at the home's bridge.
    pub(super) port: String,
    /// Which home; `None` for a server's line.
    pub(super) lan: Option<String>,
    /// Own address and gateway.
    pub(super) v4: Option<(Ipv4Addr, Ipv4Addr)>,
    pub(super) v6: Option<(Ipv6Addr, Ipv6Addr)>,
    pub(super) up: bool,
}

impl Uplink {
    /// `ip` lines that bring it up, with its addresses and the default routes through it.
    pub(super) fn up_lines(&self) -> Vec<String> {
        let interface = &self.interface;
        let mut lines = vec![format!("link set {interface} up")];
        if let Some((own, gateway)) = self.v4 {
            lines.push(format!("address replace {own}/24 dev {interface}"));
            lines.push(format!("route replace default via {gateway} dev {interface}"));
        }
        if let Some((own, gateway)) = self.v6 {
            lines.push(format!("address replace {own}/64 dev {interface} nodad"));
            lines.push(format!("route replace default via {gateway} dev {interface}"));
        }
        lines
    }

    /// `ip` lines that take it down; its addresses and routes go with it.
    fn down_lines(&self) -> Vec<String> {
        vec![format!("link set {} down", self.interface), format!("address flush dev {}", self.interface)]
    }
}

impl Host {
    pub(super) fn new(name: &str, namespace: Namespace, homes: Arc<Vec<Lan>>, uplink: Uplink) -> Self {
        Self { name: name.to_owned(), namespace, homes, uplinks: Mutex::new(vec![uplink]) }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// To run things inside.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// A command that runs `program` on this host.
    pub fn command(&self, program: &Path) -> Command {
        self.namespace.command(program)
    }

    /// Its own addresses, of interfaces that are up; IPv4 first.
    pub fn addresses(&self) -> Vec<IpAddr> {
        let uplinks = self.uplinks();
        let up = || uplinks.iter().filter(|uplink| uplink.up);
        let v4 = up().filter_map(|uplink| Some(IpAddr::V4(uplink.v4?.0)));
        v4.chain(up().filter_map(|uplink| Some(IpAddr::V6(uplink.v6?.0)))).collect()
    }

    /// Its IPv4 address, if it has one now.
    pub fn v4(&self) -> Option<Ipv4Addr> {
        self.uplinks().iter().filter(|uplink| uplink.up).find_map(|uplink| Some(uplink.v4?.0))
    }

    /// Its IPv6 address, if it has one now.
    pub fn v6(&self) -> Option<Ipv6Addr> {
        self.uplinks().iter().filter(|uplink| uplink.up).find_map(|uplink| Some(uplink.v6?.0))
    }

    /// Takes every interface down, addresses and routes with it (`false`), or brings the last one in use up again
    /// (`true`).
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn set_link(&self, up: bool) -> Result<()> {
        let mut uplinks = self.uplinks();
        if !up {
            return self.all_down(&mut uplinks);
        }
        let last = uplinks.last_mut().context("a host without an interface")?;
        self.namespace.ip(&last.up_lines())?;
        last.up = true;
        Ok(())
    }

    /// Leaves its network for another home's: the interface it had goes down, another one comes up there with other
    /// addresses and the default route. Moving back brings up the interface of the first time.
    ///
    /// # Errors
    /// When there is no such home, or `ip` fails.
    pub fn move_to(&self, home: &str) -> Result<()> {
        let mut uplinks = self.uplinks();
        let known = uplinks.iter().position(|uplink| uplink.lan.as_deref() == Some(home));
        let mut uplink = match known {
            Some(at) => uplinks.remove(at),
            None => self.plug_in(home, uplinks.len())?,
        };
        self.all_down(&mut uplinks)?;
        self.namespace.ip(&uplink.up_lines())?;
        uplink.up = true;
        uplinks.push(uplink);
        Ok(())
    }

    /// A new interface on another home's LAN; not up yet.
    fn plug_in(&self, home: &str, number: usize) -> Result<Uplink> {
        let lan = self.homes.iter().find(|lan| lan.home == home);
        let lan = lan.with_context(|| format!("the lab has no home {home}"))?;
        let uplink = lan.place(&format!("wlan{number}"));
        shell::ip(None, &[cable((&self.namespace, &uplink.interface), (&lan.router, &uplink.port))])?;
        lan.router.ip(&plug_lines(&uplink.port))?;
        Ok(uplink)
    }

    fn all_down(&self, uplinks: &mut [Uplink]) -> Result<()> {
        for uplink in uplinks.iter_mut().filter(|uplink| uplink.up) {
            self.namespace.ip(&uplink.down_lines())?;
            uplink.up = false;
        }
        Ok(())
    }

    fn uplinks(&self) -> MutexGuard<'_, Vec<Uplink>> {
        self.uplinks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An `ip` line: a perfect line between two interfaces.
pub(super) fn cable(one: (&Namespace, &str), other: (&Namespace, &str)) -> String {
    format!(
        "link add {} netns {} type veth peer name {} netns {}",
        one.1,
        one.0.name(),
        other.1,
        other.0.name()
    )
}

/// `ip` lines of the router: a port becomes part of its LAN.
pub(super) fn plug_lines(port: &str) -> Vec<String> {
    vec![format!("link set {port} master lan"), format!("link set {port} up")]
}
