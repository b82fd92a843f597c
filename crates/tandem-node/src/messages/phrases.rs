use tandem_api::{ConnectionRole, EndReason, SentState};

/// What a person is told about a connection of some role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionTexts {
    pub purpose: &'static str,
    pub sees: &'static str,
    pub does_not_see: &'static str,
}

/// The person's device and the service are two strangers on the wire, but they live at one internet address.
const SERVICE_ALONE: &str = "Which account is yours: nothing sent to it says so. Only by comparing addresses could it \
    guess: your own device connects to its homes from the same internet address.";

/// Purpose, what the other end sees and what it does not, for `tandem connections`.
#[must_use]
pub fn connection_texts(role: ConnectionRole) -> ConnectionTexts {
    let (purpose, sees, does_not_see) = match role {
        ConnectionRole::Home => (
            "Keeps you reachable: calls for you arrive through this supernode, and it asks the directory for you.",
            "Your address on the internet, your device key, your account key, whom you look up, and when you are online.",
            "Your name, your contacts, what you say, or your messages: those are encrypted between the two devices.",
        ),
        ConnectionRole::Candidate => (
            "Being tried as a home, or being left as one.",
            "Your address on the internet, your device key and when you are online.",
            "Your contacts, your calls, or anything you say.",
        ),
        ConnectionRole::Errand => (
            "One question: a place for a call at this relay, or word of a change to your devices. It closes soon after.",
            "Your address on the internet, your device key, and the question: that a call is being set up, or your device \
             set.",
            "Whom you call, your contacts, or anything you say.",
        ),
        ConnectionRole::Carrier => (
            "Carries the set-up of a call to the other device, which has its home there.",
            "Your address on the internet, your device key, and which device you reach.",
            "Your account, what the call needs, or what is said: that is encrypted between the two devices.",
        ),
        ConnectionRole::Signal => (
            "Sets up and steers a call with this device, encrypted end to end.",
            "Your account, your device and what a call needs; your address on the internet only if you allow direct calls \
             and know each other.",
            "Your other contacts and calls.",
        ),
        ConnectionRole::Relay => (
            "Forwards the sound of your call to the other side.",
            "Your address on the internet, that a call of some length goes on, and how many bytes it takes.",
            "What is said, or who talks with whom: the sound is encrypted between the two devices.",
        ),
        ConnectionRole::Direct => (
            "Carries the sound of your call straight to the other device.",
            "Your address on the internet, and the call itself.",
            "Your other contacts and calls.",
        ),
        ConnectionRole::Directory
        | ConnectionRole::Scout
        | ConnectionRole::Visitor
        | ConnectionRole::Served
        | ConnectionRole::Forwarded
        | ConnectionRole::Relayed => volunteer_texts(role),
    };
    ConnectionTexts { purpose, sees, does_not_see }
}

/// The same of what a volunteer's node does for others.
fn volunteer_texts(role: ConnectionRole) -> (&'static str, &'static str, &'static str) {
    match role {
        ConnectionRole::Directory => (
            "Keeps the directory together with this supernode, because you volunteered.",
            "The address on the internet of your service, and the directory's records it asks for.",
            SERVICE_ALONE,
        ),
        ConnectionRole::Scout => (
            "Asks this supernode whether it can reach you, tells it that you stand by, or asks how busy it is, because \
             you volunteered. It closes soon after.",
            "The address on the internet and the key of your service.",
            "Which account or device is yours: this goes out under a key that is made for it and thrown away. Only by \
             comparing addresses could it guess: your own device connects to its homes from the same internet address.",
        ),
        ConnectionRole::Visitor => (
            "Came for one thing, because you volunteered: a place for a call, the way to a device whose home you are, a \
             check whether others reach you, or the directory.",
            "The address on the internet of your service.",
            SERVICE_ALONE,
        ),
        ConnectionRole::Served => (
            "You are a home to this device, because you volunteered: calls for it arrive through you.",
            "The address on the internet of your service.",
            SERVICE_ALONE,
        ),
        ConnectionRole::Forwarded => (
            "You forward the set-up of a call between two devices, because you volunteered.",
            "The address on the internet of your service.",
            SERVICE_ALONE,
        ),
        // Relayed: no other is left.
        _ => (
            "You forward the sound of a call between two devices, because you volunteered.",
            "The address on the internet of your service.",
            SERVICE_ALONE,
        ),
    }
}

/// Why a connection runs over TCP, for the end of its purpose; `https`: on port 443.
#[must_use]
pub fn over_tcp_text(https: bool) -> &'static str {
    if https {
        "It runs over TCP to port 443, as for web pages: UDP did not get through, or was slower."
    } else {
        "It runs over TCP: UDP did not get through, or was slower."
    }
}

/// The same for a home.
#[must_use]
pub fn home_over_tcp_text(https: bool) -> &'static str {
    if https {
        over_tcp_text(true)
    } else {
        "It runs over TCP, which is tried first for homes: the end of the program there is noticed at once."
    }
}

/// Why a supernode is not asked at once.
#[must_use]
pub fn dial_waits(wait_ms: u64) -> String {
    let seconds = wait_ms.div_ceil(1_000);
    format!(
        "This device contacted as many different supernodes in the last minute as it may; the next one is contacted in \
         {seconds} s."
    )
}

/// How far a silent request of ours is, in a sentence.
#[must_use]
pub fn sent_request(state: SentState) -> &'static str {
    match state {
        SentState::Working => {
            "Their device asks for some work first, so that nobody can send requests by the thousand."
        }
        SentState::Left => {
            "Your request is in their list. You hear nothing more of it; when they accept, your calls ring. For theirs to ring here, make them a contact: tandem contacts add NAME ADDRESS."
        }
        SentState::Closed => "They take no requests. Ask them for an invitation in another way.",
        SentState::Later => "Very many requests come in there just now. Try again in an hour.",
        SentState::TooMuchWork => {
            "Their device asks for more work than this program does. Try again in an hour."
        }
        SentState::Unreachable => "None of their devices could be reached. Try again later.",
        SentState::NotFound => {
            "The directory knows nobody reachable at this address. Check it, or try again later."
        }
    }
}

/// Why a call ended, in a sentence.
#[must_use]
pub fn end_reason_text(reason: EndReason) -> &'static str {
    match reason {
        EndReason::HungUp => "You hung up.",
        EndReason::RemoteHungUp => "The other side hung up.",
        EndReason::Declined => "The call was declined.",
        EndReason::Busy => "The other side is on another call.",
        EndReason::NoAnswer => "Nobody answered within 60 seconds.",
        EndReason::AnsweredElsewhere => "Another device answered the call.",
        EndReason::Cancelled => "The caller gave up before the call was answered.",
        EndReason::NotFound => "The directory knows nobody reachable at this address: they may be offline.",
        EndReason::Unreachable => "The other side's devices are known, but none could be reached.",
        EndReason::NoPath => "The call was answered, but no path for the sound was found.",
        EndReason::MediaLost => "The sound stopped, and no other path was found.",
        EndReason::Refused => "They take no calls from strangers, or could not prove who they are.",
        EndReason::Stopping => "This node is stopping.",
        EndReason::Failed => "The call failed inside this node; the log says more.",
    }
}
