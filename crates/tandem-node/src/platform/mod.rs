//! What the operating system does for the node: files with the right modes, the lock of a data folder, entropy, signals, the
//! network's changes, how busy the machine is, what it runs on and what its network costs.

pub mod browser;
pub mod files;
pub mod load;
pub mod local_time;
mod lock;
pub mod metered;
pub mod network;
pub mod paths;
pub mod power;
pub mod random;
pub mod signals;
pub mod traffic;

pub use lock::{DataLock, LockError};
