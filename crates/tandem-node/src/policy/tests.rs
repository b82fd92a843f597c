use tandem_proto::identity::{NetworkSecret, ServiceSecret};

use super::*;

fn key(seed: u8) -> ServiceKey {
    ServiceSecret::from_seed(&[seed; 32]).public()
}

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn wrong(text: &str) -> ParseError {
    parse(text).unwrap_err()
}

#[test]
fn without_a_policy_everything_is_allowed() {
    let policy = parse("").unwrap();
    assert!(policy.is_none());
    assert!(policy.view().rules.is_empty());
    assert!(policy.may_connect(None, at("192.0.2.1:1")).is_ok());
    let mut config = Config::default();
    config.volunteer.relay = true;
    assert!(policy.hold(&mut config).is_empty());
    assert!(config.volunteer.relay);
}

#[test]
fn a_supernode_must_pass_every_rule() {
    let text = format!(
        "[supernodes]\nonly_ids = [\"{}\", \"{}\"]\nforbid_ids = [\"{}\"]\n\
         only_networks = [\"198.51.100.0/24\"]\nforbid_networks = [\"198.51.100.128/25\"]\n\
         [ports]\noutgoing = [\"443\", \"4000-4100\"]\n",
        key(1),
        key(2),
        key(2)
    );
    let policy = parse(&text).unwrap();
    let refused =
        |service, at_text| policy.may_connect(service, at(at_text)).err().map(|refusal| refusal.key);
    for (service, place, expected) in [
        (Some(key(1)), "198.51.100.7:443", None),
        (Some(key(1)), "198.51.100.7:4100", None),
        (Some(key(1)), "198.51.100.7:4101", Some("ports.outgoing")),
        (Some(key(1)), "198.51.100.200:443", Some("supernodes.forbid_networks")),
        (Some(key(1)), "203.0.113.1:443", Some("supernodes.only_networks")),
        (Some(key(1)), "[2001:db8::1]:443", Some("supernodes.only_networks")),
        (Some(key(1)), "[::ffff:198.51.100.7]:443", None),
        (Some(key(2)), "198.51.100.7:443", Some("supernodes.forbid_ids")),
        (Some(key(3)), "198.51.100.7:443", Some("supernodes.only_ids")),
        (None, "198.51.100.7:443", Some("supernodes.only_ids")),
    ] {
        assert_eq!(refused(service, place), expected, "{service:?} {place}");
    }
}

#[test]
fn an_empty_list_of_what_is_allowed_allows_nothing() {
    let policy =
        parse("[supernodes]\nonly_ids = []\n[serving]\nroles = []\n[ports]\noutgoing = []\n").unwrap();
    assert!(policy.may_know(key(1)).is_err());
    assert!(policy.may_serve(Role::Directory).is_err() && policy.may_serve(Role::Relay).is_err());
    assert!(policy.may_send(443).is_err());
    assert_eq!(policy.view().rules.len(), 3);
}

#[test]
fn settings_are_held() {
    let text = "[serving]\nroles = [\"directory\"]\ndevices = 100\n[calls]\nrelay_only = true\nstrangers = \"requests\"\n\
                [ports]\nmapping = false\n[network]\nid = \"acme\"\n";
    let mut config = Config { strangers: Some(Strangers::Ring), ..Config::default() };
    config.volunteer.directory = true;
    config.volunteer.relay = true;
    config.policy = std::sync::Arc::new(parse(text).unwrap());
    let held = config.clone().held();
    assert!(held.relay_only && !held.port_mapping && held.volunteer.directory && !held.volunteer.relay);
    assert_eq!(held.strangers(), Strangers::Requests);
    assert_eq!(held.volunteer.caps.devices, 100);
    assert_eq!(held.volunteer.caps.calls, config.volunteer.caps.calls);
    assert_eq!(held.network, "acme");
    assert_eq!(held.clone().held(), held, "holding twice changes nothing");
    config.strangers = Some(Strangers::Refuse);
    config.volunteer.caps.devices = 5;
    let held = config.held();
    assert_eq!(held.strangers(), Strangers::Refuse, "a person may be stricter");
    assert_eq!(held.volunteer.caps.devices, 5);
}

