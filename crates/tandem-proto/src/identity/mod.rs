//! Who is who (spec/identity.md): the 24 words, secret keys, addresses, peer ids.

mod address;
mod peer_id;
mod secret;
mod words;

pub use address::{Address, AddressError};
pub use peer_id::PeerIdError;
pub use secret::{AccountSecret, DeviceSecret, ServiceSecret};
pub use words::{Entropy, WordsError};
