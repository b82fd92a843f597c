//! Application data, from one allocation of a call to the other: ChannelData or Send in, ChannelData or Data out,
//! rewritten in the buffer it came in.

use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::time::Instant;

use stun_types::message::{Message, MessageClass, MessageType, MessageWriteMutSlice, TransactionId};
use stun_types::prelude::*;
use turn_types::attribute::{Data, DontFragment, XorPeerAddress};
use turn_types::message::{DATA, SEND};

use super::allocation::{Allocation, RELAYED_PORT, Slot};
use super::limits::{PACKET_COST_MIN, TotalRate};
use super::{DropReason, Server, Verdict};
use crate::client::ClientAddr;
use crate::config::Rate;

/// ChannelData's own bytes (RFC 8656 §12.4).
const CHANNEL_HEADER_BYTES: usize = 4;
/// STUN header and XOR-PEER-ADDRESS of IPv4.
const DATA_PEER_BYTES: usize = 20 + 12;
/// All of a Data indication before the data: the above and the header of DATA.
const DATA_HEADER_BYTES: usize = DATA_PEER_BYTES + 4;

/// Bytes that must be free before a packet given to [`Server::handle`]: what a Data indication has more than ChannelData.
pub const HEADROOM: usize = DATA_HEADER_BYTES - CHANNEL_HEADER_BYTES;
/// Bytes that must be free behind it: padding.
pub const TAILROOM: usize = 4;

/// The longest payload that fits a Data indication's 16-bit lengths.
const PAYLOAD_BYTES_MAX: usize = 65_000;

/// A Send indication, taken apart: to whom, and where in the message the data lies.
#[derive(Debug)]
pub(super) struct Send {
    peer: SocketAddr,
    data: Range<usize>,
}

/// Reads a Send indication. Other indications, and those with attributes that must be understood and are not, are
/// dropped (RFC 8489 §6.3.2).
pub(super) fn parse_send(message: &Message<'_>) -> Result<Send, DropReason> {
    if message.method() != SEND {
        return Err(DropReason::NotForUs);
    }
    let known = [XorPeerAddress::TYPE, Data::TYPE, DontFragment::TYPE];
    let mut types = message.iter_attributes().map(|(_, raw)| raw.get_type());
    if types.any(|name| name.comprehension_required() && !known.contains(&name)) {
        return Err(DropReason::Malformed);
    }
    let peer = message.attribute::<XorPeerAddress>().map_err(|_| DropReason::Malformed)?;
    let (offset, data) = message.raw_attribute_and_offset(Data::TYPE).ok_or(DropReason::Malformed)?;
    let start = offset + 4;
    Ok(Send { peer: peer.addr(message.transaction_id()), data: start..start + data.value.len() })
}

/// Channel number, and where the application's bytes lie.
pub(super) fn parse_channel_data(buffer: &[u8], packet: Range<usize>) -> Option<(u16, Range<usize>)> {
    let [first, second, high, low, payload @ ..] = &buffer[packet.clone()] else { return None };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    let start = packet.start + CHANNEL_HEADER_BYTES;
    (length <= payload.len()).then(|| (u16::from_be_bytes([*first, *second]), start..start + length))
}

impl Server {
    /// ChannelData (RFC 8656 §12.6).
    pub(super) fn handle_channel_data(
        &mut self,
        buffer: &mut [u8],
        packet: Range<usize>,
        from: &ClientAddr,
        now: Instant,
    ) -> Verdict {
        let Some((number, payload)) = parse_channel_data(buffer, packet) else {
            return Verdict::Drop(DropReason::Malformed);
        };
        let Some(slot) = self.table.find(from) else { return Verdict::Drop(DropReason::NoAllocation) };
        let Some(peer) = self.table.get(slot).channel_peer(number, from, now) else {
            return Verdict::Drop(DropReason::NoChannel);
        };
        self.switch(buffer, payload, slot, peer, now)
    }

    /// A Send indication (RFC 8656 §11.2) in the message that begins at `start`.
    pub(super) fn handle_send(
        &mut self,
        buffer: &mut [u8],
        start: usize,
        send: &Send,
        from: &ClientAddr,
        now: Instant,
    ) -> Verdict {
        let Some(slot) = self.table.find(from) else { return Verdict::Drop(DropReason::NoAllocation) };
        let SocketAddr::V4(peer) = send.peer else { return Verdict::Drop(DropReason::NoPartner) };
        if peer.port() != RELAYED_PORT {
            return Verdict::Drop(DropReason::NoPartner);
        }
        if !self.table.get(slot).takes_from(from, now) {
            return Verdict::Drop(DropReason::NoAllocation);
        }
        let payload = start + send.data.start..start + send.data.end;
        if self.table.partner_address(slot) == Some(*peer.ip())
            && !self.table.get(slot).permits(*peer.ip(), now)
        {
            return Verdict::Drop(DropReason::NoPermission);
        }
        self.switch(buffer, payload, slot, *peer.ip(), now)
    }

