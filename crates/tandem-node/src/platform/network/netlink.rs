//! Linux says by netlink when a link, an address or a route changes, and how they all are.
//!
//! The messages about changes are not read, only noticed: the whole state is asked for afterwards. So a lost message
//! costs nothing, and what waits is bounded by the kernel's socket buffer.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use futures::{Stream, StreamExt};
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage};
use rtnetlink::packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType};
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket};
use rtnetlink::{Handle, IpVersion, MulticastGroup, RouteMessageBuilder};
use thiserror::Error;

use super::{Gateway, LocalAddress, Network};

/// What is listened to.
const GROUPS: [MulticastGroup; 5] = [
    MulticastGroup::Link,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv6Route,
];
/// A message is cut off after this: only that it came counts.
const MESSAGE_BYTES: usize = 256;
/// Links, addresses and routes looked at in one answer; a router of the internet has a million routes.
const ENTRIES_MAX: usize = 4_096;
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// Some tunnels route the internet as two halves, to come before another default route.
const HALF_THE_INTERNET: u8 = 1;

/// Hears that something changed.
pub(super) struct Listener {
    socket: TokioSocket,
    buffer: Vec<u8>,
}

impl Listener {
    pub(super) fn open() -> io::Result<Self> {
        let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
        let groups = GROUPS.iter().fold(0, |bits, group| bits | 1 << (*group as u32 - 1));
        socket.socket_mut().bind(&SocketAddr::new(0, groups))?;
        Ok(Self { socket, buffer: Vec::with_capacity(MESSAGE_BYTES) })
    }

    /// The next message; an error when there will be none any more.
    pub(super) async fn next(&mut self) -> io::Result<()> {
        self.buffer.clear();
        match self.socket.recv(&mut self.buffer).await {
            Ok(()) => Ok(()),
            // More came than the kernel could keep for us (ENOBUFS): something changed, certainly.
            Err(error) if error.raw_os_error() == Some(nix::libc::ENOBUFS) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Why netlink did not tell.
#[derive(Debug, Error)]
pub(super) enum ReadError {
    #[error("no netlink socket: {0}")]
    Socket(#[from] io::Error),
    #[error("netlink: {0}")]
    Netlink(#[from] rtnetlink::Error),
    #[error("netlink did not answer in time")]
    Late,
}

/// Links, addresses and default routes now.
pub(super) async fn read() -> Result<Network, ReadError> {
    let (connection, handle, _) = rtnetlink::new_connection()?;
    let task = tokio::spawn(connection);
    let result = tokio::time::timeout(ANSWER_WITHIN, ask(&handle)).await;
    task.abort();
    result.map_err(|_| ReadError::Late)?
}

async fn ask(handle: &Handle) -> Result<Network, ReadError> {
    let links = collect(handle.link().get().execute(), usable_link).await?;
    let mut routes = Vec::new();
    for version in [IpVersion::V4, IpVersion::V6] {
        let request = match version {
            IpVersion::V4 => RouteMessageBuilder::<std::net::Ipv4Addr>::new().build(),
            IpVersion::V6 => RouteMessageBuilder::<std::net::Ipv6Addr>::new().build(),
        };
        routes.extend(collect(handle.route().get(request).execute(), default_route).await?);
    }
    let usable: BTreeMap<u32, bool> = links.into_iter().collect();
    routes.retain(|route| usable.contains_key(&route.interface));
    let found = collect(handle.address().get().execute(), usable_address).await?;
    let addresses = found.into_iter().filter_map(|Found { interface, ip, temporary, deprecated }| {
        let metrics =
            routes.iter().filter(|route| route.interface == interface && route.is_ipv4 == ip.is_ipv4());
        let default_route = metrics.map(|route| route.metric).min();
        let bridge = *usable.get(&interface)?;
        Some(LocalAddress { ip, interface, default_route, temporary, deprecated, bridge })
    });
    let addresses = addresses.collect();
    Ok(Network::new(addresses, routes))
}

/// What `pick` takes of an answer's first entries.
async fn collect<M, T>(
    entries: impl Stream<Item = Result<M, rtnetlink::Error>>,
    pick: impl Fn(&M) -> Option<T>,
) -> Result<Vec<T>, rtnetlink::Error> {
    let mut entries = std::pin::pin!(entries.take(ENTRIES_MAX));
    let mut picked = Vec::new();
    while let Some(entry) = entries.next().await {
        picked.extend(pick(&entry?));
    }
    Ok(picked)
}

/// An interface that is up and has a carrier, and whether it is a bridge.
fn usable_link(link: &LinkMessage) -> Option<(u32, bool)> {
    let flags = link.header.flags;
    let up = flags.contains(LinkFlags::Up | LinkFlags::Running | LinkFlags::LowerUp);
    let bridge = link.attributes.iter().any(|attribute| {
        let LinkAttribute::LinkInfo(infos) = attribute else { return false };
        infos.iter().any(|info| matches!(info, LinkInfo::Kind(InfoKind::Bridge)))
    });
    (up && !flags.contains(LinkFlags::Loopback)).then_some((link.header.index, bridge))
}

/// An address as the kernel describes it.
struct Found {
    interface: u32,
    ip: IpAddr,
    temporary: bool,
    deprecated: bool,
}

/// Not while it is checked for duplicates.
fn usable_address(message: &AddressMessage) -> Option<Found> {
    let flags = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Flags(flags) => Some(*flags),
        _ => None,
    });
    // The header has the first eight of them.
    let flags = flags.unwrap_or(AddressFlags::from_bits_retain(message.header.flags.bits().into()));
    if flags.intersects(AddressFlags::Tentative | AddressFlags::Dadfailed) {
        return None;
    }
    let (mut local, mut address) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(ip) => local = Some(*ip),
            // On a point-to-point link it is the other end's, and `Local` ours.
            AddressAttribute::Address(ip) => address = Some(*ip),
            _ => {}
        }
    }
    let ip = local.or(address)?;
    // On IPv6 the bit of a secondary address means a temporary one.
    let secondary = AddressFlags::from_bits_retain(AddressHeaderFlags::Secondary.bits().into());
    Some(Found {
        interface: message.header.index,
        ip,
        temporary: ip.is_ipv6() && flags.contains(secondary),
        deprecated: flags.contains(AddressFlags::Deprecated),
    })
}

fn default_route(message: &RouteMessage) -> Option<Gateway> {
    let header = &message.header;
    if header.kind != RouteType::Unicast || header.destination_prefix_length > HALF_THE_INTERNET {
        return None;
    }
    let (mut interface, mut metric, mut via) = (None, 0, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(index) => interface = Some(*index),
            RouteAttribute::Priority(priority) => metric = *priority,
            RouteAttribute::Gateway(RouteAddress::Inet(ip)) => via = Some(IpAddr::V4(*ip)),
            RouteAttribute::Gateway(RouteAddress::Inet6(ip)) => via = Some(IpAddr::V6(*ip)),
            // Several ways of one weight: the first stands for them.
            RouteAttribute::MultiPath(hops) => {
                interface = interface.or(hops.first().map(|hop| hop.interface_index));
            }
            _ => {}
        }
    }
    let is_ipv4 = header.address_family == rtnetlink::packet_route::AddressFamily::Inet;
    Some(Gateway { metric, interface: interface?, via, is_ipv4 })
}
