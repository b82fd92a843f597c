//! What an owner may set, with the values the standards give.

use std::time::Duration;

use tandem_proto::grant::RestSecret;

use crate::credentials::Credentials;

/// A steady rate with a burst on top.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Units a second (bytes, or packets, as the field says).
    pub per_second: u32,
    /// Units that may come at once after a silence.
    pub burst: u32,
}

/// Everything the server core is told at its start.
#[derive(Debug, Clone)]
pub struct Config {
    pub credentials: Credentials,
    /// REALM of the long-term credentials (RFC 8489 §9.2), at most 127 bytes. Clients copy it. Strangers are
    /// told: the shorter the better, and four characters fill what one would take.
    pub realm: String,
    /// Lifetime of an allocation that asked for none or for less (RFC 8656 §7.2: 600 s).
    pub lifetime_default: Duration,
    /// The longest lifetime granted at a time (RFC 8656 §7.2: 3600 s recommended).
    pub lifetime_max: Duration,
    /// How long an allocation may live altogether, however often it is refreshed.
    pub allocation_age_max: Duration,
    /// How long a nonce is good for (RFC 8656 §5: at most an hour).
    pub nonce_lifetime: Duration,
    /// Allocations alive at once. Two make a call.
    pub allocations_max: usize,
    /// Allocations alive at once from one /24 or /48.
    pub allocations_per_source_max: u32,
    /// Application bytes a second each allocation may send. `None`: as fast as it likes.
    pub allocation_rate: Option<Rate>,
    /// Application bytes a second the relay forwards altogether, both directions of all calls. What goes beyond is
    /// dropped. `None`: as fast as the machine can.
    pub total_rate: Option<Rate>,
    /// Answers a second to requests that have not authenticated (Binding, 401, 438, …), for each /24 or /48. These are
    /// the only packets a forged source address can draw, so this bounds what the relay can be made to reflect.
    pub stranger_rate: Rate,
}

impl Rate {
    /// Bytes at so many bits a second, with a second's worth as the burst, and never less than a few packets.
    #[must_use]
    pub fn of_bits(bits_per_second: u64) -> Self {
        let per_second = u32::try_from(bits_per_second / 8).unwrap_or(u32::MAX);
        Self { per_second, burst: per_second.max(4_000) }
    }
}

/// 128 kbit/s: a voice call with a redundant copy of each packet, DTLS and feedback, and nothing that pays to steal.
pub const VOICE_RATE: Rate = Rate { per_second: 16_000, burst: 32_000 };

impl Config {
    /// The role a volunteer plays: voice rates, careful limits.
    #[must_use]
    pub fn new(credentials: Credentials) -> Self {
        Self {
            credentials,
            realm: "call".to_owned(),
            lifetime_default: Duration::from_secs(600),
            lifetime_max: Duration::from_secs(3600),
            allocation_age_max: Duration::from_secs(4 * 3600),
            nonce_lifetime: Duration::from_secs(600),
            allocations_max: 1_000,
            allocations_per_source_max: 64,
            allocation_rate: Some(VOICE_RATE),
            total_rate: None,
            stranger_rate: Rate { per_second: 50, burst: 200 },
        }
    }

    /// A relay run on its own with a secret that only its owner's clients know (`tandem relay --rest-secret`): no
    /// voice rate, and limits wide enough for thousands of clients behind one address.
    #[must_use]
    pub fn for_rest_secret(secret: RestSecret) -> Self {
        Self {
            allocations_max: 50_000,
            allocations_per_source_max: 50_000,
            allocation_rate: None,
            stranger_rate: Rate { per_second: 1_000, burst: 20_000 },
            ..Self::new(Credentials::Rest { secret })
        }
    }
}
