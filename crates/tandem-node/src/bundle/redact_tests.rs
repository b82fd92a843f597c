use proptest::prelude::*;
use tandem_proto::identity::{Address, Entropy, word_list};
use tandem_proto::ids::{AccountKey, DeviceKey};

use super::*;

fn redactor() -> Redactor {
    let mut redactor = Redactor::new([7; 32], word_list().map(str::to_owned));
    redactor.know("Wilhelmina", "name");
    redactor.know("Al", "name");
    redactor
}

fn out(text: &str) -> String {
    redactor().text(text)
}

/// A key that is on the curve, so that every writing of it can be read back.
fn key(seed: u8) -> [u8; 32] {
    Entropy::new([seed; 32]).account_secret().public().0
}

#[test]
fn what_a_reader_needs_stays() {
    for text in [
        "2026-11-23T02:14:31.123456Z  INFO tandem_node::node::phone: serving others version=0.1.0",
        "the relay did not answer within 1500 ms; UDP and TCP tried",
        "crates/tandem-node/src/why/mod.rs:17:5",
        "volunteer.accept_terms = 1, see tandem.toml",
        "index 3 of 12 out of range",
    ] {
        assert_eq!(out(text), text);
    }
}

#[test]
fn addresses_keep_their_kind_only() {
    for (address, kind) in [
        ("192.168.1.7", "ip4-private-"),
        ("9.8.7.6", "ip4-public-"),
        ("100.64.0.9", "ip4-carrier-"),
        ("127.3.0.1", "ip4-loopback-"),
        ("2a00:1450::7", "ip6-public-"),
        ("fd12:3456:789a:1:2:3:4:5", "ip6-private-"),
        ("fe80::1", "ip6-link-local-"),
        ("::ffff:9.8.7.6", "ip4-public-"),
    ] {
        for text in
            [format!("from {address}, lost"), format!("[{address}]:4001"), format!("/ip4/{address}/tcp")]
        {
            let redacted = out(&text);
            assert!(redacted.contains(kind) && !redacted.contains(address), "{text}: {redacted}");
        }
    }
    assert!(out("9.8.7.6:4001").ends_with(":4001"), "ports stay");
}

#[test]
fn the_same_thing_has_the_same_name_and_another_bundle_another() {
    let peer = DeviceKey(key(1)).to_string();
    let hex = data_encoding::HEXLOWER.encode(&key(1));
    assert_eq!(out(&peer), out(&hex), "one key in two writings");
    let address = Address(AccountKey(key(1))).to_string();
    assert_eq!(out(&address), format!("tandem:{}", out(&hex)));
    assert_eq!(out("9.8.7.6"), out("::ffff:9.8.7.6"));
    assert_ne!(out("9.8.7.6"), out("9.8.7.7"));
    let other = Redactor::new([8; 32], Vec::new());
    assert_ne!(other.text("9.8.7.6"), out("9.8.7.6"));
}

#[test]
fn names_words_paths_and_hosts_go() {
    let words = Entropy::new([3; 32]).words();
    let numbered: String =
        words.split(' ').enumerate().map(|(n, word)| format!("{}. {word}\n", n + 1)).collect();
    for secret in [words.as_str(), &words.replace(' ', "\", \""), &numbered, &words.to_uppercase()] {
        assert_eq!(out(secret).matches("[words]").count(), 1, "{}", out(secret));
    }
    for (text, secret) in [
        ("call to wilhelmina's phone", "wilhelmina"),
        ("WILHELMINA rang", "WILHELMINA"),
        ("(Al)", "Al"),
        ("play=/home/wanda/birthday.wav", "wanda"),
        ("C:\\Users\\wanda\\x.wav", "wanda"),
        ("wanda@example.org wrote", "wanda"),
        ("dialled box.wanda.example", "wanda"),
        ("AccountKey(0a1b2c3d…)", "0a1b2c3d"),
        ("Relay …CVe2Xo fell silent", "CVe2Xo"),
        ("aa:bb:cc:dd:ee:ff", "cc:dd"),
        ("token=Zm9vYmFy-QmF6_cXV4MTIzNDU2Nzg5", "QmF6"),
    ] {
        assert!(!out(text).contains(secret), "{text}: {}", out(text));
    }
    assert_eq!(out("also all"), "also all", "a short name is a whole word");
}

#[test]
fn fields_of_people_go_whole() {
    let value = serde_json::json!({
        "name": "a b", "claimed_name": "c d", "note": "we met at five", "recording": "x.wav", "words": ["a", "b"],
        "reason": "hung_up", "blocked": true, "list": [{ "token": "short" }], "9.8.7.6": 1,
    });
    let text = redactor().json(&value).to_string();
    for secret in ["a b", "c d", "met", "x.wav", "[\"a\"", "short", "9.8.7.6"] {
        assert!(!text.contains(secret), "{secret}: {text}");
    }
    assert!(text.contains("hung_up") && text.contains("true"), "{text}");
}

