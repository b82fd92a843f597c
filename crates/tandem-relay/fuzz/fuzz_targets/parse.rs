//! Any bytes as a stream and as datagrams. The checks are those of the ordinary tests.

#![no_main]

#[allow(dead_code, reason = "the ordinary tests use more of it")]
#[path = "../../tests/it/bench.rs"]
mod bench;
#[allow(dead_code, reason = "the other target uses the rest")]
#[path = "../../tests/it/conversation.rs"]
mod conversation;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    conversation::parse(bytes);
});
