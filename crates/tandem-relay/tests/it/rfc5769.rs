//! The test vectors of RFC 5769, to pin the message library this relay keeps.

use data_encoding::HEXLOWER_PERMISSIVE;
use stun_types::attribute::{Username, XorMappedAddress};
use stun_types::message::{LongTermKeyCredentials, Message, ShortTermCredentials};

/// §2.1: request with short-term credentials and FINGERPRINT.
const REQUEST: &str = "000100582112a442b7e7a701bc34d686fa87dfae\
    802200105354554e207465737420636c69656e74002400046e0001ff80290008932ff9b151263b36\
    000600096576746a3a683676592020200008 00149aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a280280004e57a3bcf";
/// §2.2: response with an IPv4 address.
const RESPONSE_IPV4: &str = "0101003c2112a442b7e7a701bc34d686fa87dfae\
    8022000b7465737420766563746f7220002000080001a147e112a643\
    000800142b91f599fd9e90c38c7489f92af9ba53f06be7d780280004c07d4c96";
/// §2.3: response with an IPv6 address.
const RESPONSE_IPV6: &str = "010100482112a442b7e7a701bc34d686fa87dfae\
    8022000b7465737420766563746f7220002000140002a1470113a9faa5d3f179bc25f4b5bed2b9d9\
    00080014a382954e4be67bf11784c97c8292c275bfe3ed4180280004c8fb0b4c";
/// §2.4: request with long-term credentials.
const LONG_TERM: &str = "000100602112a44278ad3433c6ad72c029da412e\
    00060012e3839ee38388e383aae38383e382afe382b90000\
    0015001c662f2f3439396b39353464364f4c33346f4c394653547679363473410014000b6578616d706c652e6f726700\
    00080014f67024656dd64a3e02b8e0712e85c9a28ca89666";
const SHORT_TERM_PASSWORD: &str = "VOkJxbRl1RmTxUk/WvJxBt";

fn bytes(hex: &str) -> Vec<u8> {
    let digits: String = hex.chars().filter(char::is_ascii_hexdigit).collect();
    HEXLOWER_PERMISSIVE.decode(digits.as_bytes()).unwrap()
}

#[test]
fn short_term_request() {
    let bytes = bytes(REQUEST);
    let message = Message::from_bytes(&bytes).unwrap();
    let password = ShortTermCredentials::new(SHORT_TERM_PASSWORD.to_owned());
    message.validate_integrity(&password.into()).unwrap();
    assert_eq!(message.attribute::<Username>().unwrap().username(), "evtj:h6vY");
}

#[test]
fn responses_over_both_families() {
    let families =
        [(RESPONSE_IPV4, "192.0.2.1:32853"), (RESPONSE_IPV6, "[2001:db8:1234:5678:11:2233:4455:6677]:32853")];
    for (response, address) in families {
        let bytes = bytes(response);
        let message = Message::from_bytes(&bytes).unwrap();
        let password = ShortTermCredentials::new(SHORT_TERM_PASSWORD.to_owned());
        message.validate_integrity(&password.into()).unwrap();
        let mapped = message.attribute::<XorMappedAddress>().unwrap().addr(message.transaction_id());
        assert_eq!(mapped, address.parse().unwrap());
    }
}

#[test]
fn long_term_request() {
    let bytes = bytes(LONG_TERM);
    let message = Message::from_bytes(&bytes).unwrap();
    let username = "\u{30DE}\u{30C8}\u{30EA}\u{30C3}\u{30AF}\u{30B9}".to_owned();
    let key = LongTermKeyCredentials::new(username, "TheMatrIX".to_owned(), "example.org".to_owned());
    message.validate_integrity(&key.into()).unwrap();
}
