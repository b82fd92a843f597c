//! The list of keys that a policy may hold.

/// The form of a key's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    Text,
    List,
    Number,
    Switch,
}

/// One key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// `table.name`, as in the file.
    pub key: &'static str,
    pub kind: KeyKind,
}

const fn key(key: &'static str, kind: KeyKind) -> Key {
    Key { key, kind }
}

/// All of them, in the order in which they are told.
pub const KEYS: &[Key] = &[
    key("supernodes.only_ids", KeyKind::List),
    key("supernodes.only_networks", KeyKind::List),
    key("supernodes.forbid_ids", KeyKind::List),
    key("supernodes.forbid_networks", KeyKind::List),
    key("supernodes.bootstrap", KeyKind::List),
    key("serving.roles", KeyKind::List),
    key("serving.devices", KeyKind::Number),
    key("serving.calls", KeyKind::Number),
    key("serving.bits_per_second", KeyKind::Number),
    key("serving.bytes_per_month", KeyKind::Number),
    key("serving.directory_bytes_per_month", KeyKind::Number),
    key("calls.relay_only", KeyKind::Switch),
    key("calls.strangers", KeyKind::Text),
    key("calls.invitations", KeyKind::Switch),
    key("calls.recording", KeyKind::Switch),
    key("ports.outgoing", KeyKind::List),
    key("ports.local", KeyKind::Text),
    key("ports.mapping", KeyKind::Switch),
    key("network.id", KeyKind::Text),
    key("network.key", KeyKind::Text),
    key("network.membership", KeyKind::Text),
    key("audit.path", KeyKind::Text),
    key("audit.required", KeyKind::Switch),
];

impl KeyKind {
    /// What a value of it looks like, in words.
    pub(super) fn wanted(self) -> &'static str {
        match self {
            Self::Text => "a text in quotes",
            Self::List => "a list of texts: [\"…\"]",
            Self::Number => "a whole number, 0 or more",
            Self::Switch => "true or false",
        }
    }
}

/// The key of this name.
pub(super) fn by_name(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.key == name)
}

/// The known key most like a mistyped one.
pub(super) fn nearest(name: &str) -> Option<&'static str> {
    crate::config::nearest_of(name, KEYS.iter().map(|key| key.key))
}