#[test]
fn a_place_to_listen_on_must_lie_within_the_ports() {
    let mut config = Config { listen: vec![at("192.0.2.1:50000")], ..Config::default() };
    config.policy = std::sync::Arc::new(parse("[ports]\nlocal = \"50000-50015\"").unwrap());
    assert!(config.check().is_ok());
    config.listen = vec![at("192.0.2.1:50015")];
    assert!(config.check().is_ok());
    let policy = std::sync::Arc::clone(&config.policy);
    config.volunteer.relay = true;
    assert_eq!(policy.check(&config).unwrap_err().key, "ports.local", "the relay's own port is outside");
    config.volunteer.relay = false;
    config.listen_tcp = vec![at("192.0.2.1:443")];
    assert_eq!(config.check().unwrap_err().code, "T2004");
}

#[test]
fn errors_name_their_line_and_what_to_do() {
    let error = wrong("[serving]\nroles = [\"directory\"]\n[calls]\nrelay_onyl = true\n");
    assert_eq!(error.line, 4);
    assert!(error.action.contains("calls.relay_only"), "{error:?}");
    for (text, line, part) in [
        ("x", 1, ""),
        ("[supernodes]\n\nonly_ids = [\n  \"abc\",\n]\n", 4, "peer id"),
        ("[supernodes]\nforbid_networks = [\"10.0.0.0/33\"]\n", 2, "prefix"),
        ("[supernodes]\nforbid_networks = \"10.0.0.0/8\"\n", 2, "a list"),
        ("[serving]\nroles = [\"king\"]\n", 2, "roles"),
        ("[serving]\ndevices = -1\n", 2, "a whole number"),
        ("[serving]\ndevices = 4294967296\n", 2, "too large"),
        ("[serving]\ndevices = \"5\"\n", 2, "a whole number"),
        ("[calls]\nrelay_only = \"yes\"\n", 2, "true or false"),
        ("[calls]\nstrangers = \"no\"\n", 2, "none of"),
        ("[ports]\noutgoing = [\"0\"]\n", 2, "port"),
        ("[ports]\noutgoing = [\"5-4\"]\n", 2, "port"),
        ("[ports]\nlocal = \"50000-50004\"\n", 2, "at least"),
        ("[network]\nid = \"UPPER\"\n", 2, ""),
        ("[audit]\nrequired = true\n", 1, "audit.path"),
        ("[audit]\npath = \"log\"\n", 2, "root"),
        ("[network]\nkey = \"tandem-network:aa\"\n", 2, "mistyped"),
        ("[audits]\npath = \"x\"\n", 1, "not known"),
        ("serving = 5\n", 1, "not known"),
        ("[calls]\nrelay_only = true\nrelay_only = true\n", 3, ""),
        ("relay_only = true\n", 1, "not known"),
    ] {
        let error = wrong(text);
        assert_eq!(error.line, line, "{text}: {error:?}");
        assert!(error.what.contains(part), "{text}: {error:?}");
        assert!(error.action.ends_with(['.', '?']), "{error:?}");
    }
}

#[test]
fn nobody_begins_with_what_is_forbidden() {
    let address = format!("/ip4/192.0.2.1/udp/4001/quic-v1/p2p/{}", key(1));
    let with = |rest: &str| parse(&format!("[supernodes]\nbootstrap = [\"{address}\"]\n{rest}"));
    assert!(with("only_networks = [\"192.0.2.0/24\"]").is_ok());
    let error = with("forbid_networks = [\"192.0.2.0/24\"]").unwrap_err();
    assert_eq!(error.line, 2);
    assert!(error.what.contains("supernodes.forbid_networks"), "{error:?}");
    let mut config = Config { bootstrap: vec![address], ..Config::default() };
    parse(&format!("[supernodes]\nforbid_ids = [\"{}\"]", key(1))).unwrap().hold(&mut config);
    assert!(config.bootstrap.is_empty());
}

