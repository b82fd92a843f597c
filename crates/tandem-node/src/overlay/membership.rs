//! A private network lets nobody in who cannot show a membership: both ends show theirs on the first stream of each
//! connection, before anything else passes it (spec/overlay.md, "Private networks"). It stands between the handshake, which
//! proves the keys, and the swarm, so that no protocol is offered to others, and nothing asked of them.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::{AsyncReadExt, AsyncWriteExt};
use libp2p::PeerId;
use libp2p::core::muxing::{StreamMuxer, StreamMuxerBox, StreamMuxerEvent, StreamMuxerExt, SubstreamBox};
use prost::Message;
use tandem_proto::identity::ServiceSecret;
use tandem_proto::ids::{NetworkKey, ServiceKey};
use tandem_proto::names::NetworkId;
use tandem_proto::signed::{CLOCK_SKEW_MS, LentMembership, NetworkMembership};
use tandem_proto::wire::MembershipProof;
use tokio::time::{Instant, Sleep, sleep_until};

use super::address::key_of;
use crate::installation::unix_ms;

/// Both ends have shown their memberships by then, or the connection is closed.
const PROOF_TIMEOUT: Duration = Duration::from_secs(8);
/// A proof is smaller: one membership.
const PROOF_BYTES_MAX: usize = 1_024;
/// So long a membership is lent to a key that is thrown away; it is lent anew on each connection.
const LENT_LIFE_S: u64 = 24 * 3_600;
/// A sleep is never longer: the end is looked at again then.
const SLEEP_MAX: Duration = Duration::from_secs(86_400);

/// What this installation's swarms show and what they want to see; shared, since memberships are renewed while the node
/// runs.
#[derive(Clone)]
pub struct Membership {
    network: NetworkId,
    key: NetworkKey,
    own: Arc<Mutex<Vec<NetworkMembership>>>,
    /// Of a swarm under a key that is thrown away: whose membership it shows.
    lender: Option<Arc<ServiceSecret>>,
}

impl std::fmt::Debug for Membership {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Membership")
            .field("network", &self.network)
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

impl Membership {
    /// `own`: of the keys that swarms of this installation prove; without its own a swarm reaches nobody.
    #[must_use]
    pub fn new(network: NetworkId, key: NetworkKey, own: Vec<NetworkMembership>) -> Self {
        Self { network, key, own: Arc::new(Mutex::new(own)), lender: None }
    }

    /// The same for a swarm under a key that nobody has admitted: this service key, which is a member, vouches for it on
    /// every connection, and everybody asked learns that the two belong together.
    #[must_use]
    pub fn lent_by(self, lender: ServiceSecret) -> Self {
        Self { lender: Some(Arc::new(lender)), ..self }
    }

    /// Shows these from now on.
    pub fn renew(&self, own: Vec<NetworkMembership>) {
        *self.own.lock().unwrap_or_else(PoisonError::into_inner) = own;
    }

    /// What this swarm shows; `None`: it has nothing that holds.
    fn own(&self, local: &PeerId) -> Option<MembershipProof> {
        let local = key_of(local)?;
        let member = self.lender.as_ref().map_or(local, |lender| lender.public().0);
        let own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        let membership = own.iter().find(|own| *own.member() == member)?.signed().clone();
        let lent = match &self.lender {
            Some(lender) => {
                let until_s = unix_ms() / 1_000 + LENT_LIFE_S;
                Some(LentMembership::issue(lender, local, until_s).ok()?.signed().clone())
            }
            None => None,
        };
        Some(MembershipProof { membership: Some(membership), lent })
    }

    /// Until when the other end belongs to the network, in unix milliseconds.
    fn verify(&self, peer: &PeerId, proof: &MembershipProof) -> io::Result<u64> {
        let refused = |why: String| io::Error::new(io::ErrorKind::PermissionDenied, why);
        let key = key_of(peer).ok_or_else(|| refused("its key is not an Ed25519 key".to_owned()))?;
        let shown = proof.membership.as_ref().ok_or_else(|| refused("it shows no membership".to_owned()))?;
        let does_not_hold =
            |error| refused(format!("its membership of the private network does not hold: {error}"));
        let mut member = key;
        let mut until_s = u64::MAX;
        if let Some(lent) = &proof.lent {
            member = *NetworkMembership::parse(shown).map_err(does_not_hold)?.member();
            let lent = LentMembership::verify(lent, ServiceKey(member), &key, unix_ms());
            until_s = lent.map_err(does_not_hold)?.not_after_s();
        }
        let own = NetworkMembership::verify(shown, (&self.network, self.key), &member, unix_ms());
        let until_s = own.map_err(does_not_hold)?.not_after_s().min(until_s);
        Ok(until_s.saturating_mul(1000).saturating_add(CLOCK_SKEW_MS))
    }
}

/// Lets a connection through once both ends have shown their memberships; at once where the network is open to all.
pub(super) async fn prove(
    (membership, local): (Option<Membership>, PeerId),
    peer: PeerId,
    mut muxer: StreamMuxerBox,
    is_dialer: bool,
) -> io::Result<(PeerId, StreamMuxerBox)> {
    let Some(membership) = membership else { return Ok((peer, muxer)) };
    let until_ms = {
        let exchange = exchange(&membership, (&local, &peer), &mut muxer, is_dialer);
        tokio::time::timeout(PROOF_TIMEOUT, exchange)
            .await
            .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "no membership was shown in time"))??
    };
    Ok((peer, StreamMuxerBox::new(Ending::new(muxer, until_ms))))
}