/// Ways in which a log, a report or a setting may hold a thing.
fn embedded(before: &str, thing: &str, after: &str) -> Vec<String> {
    let mut texts = vec![
        format!("{before}{thing}{after}"),
        format!("{before} {thing} {after}"),
        format!("{before}=\"{thing}\"{after}"),
        format!("{before}[{thing}]:4001/{after}"),
    ];
    // Nothing with a slash of its own is written into a multiaddr.
    if !thing.contains('/') {
        texts.push(format!("{before}/ip4/{thing}/udp/1/quic-v1/p2p/{thing}{after}"));
    }
    texts
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_address_survives(before in "\\PC{0,12}", after in "\\PC{0,12}", v4: [u8; 4], v6: [u8; 16]) {
        let (v4, v6) = (Ipv4Addr::from(v4).to_string(), Ipv6Addr::from(v6).to_string());
        for thing in [v4, v6] {
            for text in embedded(&before, &thing, &after) {
                let redacted = out(&text);
                prop_assert!(!redacted.contains(&thing), "{text:?}: {redacted:?}");
            }
        }
    }

    #[test]
    fn no_key_survives(before in "\\PC{0,12}", after in "\\PC{0,12}", bytes: [u8; 32]) {
        let things = [
            DeviceKey(bytes).to_string(),
            Address(AccountKey(bytes)).to_string(),
            data_encoding::HEXLOWER.encode(&bytes),
            data_encoding::HEXUPPER.encode(&bytes),
            data_encoding::BASE32_NOPAD.encode(&bytes).to_lowercase(),
            data_encoding::BASE64.encode(&bytes),
            data_encoding::BASE64URL_NOPAD.encode(&bytes),
        ];
        for thing in &things {
            for text in embedded(&before, thing, &after) {
                let redacted = out(&text);
                // Nor any long piece of it.
                let letters: Vec<char> = thing.trim_start_matches("tandem:").chars().collect();
                for piece in letters.windows(16) {
                    let piece: String = piece.iter().collect();
                    prop_assert!(!redacted.contains(&piece), "{text:?}: {redacted:?}");
                }
            }
        }
    }

    #[test]
    fn any_text_is_taken(text in "\\PC{0,200}") {
        drop(out(&text));
    }
}

#[test]
fn keys_as_lists_of_bytes_go() {
    let bytes = key(1);
    let hex = out(&data_encoding::HEXLOWER.encode(&bytes));
    let pretty = format!("{bytes:#?}");
    for text in [format!("{bytes:?}"), pretty, format!("{bytes:02x?}"), format!("{bytes:#04x?}")] {
        assert_eq!(
            out(&format!("key={text}, seen")),
            format!("key=[{}{hex}{}], seen", edge(&text), edge_end(&text))
        );
    }
    // The end of a long one, where the log began.
    assert!(!out("34, 201, 7, 99, 250, 3, 18, 77]) was refused").contains("201"));
    for text in
        ["counts=[1, 2, 3] of [300, 400, 500, 600, 700, 800, 900, 1000]", "-3, -4, -5, -6, -7, -8, -9, -10"]
    {
        assert_eq!(out(text), text);
    }
    let value =
        serde_json::json!({ "sent": [1, 2, 3, 4, 5, 6, 7, 8], "odd": [[1, 2, 3, 4, 5, 6, 7, 8], [9]] });
    let redacted = redactor().json(&value);
    assert_eq!(redacted["sent"], value["sent"], "a series of figures stays");
    assert!(redacted["odd"][0].as_str().is_some_and(|name| name.starts_with("key-")), "{redacted}");
    assert_eq!(redacted["odd"][1], value["odd"][1]);
}

/// The white space that a list written over lines has at its edges.
fn edge(list: &str) -> &str {
    if list.contains('\n') { "\n    " } else { "" }
}

fn edge_end(list: &str) -> &str {
    if list.contains('\n') { ",\n" } else { "" }
}

#[test]
fn devices_go_and_words_like_their_names_stay() {
    let mut redactor = redactor();
    redactor.know_exactly("Phone", "device");
    let redacted = redactor.text("node::phone: The call was answered on \"Phone\". A telephone.");
    assert!(redacted.starts_with("node::phone: The call was answered on \"device-"), "{redacted}");
    assert!(redacted.ends_with("\". A telephone."), "{redacted}");
    let device = redactor.text("Phone");
    let value = serde_json::json!({ "answered_by": "Phone", "label": "Phone", "name": "WILHELMINA" });
    let redacted = redactor.json(&value);
    assert_eq!(redacted["answered_by"], redacted["label"], "one thing, one name");
    assert!(device.starts_with("device-"), "{device}");
    assert_eq!(redacted["name"], redactor.text("wilhelmina"));
    let unknown = redactor.json(&serde_json::json!({ "answered_by": "Kitchen" }));
    assert!(!unknown.to_string().contains("Kitchen"), "{unknown}");
}
