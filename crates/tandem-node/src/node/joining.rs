//! A new device waits to be added to an account by link (spec/identity.md, "Joining by link").
//!
//! It is a phone with a throw-away account of its own, which publishes nothing: it only has homes, so that the device that
//! adds it can reach it. With the papers it gets, the data folder becomes an identity; until then nothing is written.

use std::sync::Arc;
use std::time::Duration;

use tandem_api::{JoinOffer, Problem};
use tandem_core::call::StrangerRules;
use tandem_core::peer::PeerRef;
use tandem_core::time::Now;
use tandem_proto::identity::{DeviceLink, DeviceSecret, Entropy, device_words};
use tandem_proto::record::Seen;
use tandem_proto::signed::{
    DeviceCertificate, DeviceEntry, DeviceSet, Home, NewCertificate, SignedError, SupernodeDescriptor,
};
use tandem_proto::wire;
use tokio::sync::mpsc;

use super::clock::Clock;
use super::memory;
use super::peers::PeerTable;
use super::phone::{Handed, Phone, PhoneId, PhoneIdentity, PhoneNews, Surroundings};
use super::port_mapping::PortMapping;
use super::start::{MEDIA_QUEUE, Makings, REPORT_QUEUE, bootstrap_supernodes};
use crate::handle::NodeConfig;
use crate::installation::{self, StartError};
use crate::keys::{self, Keys};
use crate::messages::Code;
use crate::overlay::{DeviceCommand, DeviceEvent};
use crate::platform::network::Network;
use crate::platform::{paths, random};
use crate::policy::Warden;
use crate::store::Store;

/// So long a new device waits for the one that adds it.
pub const JOIN_WITHIN: Duration = Duration::from_secs(15 * 60);
/// A first home must be found within this.
const HOME_WITHIN_MS: u64 = 30_000;
/// The others are waited for this long: a link with three homes works when one of them goes.
const MORE_HOMES_MS: u64 = 1_500;
/// After the papers were taken: for the answer to reach the other device.
const FAREWELL: Duration = Duration::from_millis(800);
/// Supernodes remembered for the first start.
const DESCRIPTORS_MAX: usize = 64;
/// Papers of the throw-away account.
const LIFE_S: u64 = 86_400;

/// What a new device became.
#[derive(Debug)]
pub struct Joined {
    pub keys: Keys,
}

/// Waits to be added by link, which `offer` is given once there is one. Then writes the identity.
///
/// # Errors
/// A [`Problem`] for a person: an identity is there already, no supernode could be reached, nobody came in time, or the
/// disk failed. Nothing was written then.
pub async fn join(config: NodeConfig, offer: impl FnOnce(&JoinOffer)) -> Result<Joined, Problem> {
    config.config.check()?;
    let lock = installation::prepare_folder(&config.data).map_err(|error| error.problem())?;
    if keys::exists(&config.data) {
        return Err(Code::IdentityExists.with(&[("path", &config.data.display().to_string())]));
    }
    if config.config.bootstrap.is_empty() {
        return Err(Code::NoBootstrap.problem());
    }
    if config.config.network_key.is_some() {
        let detail = "a private network lets in nobody without a membership, which a device that waits has not; add it by the 24 words: tandem id --restore";
        return Err(Code::JoinFailed.with(&[("detail", detail)]));
    }
    let device = DeviceSecret::from_seed(&random::bytes());
    let mut waiting = Waiting::start(&config, &device).map_err(|error| error.problem())?;
    let link = waiting.offer_link(&device).await?;
    offer(&JoinOffer {
        link: link.to_string(),
        key: device.public().to_string(),
        words: device_words(device.public()),
        within_ms: u64::try_from(JOIN_WITHIN.as_millis()).unwrap_or(u64::MAX),
    });
    let handed = waiting.wait_for_papers(link).await?;
    let passphrase = config.passphrase.as_ref();
    let keys =
        keys::adopt(&config.data, &device, handed.papers, passphrase).map_err(|error| error.problem())?;
    let store = Store::open(&config.data.join(paths::STORE), installation::unix_ms());
    match store {
        Ok(store) => {
            memory::remember_supernodes(&store, &waiting.descriptors);
            for certificate in handed.others.iter().chain([&keys.certificate]) {
                memory::remember_device(&store, certificate, None, installation::unix_ms());
            }
        }
        Err(error) => {
            tracing::warn!(%error, "neither the labels of the other devices nor any supernodes are kept")
        }
    }
    waiting.leave().await;
    drop(lock);
    Ok(Joined { keys })
}

/// The phone that waits, and its little loop.
struct Waiting {
    clock: Clock,
    peers: PeerTable,
    phone: Phone,
    events: mpsc::Receiver<DeviceEvent>,
    descriptors: Vec<SupernodeDescriptor>,
}

impl Waiting {
    fn start(config: &NodeConfig, device: &DeviceSecret) -> Result<Self, StartError> {
        let clock = Clock::start();
        let now = clock.now();
        // Nobody calls a device that nobody knows: there is no media, and nobody listens for it.
        let (media_news, _) = mpsc::channel(MEDIA_QUEUE);
        let (reports, _) = mpsc::channel(REPORT_QUEUE);
        let bind = config.config.source_address();
        let network = Network::default();
        let makings = Makings {
            config: &config.config,
            bind,
            media_news,
            reports,
            network: &network,
            ports: PortMapping::forbidden(),
            warden: Warden::new(Arc::clone(&config.config.policy)),
            // Nobody has made a device that waits a member.
            membership: None,
        };
        let identity = throw_away(device, now).map_err(|error| StartError::Overlay(error.to_string()))?;
        let (phone, events) =
            makings.phone(PhoneId::Person, identity, None, StrangerRules::default(), now)?;
        let mut waiting = Self {
            clock,
            peers: PeerTable::under(makings.warden.clone()),
            phone,
            events,
            descriptors: Vec::new(),
        };
        let known = bootstrap_supernodes(&config.config);
        let known: Vec<PeerRef> =
            known.values().filter_map(|address| waiting.peers.insert(address)).collect();
        waiting.with(|phone, around| {
            phone.set_joining();
            phone.handle_known(&known, around);
        });
        Ok(waiting)
    }

