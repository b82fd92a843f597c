//! How many bytes go through the machine's interfaces, whichever program they belong to.

use super::load::Unmeasured;
use super::network::Network;

/// Interfaces looked at: a machine full of containers has a few hundred.
const INTERFACES_MAX: usize = 1024;

/// Bytes since the interfaces came up, of those that lead out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Carried {
    pub received: u64,
    pub sent: u64,
}

/// Names of the interfaces that a default route leads through.
#[must_use]
pub fn leading_out(network: &Network) -> Vec<String> {
    let mut numbers: Vec<u32> = network.gateways.iter().map(|gateway| gateway.interface).collect();
    numbers.sort_unstable();
    numbers.dedup();
    numbers.into_iter().filter_map(name_of).collect()
}

#[cfg(unix)]
fn name_of(interface: u32) -> Option<String> {
    let name = nix::net::if_::if_indextoname(interface).ok()?;
    name.into_string().ok()
}

#[cfg(not(unix))]
fn name_of(_: u32) -> Option<String> {
    None
}

/// Reads the counters of these interfaces; without any, of all but loopback (a lab without a default route).
///
/// # Errors
/// The system has none that this program knows.
pub fn carried(interfaces: &[String]) -> Result<Carried, Unmeasured> {
    if !cfg!(target_os = "linux") {
        return Err(Unmeasured("only Linux is asked what its interfaces carry"));
    }
    let text =
        std::fs::read_to_string("/proc/net/dev").map_err(|_| Unmeasured("/proc/net/dev cannot be read"))?;
    Ok(parse(&text, interfaces))
}

/// Of `/proc/net/dev` (proc(5)): `name: received-bytes and seven more, sent-bytes and seven more`.
fn parse(text: &str, interfaces: &[String]) -> Carried {
    let mut carried = Carried::default();
    for line in text.lines().take(INTERFACES_MAX) {
        let Some((name, counters)) = line.split_once(':') else { continue };
        let name = name.trim();
        let counts =
            if interfaces.is_empty() { name != "lo" } else { interfaces.iter().any(|known| known == name) };
        let mut counters = counters.split_whitespace().map(|field| field.parse::<u64>().unwrap_or(0));
        if let (true, Some(received), Some(sent)) = (counts, counters.next(), counters.nth(7)) {
            carried.received = carried.received.saturating_add(received);
            carried.sent = carried.sent.saturating_add(sent);
        }
    }
    carried
}

impl Carried {
    /// Both ways in bits per second since an earlier reading; `None`: the counters began anew, or no time passed.
    #[must_use]
    pub fn bits_per_second_since(&self, earlier: &Self, ms: u64) -> Option<u64> {
        let received = self.received.checked_sub(earlier.received)?;
        let sent = self.sent.checked_sub(earlier.sent)?;
        let bits = received.saturating_add(sent).saturating_mul(8_000);
        bits.checked_div(ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo: 9000 10 0 0 0 0 0 0 9000 10 0 0 0 0 0 0
  eth0: 1000 10 0 0 0 0 0 0 500 5 0 0 0 0 0 0
 wlan0:70 1 0 0 0 0 0 0 30 1 0 0 0 0 0 0
broken: 5
";

    #[test]
    fn what_leads_out_is_counted() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(parse(TEXT, &names(&["eth0"])), Carried { received: 1_000, sent: 500 });
        assert_eq!(parse(TEXT, &[]), Carried { received: 1_070, sent: 530 });
        assert_eq!(parse(TEXT, &names(&["ppp0"])), Carried::default());
        assert_eq!(parse("", &[]), Carried::default());
    }

    #[test]
    fn rates_count_both_ways() {
        let (before, after) = (Carried { received: 1_000, sent: 0 }, Carried { received: 2_000, sent: 500 });
        assert_eq!(after.bits_per_second_since(&before, 2_000), Some(6_000));
        assert_eq!(before.bits_per_second_since(&after, 2_000), None);
        assert_eq!(after.bits_per_second_since(&before, 0), None);
    }
}
