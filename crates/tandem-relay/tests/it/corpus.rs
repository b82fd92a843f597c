//! The fuzz targets' corpus, played again without the fuzzer (`fuzz/` has the targets, docs/RELAY.md says how to run
//! them), and any bytes that proptest makes up.

use std::path::PathBuf;

use proptest::prelude::*;

use crate::conversation::{Reached, converse, parse};

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut files: Vec<_> = std::fs::read_dir(path).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    files.into_iter().map(|file| std::fs::read(file).unwrap()).collect()
}

#[test]
fn every_conversation_of_the_corpus() {
    let mut reached = Reached::default();
    for bytes in corpus("conversation") {
        reached.add(converse(&bytes));
    }
    // A corpus that no longer gets anywhere has to be made anew.
    assert!(reached.allocated >= 40 && reached.forwarded >= 100 && reached.switched >= 20, "{reached:?}");
    assert!(reached.refused >= 100 && reached.challenged >= 40 && reached.told >= 2, "{reached:?}");
}

#[test]
fn every_message_of_the_corpus() {
    let mut reached = Reached::default();
    for bytes in corpus("parse") {
        reached.add(parse(&bytes));
    }
    assert!(reached.forwarded >= 5 && reached.challenged >= 5, "{reached:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_conversation_of_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        converse(&bytes);
    }

    #[test]
    fn a_call_and_then_anything(bytes in prop::collection::vec(any::<u8>(), 0..600), which in any::<prop::sample::Index>()) {
        let seeds = corpus("conversation");
        converse(&[seeds[which.index(seeds.len())].as_slice(), &bytes].concat());
    }

    #[test]
    fn a_stream_of_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..3_000)) {
        parse(&bytes);
    }
}