    /// The switch itself: `peer` must be the partner, and the partner must have permitted the sender (RFC 8656 §11.3).
    fn switch(
        &mut self,
        buffer: &mut [u8],
        payload: Range<usize>,
        slot: Slot,
        peer: Ipv4Addr,
        now: Instant,
    ) -> Verdict {
        let (sender, partner) = self.table.pair_mut(slot);
        sender.last_heard = now;
        let Some(partner) = partner.filter(|partner| partner.relayed == peer) else {
            return Verdict::Drop(DropReason::NoPartner);
        };
        if !partner.permits(sender.relayed, now) {
            return Verdict::Drop(DropReason::NoPermission);
        }
        let bytes = payload.len();
        if let Err(reason) = charge(sender, partner, bytes, self.config.allocation_rate, &self.total, now) {
            return Verdict::Drop(reason);
        }
        self.stats.bytes_forwarded += bytes as u64;
        let to = partner.client;
        let channel = partner.channel(now).filter(|channel| channel.peer == sender.relayed);
        let packet = if let Some(channel) = channel {
            write_channel_data(buffer, payload, channel.number, to.is_stream())
        } else {
            let transaction = u128::from(self.random.next()) << 32 | u128::from(self.random.next() >> 32);
            write_data_indication(buffer, payload, sender.relayed, TransactionId::from(transaction))
        };
        Verdict::Forward { to, packet }
    }
}

/// Counts a packet against both quotas (a grant's bytes are both ways together), the sender's rate and the relay's, if
/// all allow it.
fn charge(
    sender: &mut Allocation,
    partner: &mut Allocation,
    bytes: usize,
    rate: Option<Rate>,
    total: &TotalRate,
    now: Instant,
) -> Result<(), DropReason> {
    if bytes > PAYLOAD_BYTES_MAX {
        return Err(DropReason::Malformed);
    }
    if sender.is_exhausted() || partner.is_exhausted() {
        return Err(DropReason::Quota);
    }
    let cost = bytes.max(PACKET_COST_MIN);
    if rate.is_some_and(|rate| !sender.bucket.take(cost, rate, now)) {
        return Err(DropReason::Rate);
    }
    if !total.take(cost as u64, now) {
        return Err(DropReason::TotalRate);
    }
    sender.bytes_spent += bytes as u64;
    sender.bytes_in += bytes as u64;
    partner.bytes_spent += bytes as u64;
    partner.bytes_out += bytes as u64;
    Ok(())
}

/// Puts ChannelData's header before the payload. Over a stream it is padded to four bytes (RFC 8656 §12.5).
pub(super) fn write_channel_data(
    buffer: &mut [u8],
    payload: Range<usize>,
    number: u16,
    padded: bool,
) -> Range<usize> {
    let length = u16::try_from(payload.len()).expect("payloads are shorter than 65,000 bytes");
    let start = payload.start - CHANNEL_HEADER_BYTES;
    buffer[start..start + 2].copy_from_slice(&number.to_be_bytes());
    buffer[start + 2..payload.start].copy_from_slice(&length.to_be_bytes());
    let end = if padded { pad(buffer, &payload) } else { payload.end };
    start..end
}

/// Puts a Data indication's header before the payload (RFC 8656 §11.4). The library writes the header and the address;
/// the header of DATA is ours, since the data lies in its place already.
fn write_data_indication(
    buffer: &mut [u8],
    payload: Range<usize>,
    peer: Ipv4Addr,
    transaction: TransactionId,
) -> Range<usize> {
    let length = u16::try_from(payload.len()).expect("payloads are shorter than 65,000 bytes");
    let start = payload.start - DATA_HEADER_BYTES;
    let end = pad(buffer, &payload);
    let header = &mut buffer[start..payload.start];
    let indication = MessageType::from_class_method(MessageClass::Indication, DATA);
    let mut message =
        Message::builder(indication, transaction, MessageWriteMutSlice::new(&mut header[..DATA_PEER_BYTES]));
    message
        .add_attribute(&XorPeerAddress::new(SocketAddr::new(peer.into(), RELAYED_PORT), transaction))
        .expect("header and address are 32 bytes");
    let written = message.finish();
    debug_assert_eq!(written, DATA_PEER_BYTES, "header and address are 32 bytes");
    header[DATA_PEER_BYTES..DATA_PEER_BYTES + 2].copy_from_slice(&Data::TYPE.value().to_be_bytes());
    header[DATA_PEER_BYTES + 2..].copy_from_slice(&length.to_be_bytes());
    let attributes = u16::try_from(end - start - 20).expect("payloads are shorter than 65,000 bytes");
    header[2..4].copy_from_slice(&attributes.to_be_bytes());
    start..end
}

/// Fills up to four bytes with zeros and returns the end.
fn pad(buffer: &mut [u8], payload: &Range<usize>) -> usize {
    let end = payload.start + payload.len().next_multiple_of(4);
    buffer[payload.end..end].fill(0);
    end
}
