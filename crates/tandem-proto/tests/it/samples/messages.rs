//! One of every message of the `.proto` files.

use prost::Message;
use tandem_proto::draw;
use tandem_proto::grant::{GrantTerms, RelaySecret, call_tag};
use tandem_proto::names::{CheckCarrier, FailureCode, Reason, feature};
use tandem_proto::record::ReachRecord;
use tandem_proto::wire::{self, home_frame, signal_frame};

use super::values::{REQUEST_SALT, invitation, invited_call, request_challenge, request_proof};
use super::{
    NOW_S, account, binary, certificate, counting, descriptor, device, device_set, homes, lent_membership,
    membership, service, supernode_invitation,
};

/// One message and its bytes.
pub(crate) struct Sample {
    pub(crate) message: &'static str,
    pub(crate) name: &'static str,
    pub(crate) bytes: Vec<u8>,
    /// Whether our decoder reads these bytes as the message they came from.
    pub(crate) reads: Reader,
}

type Reader = Box<dyn Fn(&[u8]) -> bool>;

pub(crate) fn messages() -> Vec<Sample> {
    let mut samples = records();
    samples.extend(home_bodies());
    samples.extend(home_parts());
    samples.extend(election());
    samples.extend(signal_bodies());
    samples.extend(signal_parts());
    samples
}

fn sample<M>(message: &'static str, name: &'static str, value: M) -> Sample
where
    M: Message + Default + PartialEq + 'static,
{
    let bytes = value.encode_to_vec();
    let reads = Box::new(move |bytes: &[u8]| M::decode(bytes).is_ok_and(|decoded| decoded == value));
    Sample { message, name, bytes, reads }
}

fn records() -> Vec<Sample> {
    let signed = device_set().signed().clone();
    let payload = |signed: &wire::Signed| signed.payload.clone();
    let certificate: wire::DeviceCertificate = decode(&payload(certificate().signed()));
    let set: wire::DeviceSet = decode(&payload(&signed));
    let homes_of_device: wire::DeviceHomes = decode(&payload(homes(1).signed()));
    let descriptor: wire::SupernodeDescriptor = decode(&payload(descriptor(1).signed()));
    vec![
        sample("Signed", "a device set", signed),
        sample("DeviceCertificate", "of a laptop", certificate),
        sample("DeviceEntry", "first of the set", set.devices[0].clone()),
        sample("DeviceSet", "two devices", set),
        sample("Home", "first of a device", homes_of_device.homes[0].clone()),
        sample("DeviceHomes", "three homes", homes_of_device),
        sample("ReachRecord", "two devices", record()),
        sample("SupernodeDescriptor", "directory and relay", descriptor),
        sample("DeviceLink", "two homes", device_link()),
        sample("SupernodeInvitation", "to a reserve", supernode_invitation_payload()),
        sample(
            "NetworkMembership",
            "of a device",
            decode::<wire::NetworkMembership>(&payload(membership().signed())),
        ),
        sample(
            "MembershipProof",
            "of a device",
            wire::MembershipProof { membership: Some(membership().signed().clone()), lent: None },
        ),
        sample(
            "LentMembership",
            "to a scout",
            decode::<wire::LentMembership>(&payload(lent_membership().signed())),
        ),
        sample(
            "MembershipProof",
            "of a scout",
            wire::MembershipProof {
                membership: Some(membership().signed().clone()),
                lent: Some(lent_membership().signed().clone()),
            },
        ),
    ]
}

fn supernode_invitation_payload() -> wire::SupernodeInvitation {
    decode(&supernode_invitation().signed().payload)
}

fn device_link() -> wire::DeviceLink {
    let homes: wire::DeviceHomes = decode(&homes(2).signed().payload);
    let device = device(2).public().0.to_vec();
    wire::DeviceLink { device, secret: counting(0xb0)[..16].to_vec(), homes: homes.homes[..2].to_vec() }
}

fn decode<M: Message + Default>(bytes: &[u8]) -> M {
    M::decode(bytes).expect("our own bytes")
}

