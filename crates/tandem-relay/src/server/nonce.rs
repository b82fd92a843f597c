//! Nonces that need no memory: when it was made, and a MAC over that and the client's address.

use std::time::{Duration, Instant};

use data_encoding::BASE64URL_NOPAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::client::ClientAddr;

/// Seconds since the start, which come round after 194 days.
const STAMP_BYTES: usize = 3;
const STAMPS: u32 = 1 << (8 * STAMP_BYTES);
/// Who guesses one (1 in 2⁴⁸) has made the relay compute a password, and nothing more.
const MAC_BYTES: usize = 6;
/// A nonce that was made so many seconds later than now is fresh: threads read their clocks one after another.
const CLOCK_STEP_S: u32 = 60;

/// Makes and checks nonces (RFC 8489 §9.2.4: never the same one for two client addresses).
#[derive(Clone)]
pub(super) struct Nonces {
    key: [u8; 32],
    started: Instant,
    lifetime: Duration,
}

impl std::fmt::Debug for Nonces {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Nonces").field("lifetime", &self.lifetime).finish_non_exhaustive()
    }
}

impl Nonces {
    pub(super) fn new(key: [u8; 32], lifetime: Duration, now: Instant) -> Self {
        Self { key, started: now, lifetime }
    }

    /// Twelve characters: short, since it goes to whoever asks.
    pub(super) fn issue(&self, client: &ClientAddr, now: Instant) -> String {
        let [_, stamp @ ..] = self.seconds(now).to_be_bytes();
        BASE64URL_NOPAD.encode(&[stamp.as_slice(), &self.mac(stamp, client)].concat())
    }

    /// Whether this is a nonce of ours for this client, and still young.
    pub(super) fn is_fresh(&self, nonce: &str, client: &ClientAddr, now: Instant) -> bool {
        let Ok(bytes) = BASE64URL_NOPAD.decode(nonce.as_bytes()) else { return false };
        let Some((stamp, mac)) = bytes.split_first_chunk::<STAMP_BYTES>() else { return false };
        if !bool::from(mac.ct_eq(&self.mac(*stamp, client))) {
            return false;
        }
        let [a, b, c] = *stamp;
        let issued = u32::from_be_bytes([0, a, b, c]);
        let age = self.seconds(now).wrapping_sub(issued) % STAMPS;
        u64::from(age) <= self.lifetime.as_secs() || STAMPS - age <= CLOCK_STEP_S
    }

    /// Since the start, as far as a stamp tells.
    fn seconds(&self, now: Instant) -> u32 {
        let seconds = now.saturating_duration_since(self.started).as_secs() % u64::from(STAMPS);
        u32::try_from(seconds).expect("less than the number of stamps")
    }

    fn mac(&self, stamp: [u8; STAMP_BYTES], client: &ClientAddr) -> [u8; MAC_BYTES] {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes a key of any length");
        mac.update(b"tandem relay nonce 1");
        mac.update(&stamp);
        match client.address().ip() {
            std::net::IpAddr::V4(ip) => mac.update(&ip.octets()),
            std::net::IpAddr::V6(ip) => mac.update(&ip.octets()),
        }
        mac.update(&client.address().port().to_be_bytes());
        let digest = mac.finalize().into_bytes();
        std::array::from_fn(|i| digest[i])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn a_nonce_is_for_one_client_and_for_a_while() {
        let start = testing::start();
        let nonces = Nonces::new([3; 32], Duration::from_secs(600), start);
        let client = ClientAddr::udp("192.0.2.1:5000".parse().unwrap(), 0);
        let nonce = nonces.issue(&client, start + Duration::from_secs(5));
        assert_eq!(nonce.len(), 12);
        assert!(nonces.is_fresh(&nonce, &client, start + Duration::from_secs(605)));
        assert!(!nonces.is_fresh(&nonce, &client, start + Duration::from_secs(606)));

        let neighbour = ClientAddr::udp("192.0.2.1:5001".parse().unwrap(), 0);
        assert!(!nonces.is_fresh(&nonce, &neighbour, start));
        let other_relay = Nonces::new([4; 32], Duration::from_secs(600), start);
        assert!(!other_relay.is_fresh(&nonce, &client, start));
        for forged in ["", "A", "AAAAAAAAAAAA", "AAAAAAAAAAAAAAAA", "é", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"]
        {
            assert!(!nonces.is_fresh(forged, &client, start), "{forged}");
        }
    }

    #[test]
    fn stamps_come_round_and_nonces_stay_fresh_over_it() {
        let start = testing::start();
        let nonces = Nonces::new([3; 32], Duration::from_secs(600), start);
        let client = ClientAddr::udp("192.0.2.1:5000".parse().unwrap(), 0);
        let round = Duration::from_secs(u64::from(STAMPS));
        let nonce = nonces.issue(&client, start + round - Duration::from_secs(10));
        assert!(nonces.is_fresh(&nonce, &client, start + round + Duration::from_secs(590)));
        assert!(!nonces.is_fresh(&nonce, &client, start + round + Duration::from_secs(591)));
        assert!(!nonces.is_fresh(&nonce, &client, start + round / 2));
    }

    #[test]
    fn a_clock_that_steps_back_a_little_makes_no_nonce_stale() {
        let start = testing::start();
        let nonces = Nonces::new([3; 32], Duration::from_secs(600), start);
        let client = ClientAddr::udp("192.0.2.1:5000".parse().unwrap(), 0);
        let nonce = nonces.issue(&client, start + Duration::from_secs(100));
        assert!(nonces.is_fresh(&nonce, &client, start + Duration::from_secs(99)));
        assert!(!nonces.is_fresh(&nonce, &client, start + Duration::from_secs(1)));
    }
}
