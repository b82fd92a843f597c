//! What the operating system does for the node: files with the right modes, the lock of a data folder, entropy, signals, the
//! network's changes.

pub mod files;
pub mod local_time;
mod lock;
pub mod network;
pub mod paths;
pub mod random;
pub mod signals;

pub use lock::{DataLock, LockError};