fn record() -> wire::ReachRecord {
    ReachRecord::new(device_set()).with_homes(homes(1)).with_homes(homes(2)).to_wire()
}

fn home_bodies() -> Vec<Sample> {
    use home_frame::Body;
    let frame = |name, id, body| sample("HomeFrame", name, wire::HomeFrame { id, body: Some(body) });
    vec![
        frame("hello of a supernode", 0, Body::Hello(home_hello())),
        frame("reserve", 1, Body::Reserve(reserve())),
        frame("reserved", 1, Body::Reserved(reserved())),
        frame("heartbeat", 2, Body::Heartbeat(wire::Heartbeat { in_call: false })),
        frame("publish", 3, Body::Publish(wire::Publish { record: Some(record()) })),
        frame("published", 3, Body::Published(wire::Published { copies: 5 })),
        frame("look up", 4, Body::LookUp(look_up())),
        frame("looked up, nothing yet", 4, Body::LookedUp(wire::LookedUp { record: None, done: false })),
        frame("looked up, last answer", 4, Body::LookedUp(looked_up())),
        frame("grant request", 5, Body::GrantRequest(grant_request())),
        frame("grant", 5, Body::Grant(grant())),
        frame("supernodes request", 6, Body::SupernodesRequest(supernodes_request())),
        frame("supernodes", 6, Body::Supernodes(supernodes())),
        frame("busy", 7, Body::Busy(busy())),
        frame("failure", 8, Body::Failure(failure())),
        frame("drain", 0, Body::Drain(drain())),
        frame("presence", 9, Body::Presence(presence())),
        frame("device set notice", 10, Body::DeviceSetNotice(device_set_notice())),
        frame("device set noted", 10, Body::DeviceSetNoted(wire::DeviceSetNoted {})),
    ]
}

fn home_parts() -> Vec<Sample> {
    vec![
        sample("HomeHello", "of a supernode", home_hello()),
        sample("Reserve", "in a call, with a ticket", reserve()),
        sample("Reserved", "with a referral", reserved()),
        sample("Heartbeat", "in a call", wire::Heartbeat { in_call: true }),
        sample("Publish", "two devices", wire::Publish { record: Some(record()) }),
        sample("Published", "five copies", wire::Published { copies: 5 }),
        sample("LookUp", "an account", look_up()),
        sample("LookedUp", "last answer", looked_up()),
        sample("GrantRequest", "one tag", grant_request()),
        sample("Grant", "for an hour", grant()),
        sample("SupernodesRequest", "relays near a draw", supernodes_request()),
        sample("SupernodesRequest", "relays by name", named_supernodes_request()),
        sample("Supernodes", "one", supernodes()),
        sample("Busy", "with a referral", busy()),
        sample("Failure", "not reserved", failure()),
        sample("Drain", "within a minute", drain()),
        sample("Presence", "reserved", presence()),
        sample("DeviceSetNotice", "two devices", device_set_notice()),
        sample("DeviceSetNoted", "empty", wire::DeviceSetNoted {}),
    ]
}

fn election() -> Vec<Sample> {
    use home_frame::Body;
    let frame = |name, id, body| sample("HomeFrame", name, wire::HomeFrame { id, body: Some(body) });
    vec![
        frame("check request", 11, Body::CheckRequest(check_request())),
        frame("checked", 11, Body::Checked(checked())),
        frame("reserve notice", 12, Body::ReserveNotice(reserve_notice())),
        frame("reserve noted", 12, Body::ReserveNoted(wire::ReserveNoted { kept: true })),
        frame("load request", 13, Body::LoadRequest(wire::LoadRequest {})),
        frame("load", 13, Body::Load(wire::Load { load_percent: 80 })),
        frame("invitation", 14, Body::Invitation(invitation_frame())),
        frame("invitation answer", 14, Body::InvitationAnswer(wire::InvitationAnswer { accepted: true })),
        sample("CheckRequest", "QUIC, with a relay", check_request()),
        sample("CheckRequest", "TCP", wire::CheckRequest { carrier: 2, relay_port: 0, ..check_request() }),
        sample("Checked", "not reached", checked()),
        sample("Checked", "reached", wire::Checked { reached: true, detail: String::new() }),
        sample("ReserveNotice", "two addresses", reserve_notice()),
        sample("ReserveNoted", "kept", wire::ReserveNoted { kept: true }),
        sample("LoadRequest", "empty", wire::LoadRequest {}),
        sample("Load", "much to do", wire::Load { load_percent: 80 }),
        sample("Invitation", "to a reserve", invitation_frame()),
        sample("InvitationAnswer", "declined", wire::InvitationAnswer { accepted: false }),
    ]
}

