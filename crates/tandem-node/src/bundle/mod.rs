//! What helps to find a fault, with everything taken out that names somebody (`tandem bundle`). It is sent nowhere.
//!
//! `redact` replaces names, keys and addresses by pseudonyms, with `known` for the texts that only this installation can
//! know to be private and `private` to collect them; `gather` reads what goes in, by an allow list of files; `archive`
//! writes it as a plain tar file, so that anybody can look inside with tools they have.

mod archive;
mod gather;
mod known;
mod private;
mod redact;

pub use archive::tar;
pub use gather::{Part, Sources, gather};
pub use private::Private;
pub use redact::Redactor;
