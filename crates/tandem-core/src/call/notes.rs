//! The sentences that say why: kept with a call, shown to people.

use tandem_proto::ids::ServiceKey;

use super::types::{EndReason, Role};

/// Notes kept of one call.
const NOTES_MAX: usize = 64;
/// The first ones say how the call was set up: they stay.
const FIRST_KEPT: usize = 16;
/// Longest note, in characters.
const CHARACTERS_MAX: usize = 240;

/// A bounded list of sentences, oldest first.
#[derive(Debug, Clone, Default)]
pub(super) struct Notes(Vec<String>);

impl Notes {
    /// Adds one and returns it as it was kept.
    pub(super) fn add(&mut self, text: &str) -> String {
        if self.0.len() >= NOTES_MAX {
            self.0.remove(FIRST_KEPT);
        }
        let kept: String = text.chars().take(CHARACTERS_MAX).collect();
        self.0.push(kept.clone());
        kept
    }

    pub(super) fn list(&self) -> &[String] {
        &self.0
    }
}

/// The end of a supernode's id, which is enough to tell those of one call apart.
pub(super) fn short(service: ServiceKey) -> String {
    let id = service.to_string();
    let skip = id.chars().count().saturating_sub(6);
    format!("…{}", id.chars().skip(skip).collect::<String>())
}

/// Several of them.
pub(super) fn shorts(services: &[ServiceKey]) -> String {
    let list: Vec<String> = services.iter().map(|service| short(*service)).collect();
    list.join(", ")
}

/// That another device of ours took the call or declined it; which one, where its label is known.
pub(super) fn elsewhere(reason: EndReason, by: Option<&str>) -> String {
    let done = if reason == EndReason::Declined { "declined" } else { "answered" };
    match by {
        Some(label) => format!("The call was {done} on \"{label}\"."),
        None => format!("The call was {done} on another of your devices."),
    }
}

/// What the end of a call means to the person, when nothing more exact is known.
pub(super) fn words(reason: EndReason, role: Role) -> &'static str {
    match (reason, role) {
        (EndReason::HungUp | EndReason::Other(_), _) => "The call was hung up.",
        (EndReason::Busy, _) => "They are in another call. Try again later.",
        (EndReason::Declined, Role::Caller) => "They declined the call.",
        (EndReason::Declined, Role::Callee) => "You declined the call.",
        (EndReason::Cancelled, Role::Caller) => "You cancelled the call before it was answered.",
        (EndReason::Cancelled, Role::Callee) => "They gave up before you answered.",
        (EndReason::NoAnswer, Role::Caller) => "It rang for 60 seconds and nobody answered. Try again later.",
        (EndReason::NoAnswer, Role::Callee) => "You missed this call: it rang for 60 seconds.",
        (EndReason::AnsweredElsewhere, _) => {
            "The call was taken or declined on another device of the account."
        }
        (EndReason::Unreachable, _) => {
            "None of their devices could be reached. They may be offline; try again later."
        }
        (EndReason::Lost, _) => "The connection was lost and did not come back. Call again.",
        (EndReason::Protocol, _) => {
            "The other end sent something it must not send. Its software may be damaged or outdated."
        }
        (EndReason::NotTrusted, _) => {
            "The other end could not prove that it belongs to this account, so the call was ended."
        }
        (EndReason::Version, _) => {
            "The two programs have no protocol version in common. Update the older one."
        }
        (EndReason::Refused, _) => {
            "They take no calls from strangers; an invitation in a link may be used up, over or revoked. Ask them for a new one, or leave a silent request: tandem request ADDRESS."
        }
        (EndReason::Failed, _) => "The call's sound could not be set up on this machine.",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_bounded_and_the_first_ones_stay() {
        let mut notes = Notes::default();
        for n in 0..200 {
            notes.add(&format!("note {n}"));
        }
        notes.add(&"ä".repeat(1_000));
        assert_eq!(notes.list().len(), NOTES_MAX);
        assert_eq!(notes.list()[FIRST_KEPT - 1], "note 15");
        assert_eq!(notes.list()[NOTES_MAX - 2], "note 199");
        assert_eq!(notes.list()[NOTES_MAX - 1].chars().count(), CHARACTERS_MAX);
    }

    #[test]
    fn every_reason_has_words_and_survives_the_wire() {
        for reason in EndReason::KNOWN {
            assert_eq!(EndReason::from(reason.number()), *reason);
            for role in [Role::Caller, Role::Callee] {
                assert!(words(*reason, role).ends_with('.'));
            }
        }
    }
}