fn check_request() -> wire::CheckRequest {
    let service = service(3).public().0.to_vec();
    wire::CheckRequest { service, carrier: CheckCarrier::Udp.number(), port: 40_000, relay_port: 40_001 }
}

fn checked() -> wire::Checked {
    wire::Checked { reached: false, detail: "the relay's port did not answer".into() }
}

fn reserve_notice() -> wire::ReserveNotice {
    let addresses = vec![binary("/ip4/127.3.0.1/udp/40000/quic-v1"), binary("/ip4/127.3.0.1/tcp/40000")];
    wire::ReserveNotice { service: service(3).public().0.to_vec(), addresses }
}

fn invitation_frame() -> wire::Invitation {
    wire::Invitation { invitation: Some(supernode_invitation().signed().clone()) }
}

fn home_hello() -> wire::HomeHello {
    wire::HomeHello {
        version_min: 1,
        version_max: 1,
        features: feature::HOME_ALL | feature::GRANTS,
        software: "tandem 0.1.0".into(),
        descriptor: Some(descriptor(1).signed().clone()),
        time_s: NOW_S,
    }
}

fn reserve() -> wire::Reserve {
    wire::Reserve { in_call: true, resume_ticket: vec![0x77; 16], homeless: true }
}

fn reserved() -> wire::Reserved {
    let referrals = vec![descriptor(2).signed().clone()];
    wire::Reserved { heartbeat_ms: 14_000, resume_ticket: vec![0x78; 16], referrals }
}

fn look_up() -> wire::LookUp {
    wire::LookUp { account: account().public().0.to_vec() }
}

fn looked_up() -> wire::LookedUp {
    wire::LookedUp { record: Some(record()), done: true }
}

fn grant_request() -> wire::GrantRequest {
    wire::GrantRequest { call_tag: call_tag(&counting(0x40), service(1).public()).0.to_vec() }
}

fn grant() -> wire::Grant {
    let terms = GrantTerms {
        relay: service(1).public(),
        device: device(1).public(),
        tag: call_tag(&counting(0x40), service(1).public()),
        not_after_s: NOW_S + 3600,
        quota_bytes: 64_000_000,
    };
    let username = terms.username();
    let password = RelaySecret::new(counting(0x80)).password(&username);
    let relay = vec![binary("/ip4/127.1.0.1/udp/4002"), binary("/ip4/127.1.0.1/tcp/4001")];
    wire::Grant { username, password, not_after_s: terms.not_after_s, relay }
}

fn named_supernodes_request() -> wire::SupernodesRequest {
    let named = vec![vec![0x11; 32], vec![0x22; 32]];
    wire::SupernodesRequest { roles: 2, near: Vec::new(), limit: 16, named }
}

fn supernodes_request() -> wire::SupernodesRequest {
    let near = draw::target(&counting(0x10), &counting(0x20), 0).to_vec();
    wire::SupernodesRequest { roles: 2, near, limit: 16, named: Vec::new() }
}

fn supernodes() -> wire::Supernodes {
    wire::Supernodes { descriptors: vec![descriptor(1).signed().clone()] }
}

fn busy() -> wire::Busy {
    wire::Busy { retry_after_ms: 30_000, referrals: vec![descriptor(2).signed().clone()] }
}

