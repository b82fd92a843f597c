//! Who is who (spec/identity.md): the 24 words, secret keys, addresses, peer ids.

mod address;
mod device_link;
mod link;
mod peer_id;
mod private_network;
mod secret;
mod words;

pub use address::{Address, AddressError};
pub use device_link::{DeviceLink, DeviceLinkError, INVITATION_DOMAIN, WORDS_DOMAIN, device_words};
pub use link::{INVITATION_PROOF_DOMAIN, InvitationHash, InvitationSecret, InvitedCall, Link, LinkError};
pub use peer_id::PeerIdError;
pub use private_network::{
    KEY_SCHEME, MEMBERSHIP_SCHEME, MemberRequest, NetworkTextError, REQUEST_SCHEME, SECRET_SCHEME,
    membership_from_text, membership_text,
};
pub use secret::{AccountSecret, DeviceSecret, NetworkSecret, ServiceSecret};
pub use words::{Entropy, WordsError, word_list};
