//! The tables in the spec's pages against the numbers in the code.

use std::path::Path;

use tandem_proto::identity::{INVITATION_DOMAIN, INVITATION_PROOF_DOMAIN, WORDS_DOMAIN};
use tandem_proto::names::{CheckCarrier, FailureCode, Reason, feature};
use tandem_proto::signed::SignedMessage;
use tandem_proto::wire;

#[test]
fn numbers_are_as_in_the_spec() {
    let overlay = page("overlay.md");
    for code in FailureCode::KNOWN {
        let row = format!("| {} | `{}` |", code.number(), code.text());
        assert!(overlay.contains(&row), "overlay.md has no row {row}");
    }
    let election = page("election.md");
    for carrier in CheckCarrier::KNOWN {
        let row = format!("| {} | `{}` |", carrier.number(), carrier.text());
        assert!(election.contains(&row), "election.md has no row {row}");
    }
    let signalling = page("signalling.md");
    for reason in Reason::KNOWN {
        let row = format!("| {} | `{}` |", reason.number(), reason.text());
        assert!(signalling.contains(&row), "signalling.md has no row {row}");
    }
}

#[test]
fn feature_bits_are_as_in_the_spec() {
    let overlay = page("overlay.md");
    let bits = [
        ("GRANTS", feature::GRANTS),
        ("PRESENCE", feature::PRESENCE),
        ("RESUME", feature::RESUME),
        ("PATH_REPORTS", feature::PATH_REPORTS),
        ("MIRRORING", feature::MIRRORING),
        ("DRED", feature::DRED),
    ];
    for (name, bit) in bits {
        let row = format!("| {} | `{name}` |", bit.trailing_zeros());
        assert!(overlay.contains(&row), "overlay.md has no row {row}");
    }
}

#[test]
fn every_domain_is_in_the_spec() {
    let readme = page("README.md");
    let signed = [
        wire::DeviceCertificate::DOMAIN,
        wire::DeviceSet::DOMAIN,
        wire::DeviceHomes::DOMAIN,
        wire::SupernodeDescriptor::DOMAIN,
        wire::SupernodeInvitation::DOMAIN,
        wire::NetworkMembership::DOMAIN,
        wire::LentMembership::DOMAIN,
    ];
    let hashes = [
        "tandem call tag 1",
        "tandem draw 1",
        "tandem draw commit 1",
        "tandem invitation 1",
        "tandem contact request 1",
        INVITATION_DOMAIN,
        INVITATION_PROOF_DOMAIN,
        WORDS_DOMAIN,
    ];
    for domain in signed.into_iter().chain(hashes) {
        assert!(readme.contains(&format!("| `{domain}` |")), "README.md does not list {domain}");
    }
}

#[test]
fn every_file_of_vectors_is_in_the_spec() {
    let readme = page("README.md");
    for (name, _) in crate::samples::files() {
        assert!(readme.contains(&format!("| `{name}` |")), "README.md does not list {name}");
    }
}

fn page(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../spec").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