#[test]
fn every_key_can_be_said_and_is_documented() {
    let id = key(1);
    let value = |key: &str| match key {
        "supernodes.only_ids" | "supernodes.forbid_ids" => format!("[\"{id}\"]"),
        "supernodes.only_networks" | "supernodes.forbid_networks" => "[\"192.0.2.0/24\"]".to_owned(),
        "supernodes.bootstrap" => format!("[\"/ip4/192.0.2.1/tcp/4001/p2p/{id}\"]"),
        "serving.roles" => "[]".to_owned(),
        "calls.relay_only" => "true".to_owned(),
        "calls.invitations" | "calls.recording" | "ports.mapping" => "false".to_owned(),
        "calls.strangers" => "\"refuse\"".to_owned(),
        "ports.outgoing" => "[\"443\"]".to_owned(),
        "ports.local" => "\"50000-50100\"".to_owned(),
        "network.id" => "\"acme\"".to_owned(),
        "network.key" => format!("\"{}\"\nid = \"acme\"", NetworkSecret::from_seed(&[1; 32]).public()),
        "network.membership" => "\"/etc/tandem/membership\"".to_owned(),
        "audit.path" => "\"/var/log/tandem/{uid}.jsonl\"".to_owned(),
        "audit.required" => "true\npath = \"/x\"".to_owned(),
        _ => "1".to_owned(),
    };
    let manual = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/POLICY.md");
    let manual = std::fs::read_to_string(manual).unwrap();
    for known in KEYS {
        let (table, name) = known.key.split_once('.').unwrap();
        let policy = parse(&format!("[{table}]\n{name} = {}\n", value(known.key))).unwrap();
        assert!(!policy.is_none(), "{}", known.key);
        let view = policy.view();
        let rule = view.rules.iter().find(|rule| rule.key == known.key).expect("the key is told");
        assert!(!rule.means.is_empty());
        for setting in &rule.settings {
            assert!(crate::config::is_setting(setting), "{setting}");
            assert_eq!(policy.bound(setting), Some(known.key));
        }
        assert!(manual.contains(&format!("| `{}` |", known.key)), "{} is not in docs/POLICY.md", known.key);
    }
}

/// Settings of somebody who wants everything, held by a policy.
fn held(policy: &Policy) -> Config {
    let mut config = Config { strangers: Some(Strangers::Ring), ..Config::default() };
    (config.volunteer.directory, config.volunteer.relay) = (true, true);
    config.volunteer.caps = Caps {
        devices: 9_999,
        calls: 9_999,
        bits_per_second: u64::MAX,
        bytes_per_month: u64::MAX,
        directory_bytes_per_month: u64::MAX,
    };
    config.policy = std::sync::Arc::new(policy.clone());
    config.held()
}