fn failure() -> wire::Failure {
    let code = FailureCode::NotReserved.number();
    wire::Failure { code, detail: "only for devices that hold a reservation here".into() }
}

fn drain() -> wire::Drain {
    wire::Drain { within_ms: 60_000, referrals: vec![descriptor(2).signed().clone()] }
}

fn device_set_notice() -> wire::DeviceSetNotice {
    wire::DeviceSetNotice { device_set: Some(device_set().signed().clone()) }
}

fn presence() -> wire::Presence {
    wire::Presence { device: device(1).public().0.to_vec(), reserved: true }
}

fn signal_bodies() -> Vec<Sample> {
    use signal_frame::Body;
    let frame = |name, body| sample("SignalFrame", name, wire::SignalFrame { body: Some(body) });
    vec![
        frame("hello", Body::Hello(signal_hello())),
        frame("offer", Body::Offer(offer())),
        frame("ringing", Body::Ringing(ringing())),
        frame("draw", Body::Draw(draw_message())),
        frame("candidates", Body::Candidates(candidates())),
        frame("answer", Body::Answer(wire::Answer { media: None })),
        frame("confirm", Body::Confirm(wire::Confirm {})),
        frame("hang up", Body::HangUp(hang_up())),
        frame("path report", Body::PathReport(path_report())),
        frame("decline", Body::Decline(decline())),
        frame("device invitation", Body::DeviceInvitation(device_invitation())),
        frame("device accepted", Body::DeviceAccepted(device_accepted())),
        frame("redraw", Body::Redraw(redraw())),
        frame("redraw answer", Body::RedrawAnswer(redraw_answer())),
        frame("redraw reveal", Body::RedrawReveal(redraw_reveal())),
        frame("contact request", Body::ContactRequest(contact_request())),
        frame("request answer", Body::RequestAnswer(request_answer())),
    ]
}

fn signal_parts() -> Vec<Sample> {
    vec![
        sample("SignalHello", "of a device", signal_hello()),
        sample("Offer", "relayed only", offer()),
        sample(
            "Offer",
            "with an invitation",
            wire::Offer { invitation: invitation().hash().proof(&invited_call()).to_vec(), ..offer() },
        ),
        sample("ContactRequest", "the question", wire::ContactRequest::default()),
        sample("ContactRequest", "with its proof", contact_request()),
        sample("RequestAnswer", "prove this", request_answer()),
        sample("RequestAnswer", "left", wire::RequestAnswer { status: 2, ..wire::RequestAnswer::default() }),
        sample("MediaDescription", "of the caller", media()),
        sample("Ringing", "with one relay", ringing()),
        sample("Draw", "what the offer committed to", draw_message()),
        sample("Candidate", "relayed", candidates().candidates[1].clone()),
        sample("Candidates", "host and relayed", candidates()),
        sample("Answer", "picked up", wire::Answer { media: None }),
        sample("Answer", "of a device that rang without media", wire::Answer { media: Some(media()) }),
        sample("Confirm", "empty", wire::Confirm {}),
        sample("HangUp", "answered elsewhere", hang_up()),
        sample("Decline", "busy", decline()),
        sample("Redraw", "first round", redraw()),
        sample("RedrawAnswer", "one relay", redraw_answer()),
        sample("RedrawReveal", "one relay", redraw_reveal()),
        sample("PathState", "silent relay", path_report().paths[0].clone()),
        sample("PathReport", "one silent relay", path_report()),
        sample("DeviceInvitation", "by link", device_invitation()),
        sample("DeviceAccepted", "refused", device_accepted()),
    ]
}

fn signal_hello() -> wire::SignalHello {
    wire::SignalHello {
        version_min: 1,
        version_max: 1,
        features: feature::SIGNAL_ALL,
        software: "tandem 0.1.0".into(),
        certificate: Some(certificate().signed().clone()),
        device_set: Some(device_set().signed().clone()),
        time_s: NOW_S,
    }
}

