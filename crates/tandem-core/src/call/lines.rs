//! Lines: streams with contacts that stay open after a call and carry the next one at once.
//!
//! Frames but the last name no call. So a stream is free for another only when both ends have said their last word of the one before
//! (HangUp or Decline): what comes after cannot belong to the old call.

use tandem_proto::ids::{AccountKey, DeviceKey};
use tandem_proto::wire::signal_frame::Body;

use super::leg::Leg;
use super::types::{CallId, Command, EndReason, Role, SignalId, Stage};
use super::{Calls, LEGS_MAX, hang_up};
use crate::time::Now;

/// A line is kept this long, in milliseconds.
const LINE_MS: u64 = 600_000;
/// Lines kept at once; the oldest makes room.
const LINES_MAX: usize = 8;
/// A line that does not ring within this gets a new stream beside it, in milliseconds.
const LINE_RACE_MS: u64 = 300;

/// A stream without a call.
#[derive(Debug)]
pub(super) struct Line {
    /// When it is closed (monotonic milliseconds).
    pub(super) until_ms: u64,
    /// The other end has said its last word on the call before.
    heard: bool,
}

impl Calls {
    /// Keeps the newest stream of a leg that ended in good order.
    pub(super) fn keep_line(&mut self, call: CallId, leg: &Leg, reason: EndReason) {
        let in_order = matches!(
            reason,
            EndReason::HungUp
                | EndReason::Cancelled
                | EndReason::NoAnswer
                | EndReason::Declined
                | EndReason::AnsweredElsewhere
        );
        let Some(signal) = leg.streams.last().copied().filter(|_| leg.keeps_line && in_order) else { return };
        self.make_room(leg.device);
        let Some(stream) = self.streams.get_mut(&signal).filter(|stream| stream.peer.is_some()) else {
            return;
        };
        if stream.leg != Some(leg.id) {
            return;
        }
        let said = std::mem::take(&mut stream.said);
        let heard = std::mem::take(&mut stream.heard);
        stream.leg = None;
        stream.offered = false;
        stream.line = Some(Line { until_ms: self.clock_ms + LINE_MS, heard });
        if !said {
            // The call ended by the other end's word, which ours answers.
            self.out.send(signal, Body::HangUp(hang_up(reason, call.0.to_vec())));
        }
        self.out.push(Command::SetSignalIdle { signal, idle: true });
    }

    /// One line a device, and not too many.
    fn make_room(&mut self, device: DeviceKey) {
        let lines = self.streams.iter().filter_map(|(id, stream)| Some((*id, stream, stream.line.as_ref()?)));
        let mut lines: Vec<(u64, SignalId, DeviceKey)> =
            lines.map(|(id, stream, line)| (line.until_ms, id, stream.device)).collect();
        lines.sort_unstable_by_key(|(until_ms, id, _)| (*until_ms, *id));
        let surplus = (lines.len() + 1).saturating_sub(LINES_MAX);
        for (index, (_, signal, other)) in lines.into_iter().enumerate() {
            if index < surplus || other == device {
                self.drop_stream(signal);
            }
        }
    }

    /// A frame on a line; `false`: the stream is none. Late frames of the call before say nothing any more.
    pub(super) fn on_line_frame(&mut self, signal: SignalId, body: &Body) -> bool {
        let Some(line) = self.streams.get_mut(&signal).and_then(|stream| stream.line.as_mut()) else {
            return false;
        };
        line.heard |= matches!(body, Body::HangUp(_) | Body::Decline(_));
        true
    }

    /// Offers the call that was just placed on the lines with that account, while it is looked up.
    pub(super) fn call_on_lines(&mut self, now: Now) {
        let Some(head) = self.active.as_ref().map(|call| &call.head) else { return };
        if !head.direct_allowed() {
            return;
        }
        let account = head.peer;
        for (signal, device) in self.free_lines(account) {
            let leg = self.new_leg(device, Role::Caller, None);
            let id = leg.id;
            self.push_leg(leg);
            self.attach(signal, id, now);
            if let Some(parts) = self.parts(id) {
                parts.head.enter(Stage::Reaching, now);
                parts.leg.reach.next_ms = Some(now.mono_ms + LINE_RACE_MS);
            }
        }
    }

    fn free_lines(&self, account: AccountKey) -> Vec<(SignalId, DeviceKey)> {
        let Some(set) = self.known.get(account) else { return Vec::new() };
        let free = self.streams.iter().filter(|(_, stream)| {
            stream.line.as_ref().is_some_and(|line| line.heard)
                && stream.peer.is_some_and(|peer| peer.account == account)
                && set.contains(stream.device)
        });
        free.map(|(signal, stream)| (*signal, stream.device)).take(LEGS_MAX).collect()
    }

    /// The connections under them may be gone: a new call is quicker without.
    pub(super) fn drop_lines(&mut self) {
        let lines = self.streams.iter().filter(|(_, stream)| stream.line.is_some());
        let lines: Vec<SignalId> = lines.map(|(signal, _)| *signal).collect();
        lines.into_iter().for_each(|signal| self.drop_stream(signal));
    }

    pub(super) fn drop_lines_of_strangers(&mut self) {
        let stranger = |account| self.contacts.binary_search(&account).is_err();
        let lines = self.streams.iter().filter(|(_, stream)| {
            stream.line.is_some() && stream.peer.is_none_or(|peer| stranger(peer.account))
        });
        let lines: Vec<SignalId> = lines.map(|(signal, _)| *signal).collect();
        lines.into_iter().for_each(|signal| self.drop_stream(signal));
    }
}