/// Whether a node under this policy does what the key is there to prevent. (What it does is tested on whole nodes in
/// `tests/it/node_policy.rs`; this is every key.)
fn is_done(key_name: &str, policy: &Policy, folder: &std::path::Path) -> bool {
    let place = at("192.0.2.1:4001");
    let caps = held(policy).volunteer.caps;
    match key_name {
        "supernodes.only_ids" => {
            policy.may_connect(Some(key(2)), place).is_ok() || policy.may_connect(None, place).is_ok()
        }
        "supernodes.forbid_ids" => policy.may_connect(Some(key(1)), place).is_ok(),
        "supernodes.only_networks" => policy.may_connect(None, at("198.51.100.1:4001")).is_ok(),
        "supernodes.forbid_networks" => policy.may_connect(None, place).is_ok(),
        "supernodes.bootstrap" => held(policy).bootstrap.is_empty(),
        "serving.roles" => {
            held(policy).volunteer.relay
                || held(policy).volunteer.directory
                || policy.may_serve(Role::Directory).is_ok()
        }
        "serving.devices" => caps.devices > 1,
        "serving.calls" => caps.calls > 1,
        "serving.bits_per_second" => caps.bits_per_second > 1,
        "serving.bytes_per_month" => caps.bytes_per_month > 1,
        "serving.directory_bytes_per_month" => caps.directory_bytes_per_month > 1,
        "calls.relay_only" => !held(policy).relay_only || policy.may_go_direct(place).is_ok(),
        "calls.strangers" => held(policy).strangers() != Strangers::Refuse,
        "calls.invitations" => policy.may_invite().is_ok(),
        "calls.recording" => policy.may_record().is_ok(),
        "ports.outgoing" => {
            policy.may_connect(None, place).is_ok()
                || policy.may_go_direct(place).is_ok()
                || policy.may_map_ports()
        }
        "ports.local" => policy.may_listen(4001).is_ok(),
        "ports.mapping" => policy.may_map_ports() || held(policy).port_mapping,
        "network.id" => held(policy).network != "acme",
        "network.key" => held(policy).network_key.is_none(),
        "network.membership" => held(policy).membership.is_none(),
        "audit.path" => {
            let warden = Warden::open(std::sync::Arc::new(policy.clone())).unwrap();
            !warden.audit().is_on()
        }
        "audit.required" => {
            // There is a folder where the log should be.
            std::fs::create_dir_all(folder.join("taken")).unwrap();
            Warden::open(std::sync::Arc::new(policy.clone())).is_ok()
        }
        _ => panic!("{key_name} is enforced nowhere that is tested"),
    }
}

#[test]
fn every_key_prevents_what_happens_without_it() {
    let folder = tempfile::tempdir().unwrap();
    let id = key(1);
    for known in KEYS {
        let (table, name) = known.key.split_once('.').unwrap();
        let path = |file: &str| folder.path().join(file).display().to_string();
        let (value, rest) = match known.key {
            "supernodes.only_ids" | "supernodes.forbid_ids" => (format!("[\"{id}\"]"), String::new()),
            "supernodes.only_networks" | "supernodes.forbid_networks" => {
                ("[\"192.0.2.0/24\"]".to_owned(), String::new())
            }
            "supernodes.bootstrap" => (format!("[\"/ip4/192.0.2.1/tcp/4001/p2p/{id}\"]"), String::new()),
            "serving.roles" => ("[]".to_owned(), String::new()),
            "calls.relay_only" => ("true".to_owned(), String::new()),
            "calls.invitations" | "calls.recording" | "ports.mapping" => ("false".to_owned(), String::new()),
            "calls.strangers" => ("\"refuse\"".to_owned(), String::new()),
            "ports.outgoing" => ("[\"443\"]".to_owned(), String::new()),
            "ports.local" => ("\"50000-50100\"".to_owned(), String::new()),
            "network.id" => ("\"acme\"".to_owned(), String::new()),
            "network.key" => {
                (format!("\"{}\"", NetworkSecret::from_seed(&[1; 32]).public()), "id = \"acme\"".to_owned())
            }
            "network.membership" => ("\"/etc/tandem/membership\"".to_owned(), String::new()),
            "audit.path" => (format!("{:?}", path("log.jsonl")), String::new()),
            "audit.required" => ("true".to_owned(), format!("path = {:?}", path("taken"))),
            _ => ("1".to_owned(), String::new()),
        };
        let with = parse(&format!("[{table}]\n{name} = {value}\n{rest}\n")).unwrap();
        let without = parse(&format!("[{table}]\n{rest}\n")).unwrap();
        assert!(is_done(known.key, &without, folder.path()), "{} is not what prevents it", known.key);
        assert!(!is_done(known.key, &with, folder.path()), "{} prevents nothing", known.key);
    }
}