fn media() -> wire::MediaDescription {
    wire::MediaDescription {
        ice_ufrag: "a1b2".into(),
        ice_pwd: "0123456789abcdefghijkl".into(),
        dtls_fingerprint: counting(0x60).to_vec(),
        ssrc: 0x1234_5678,
        opus_features: Vec::new(),
    }
}

fn offer() -> wire::Offer {
    wire::Offer {
        call_id: counting(0x30)[..16].to_vec(),
        leg_secret: counting(0x40).to_vec(),
        media: Some(media()),
        draw_commit: draw::commit(&counting(0x10), &[service(2).public()]).to_vec(),
        relay_only: true,
        display_name: "Alice".into(),
        invitation: Vec::new(),
    }
}

fn contact_request() -> wire::ContactRequest {
    wire::ContactRequest {
        proof: request_proof().to_vec(),
        bits: u32::from(request_challenge().bits()),
        display_name: "Alice".into(),
        message: "We met at the fair.".into(),
    }
}

fn request_answer() -> wire::RequestAnswer {
    wire::RequestAnswer { status: 1, salt: REQUEST_SALT.to_vec(), bits: 22 }
}

fn ringing() -> wire::Ringing {
    wire::Ringing {
        draw_nonce: counting(0x20).to_vec(),
        relays: vec![descriptor(1).signed().clone()],
        media: Some(wire::MediaDescription {
            ice_ufrag: "c3d4".into(),
            ice_pwd: "mnopqrstuvwxyz012345+/".into(),
            dtls_fingerprint: counting(0xa0).to_vec(),
            ssrc: 0x9abc_def0,
            opus_features: Vec::new(),
        }),
        relay_only: true,
    }
}

fn draw_message() -> wire::Draw {
    wire::Draw { nonce: counting(0x10).to_vec(), relays: vec![descriptor(2).signed().clone()] }
}

fn candidates() -> wire::Candidates {
    let host = wire::Candidate {
        kind: 0,
        address: vec![192, 0, 2, 7],
        port: 50_000,
        relay: Vec::new(),
        priority: 2_130_706_431,
    };
    let relayed = wire::Candidate {
        kind: 2,
        address: vec![198, 18, 0, 9],
        port: 49_152,
        relay: service(1).public().0.to_vec(),
        priority: 16_777_215,
    };
    wire::Candidates { generation: 0, candidates: vec![host, relayed] }
}

fn hang_up() -> wire::HangUp {
    wire::HangUp {
        reason: Reason::AnsweredElsewhere.number(),
        by: "kitchen laptop".into(),
        call_id: counting(0x10)[..16].to_vec(),
    }
}

fn device_invitation() -> wire::DeviceInvitation {
    wire::DeviceInvitation {
        certificate: Some(certificate().signed().clone()),
        device_set: Some(device_set().signed().clone()),
        proof: counting(0xc0).to_vec(),
        others: vec![certificate().signed().clone()],
    }
}

fn device_accepted() -> wire::DeviceAccepted {
    wire::DeviceAccepted { accepted: false, why: "the link was used already".into() }
}

fn decline() -> wire::Decline {
    wire::Decline { reason: Reason::Busy.number(), call_id: counting(0x10)[..16].to_vec() }
}

fn path_report() -> wire::PathReport {
    let silent = wire::PathState { relay: service(1).public().0.to_vec(), hears: false, lost_permille: 1000 };
    wire::PathReport { sequence: 7, paths: vec![silent] }
}

fn redraw() -> wire::Redraw {
    let commit = tandem_proto::draw::commit(&[3; 32], &[service(2).public()]);
    wire::Redraw { round: 1, commit: commit.to_vec() }
}

fn redraw_answer() -> wire::RedrawAnswer {
    wire::RedrawAnswer { round: 1, nonce: vec![4; 32], relays: vec![descriptor(1).signed().clone()] }
}

fn redraw_reveal() -> wire::RedrawReveal {
    wire::RedrawReveal { round: 1, nonce: vec![3; 32], relays: vec![descriptor(2).signed().clone()] }
}