/// The dialer shows first: whoever listens says nothing to one who is no member.
async fn exchange(
    membership: &Membership,
    (local, peer): (&PeerId, &PeerId),
    muxer: &mut StreamMuxerBox,
    is_dialer: bool,
) -> io::Result<u64> {
    let own = membership.own(local).ok_or_else(|| {
        io::Error::new(io::ErrorKind::PermissionDenied, "this node has no membership of its network")
    })?;
    let stream = poll_fn(|cx| {
        drive(muxer, cx)?;
        let opened = if is_dialer { muxer.poll_outbound_unpin(cx) } else { muxer.poll_inbound_unpin(cx) };
        opened.map_err(io::Error::other)
    });
    let mut stream = stream.await?;
    let dialogue = async {
        if is_dialer {
            write(&mut stream, &own).await?;
        }
        let until_ms = membership.verify(peer, &read(&mut stream).await?)?;
        if !is_dialer {
            write(&mut stream, &own).await?;
        }
        stream.close().await?;
        Ok(until_ms)
    };
    let mut dialogue = pin!(dialogue);
    // Nobody else drives the connection yet.
    poll_fn(|cx| {
        drive(muxer, cx)?;
        dialogue.as_mut().poll(cx)
    })
    .await
}

fn drive(muxer: &mut StreamMuxerBox, cx: &mut Context<'_>) -> io::Result<()> {
    loop {
        match muxer.poll_unpin(cx) {
            // A change of address concerns the swarm, which does not follow it.
            Poll::Ready(Ok(StreamMuxerEvent::AddressChange(_))) => {}
            Poll::Ready(Err(error)) => return Err(io::Error::other(error)),
            Poll::Pending => return Ok(()),
        }
    }
}

async fn write(stream: &mut SubstreamBox, proof: &MembershipProof) -> io::Result<()> {
    let bytes = tandem_proto::frame::encode(proof).map_err(io::Error::other)?;
    stream.write_all(&bytes).await?;
    stream.flush().await
}

async fn read(stream: &mut SubstreamBox) -> io::Result<MembershipProof> {
    let invalid = |why: &'static str| io::Error::new(io::ErrorKind::InvalidData, why);
    let mut length: usize = 0;
    for shift in [0, 7] {
        let mut byte = [0];
        stream.read_exact(&mut byte).await?;
        length |= usize::from(byte[0] & 0x7f) << shift;
        if byte[0] & 0x80 == 0 {
            break;
        }
        if shift == 7 {
            return Err(invalid("the proof of membership is too long"));
        }
    }
    if length > PROOF_BYTES_MAX {
        return Err(invalid("the proof of membership is too long"));
    }
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).await?;
    MembershipProof::decode(bytes.as_slice()).map_err(|_| invalid("the proof of membership cannot be read"))
}

/// A connection that ends when the membership of its other end does.
struct Ending {
    inner: StreamMuxerBox,
    until_ms: u64,
    sleep: Pin<Box<Sleep>>,
}

impl Ending {
    fn new(inner: StreamMuxerBox, until_ms: u64) -> Self {
        Self { inner, until_ms, sleep: Box::pin(sleep_until(wake(until_ms))) }
    }
}

/// By the wall clock, which may be set: looked at again at least once a day.
fn wake(until_ms: u64) -> Instant {
    let left = Duration::from_millis(until_ms.saturating_sub(unix_ms()));
    Instant::now() + left.min(SLEEP_MAX)
}

impl StreamMuxer for Ending {
    type Substream = SubstreamBox;
    type Error = io::Error;

    fn poll_inbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<SubstreamBox>> {
        self.inner.poll_inbound_unpin(cx).map_err(io::Error::other)
    }

    fn poll_outbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<SubstreamBox>> {
        self.inner.poll_outbound_unpin(cx).map_err(io::Error::other)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner.poll_close_unpin(cx).map_err(io::Error::other)
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<StreamMuxerEvent>> {
        while self.sleep.as_mut().poll(cx).is_ready() {
            if unix_ms() >= self.until_ms {
                let why = "the membership of the other end has ended";
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::PermissionDenied, why)));
            }
            let at = wake(self.until_ms);
            self.sleep.as_mut().reset(at);
        }
        self.inner.poll_unpin(cx).map_err(io::Error::other)
    }
}