    fn with(&mut self, act: impl FnOnce(&mut Phone, &mut Surroundings<'_>)) {
        let nothing = |_| None::<Seen>;
        let now = self.clock.now();
        let mut around = Surroundings { now, peers: &mut self.peers, seen: &nothing, remembered: &|_| None };
        act(&mut self.phone, &mut around);
    }

    /// One event, or one turn of the clock, until `until_ms` at the latest. False: the swarm has ended.
    async fn step(&mut self, until_ms: u64) -> bool {
        let wake = self.phone.poll_timeout().map_or(until_ms, |at| at.min(until_ms));
        let due = tokio::time::Instant::from_std(self.clock.instant(wake));
        let event = tokio::select! {
            event = self.events.recv() => match event {
                Some(event) => Some(event),
                None => return false,
            },
            () = tokio::time::sleep_until(due) => None,
        };
        match event {
            Some(event) => self.with(|phone, around| phone.handle_overlay(event, around)),
            None => self.with(Phone::handle_timeout),
        }
        true
    }

    /// Waits for homes, and makes a link that leads to them.
    async fn offer_link(&mut self, device: &DeviceSecret) -> Result<DeviceLink, Problem> {
        let started_ms = self.clock.now().mono_ms;
        let mut first_ms = None;
        loop {
            let now_ms = self.clock.now().mono_ms;
            let homes = self.phone.homes().count();
            if homes > 0 {
                let first_ms = *first_ms.get_or_insert(now_ms);
                if homes >= tandem_core::homes::HOMES || now_ms >= first_ms + MORE_HOMES_MS {
                    break;
                }
            } else if now_ms >= started_ms + HOME_WITHIN_MS {
                return Err(Code::NoSupernode.problem());
            }
            if !self.step(now_ms + 200).await {
                return Err(ended());
            }
            while let Some(news) = self.phone.poll_news() {
                self.note(news);
            }
        }
        let mut homes: Vec<Home> = Vec::new();
        self.with(|phone, around| homes = phone.own_homes(around));
        Ok(DeviceLink { device: device.public(), secret: first_half(random::bytes()), homes })
    }

    async fn wait_for_papers(&mut self, link: DeviceLink) -> Result<Handed, Problem> {
        self.phone.wait_for_invitation(link);
        let within_ms = u64::try_from(JOIN_WITHIN.as_millis()).unwrap_or(u64::MAX);
        let until_ms = self.clock.now().mono_ms + within_ms;
        loop {
            while let Some(news) = self.phone.poll_news() {
                match news {
                    PhoneNews::Joined(handed) => return Ok(handed),
                    news => self.note(news),
                }
            }
            if self.clock.now().mono_ms >= until_ms {
                return Err(Code::JoinFailed.with(&[("detail", "nobody added it in time")]));
            }
            if !self.step(until_ms).await {
                return Err(ended());
            }
        }
    }

    /// Supernodes to begin with once the device runs.
    fn note(&mut self, news: PhoneNews) {
        if let PhoneNews::Descriptors(descriptors) = news {
            let room = DESCRIPTORS_MAX.saturating_sub(self.descriptors.len());
            self.descriptors.extend(descriptors.into_iter().take(room));
        }
    }

    /// Lets the last frames out, then ends the swarm.
    async fn leave(mut self) {
        let until_ms = self.clock.now().mono_ms + u64::try_from(FAREWELL.as_millis()).unwrap_or_default();
        while self.clock.now().mono_ms < until_ms && self.step(until_ms).await {
            while self.phone.poll_news().is_some() {}
        }
        // A swarm that is gone already needs no telling.
        drop(self.phone.overlay().send(DeviceCommand::Shutdown).await);
    }
}

fn ended() -> Problem {
    Code::JoinFailed.with(&[("detail", "the connection to the network ended")])
}

fn first_half(bytes: [u8; 32]) -> [u8; 16] {
    let mut half = [0; 16];
    half.copy_from_slice(&bytes[..16]);
    half
}

/// An account for as long as the device waits: a hello needs one. It is never published and never written down.
fn throw_away(device: &DeviceSecret, now: Now) -> Result<PhoneIdentity, SignedError> {
    let account = Entropy::new(random::bytes()).account_secret();
    let now_s = now.unix_ms / 1000;
    let new = NewCertificate {
        device: device.public(),
        serial: 1,
        not_before_s: now_s,
        not_after_s: now_s + LIFE_S,
        label: String::new(),
    };
    let certificate: wire::Signed = DeviceCertificate::issue(&account, new)?.signed().clone();
    let entry = DeviceEntry { device: device.public(), serial: 1 };
    let device_set = DeviceSet::issue(&account, 1, &[entry], now_s + LIFE_S)?;
    Ok(PhoneIdentity {
        account: account.public(),
        device: DeviceSecret::from_seed(&device.seed()),
        certificate,
        serial: 1,
        device_set,
        display_name: String::new(),
    })
}
