//! Settings: which layer wins, what is refused.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use tandem_api::{Origin, Redundancy};
use tandem_node::config::{Answer, ConfigError, Flags, Loaded, SETTINGS, load};
use tandem_node::overlay::Places;

fn load_with(
    file: &str,
    flags: &[(&'static str, &str)],
    variables: &[(&str, &str)],
) -> Result<Loaded, ConfigError> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("tandem.toml"), file).unwrap();
    let flags: Flags = flags.iter().map(|(key, value)| (*key, vec![(*value).to_owned()])).collect();
    let variables: BTreeMap<String, String> =
        variables.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    load(folder.path(), &flags, &variables)
}

fn origin(loaded: &Loaded, key: &str) -> Origin {
    loaded.view.settings.iter().find(|entry| entry.key == key).unwrap().origin
}

#[test]
fn flags_win_over_environment_over_file_over_defaults() {
    let file = "network = \"file\"\napi = \"127.0.0.1:1\"\nredundancy = \"off\"\nrelay_only = true\n";
    let variables = [("TANDEM_NETWORK", "env"), ("TANDEM_API", "127.0.0.1:2")];
    let loaded = load_with(file, &[("network", "flag")], &variables).unwrap();
    assert_eq!(loaded.config.network, "flag");
    assert_eq!(loaded.config.api.port(), 2);
    assert_eq!(loaded.config.redundancy, Redundancy::Off);
    assert!(loaded.config.relay_only);
    assert_eq!(loaded.config.answer, Answer::Ring);
    assert_eq!(origin(&loaded, "network"), Origin::Flag);
    assert_eq!(origin(&loaded, "api"), Origin::Environment);
    assert_eq!(origin(&loaded, "redundancy"), Origin::File);
    assert_eq!(origin(&loaded, "answer"), Origin::Default);
    assert_eq!(loaded.view.settings.len(), SETTINGS.len());
}

#[test]
fn ringing_before_an_automatic_answer_is_a_time_that_a_caller_waits() {
    let after = |text: &str| load_with("", &[("answer_after", text)], &[]).map(|l| l.config.answer_after);
    assert_eq!(after("2s").unwrap(), Duration::from_secs(2));
    assert_eq!(after("500ms").unwrap(), Duration::from_millis(500));
    assert_eq!(after("1.5").unwrap(), Duration::from_millis(1_500));
    assert_eq!(after("0").unwrap(), Duration::ZERO);
    for wrong in ["", "soon", "-1s", "51s", "nan", "1e300", "2m"] {
        let error = after(wrong).unwrap_err();
        assert!(matches!(error, ConfigError::Value { key: "answer_after", .. }), "{wrong}: {error:?}");
    }
}

#[test]
fn no_file_is_an_empty_file() {
    let loaded = load(Path::new("/nonexistent"), &Flags::new(), &BTreeMap::new()).unwrap();
    assert_eq!(loaded.config, tandem_node::config::Config::default());
    assert_eq!(loaded.view.file, None);
}

#[test]
fn lists_and_tables_come_from_every_layer() {
    let file =
        "public_ranges = [\"10.0.0.0/8\"]\n[volunteer]\nroles = [\"relay\"]\naccept_terms = 1\ncalls = 3\n";
    let loaded =
        load_with(file, &[("volunteer.roles", "directory,relay")], &[("TANDEM_VOLUNTEER_CALLS", "4")])
            .unwrap();
    assert!(loaded.config.volunteer.directory && loaded.config.volunteer.relay);
    assert_eq!(loaded.config.volunteer.accept_terms, Some(1));
    assert_eq!(loaded.config.volunteer.caps.calls, 4);
    assert_eq!(loaded.config.public_ranges.len(), 1);
}

#[test]
fn a_supernode_behind_a_nat_says_where_it_is_reached() {
    let behind = "listen = \"10.0.0.5:4001\"\nexternal = [\"198.51.100.7:4001\", \"[2001:db8::7]:4001\"]\n";
    let loaded = load_with(behind, &[], &[]).unwrap();
    assert_eq!(loaded.config.reached_at().full, loaded.config.external);
    assert_eq!(loaded.config.external.len(), 2);
    let flags = [("listen", "10.0.0.5:4001")];
    let own = Places::one("10.0.0.5:4001".parse().unwrap());
    assert_eq!(load_with("", &flags, &[]).unwrap().config.reached_at(), own);
    for nowhere in
        ["0.0.0.0:4001", "[::]:4001", "198.51.100.7:0", "198.51.100.7", "198.51.100.7:443/tcp", "x/tcp"]
    {
        let error = load_with("", &[("external", nowhere)], &[]).unwrap_err();
        assert!(matches!(error, ConfigError::Value { key: "external", .. }), "{nowhere}: {error}");
    }
}

#[test]
fn a_supernode_listens_in_both_families_and_on_443() {
    let file = "listen = [\"198.51.100.7:4001\", \"[2001:db8::7]:4001\"]\n\
                listen_tcp = [\"198.51.100.7:443\", \"[2001:db8::7]:443\"]\n";
    let config = load_with(file, &[], &[]).unwrap().config;
    let reached = config.reached_at();
    assert_eq!((&reached.full, &reached.tcp), (&config.listen, &config.listen_tcp));
    assert_eq!((reached.full.len(), reached.tcp.len()), (2, 2));
    assert_eq!(config.source_address(), Some("198.51.100.7".parse().unwrap()));

    let outside = "198.51.100.7:4001,[2001:db8::7]:4001,198.51.100.7:443/tcp";
    let loaded = load_with("", &[("listen", "0.0.0.0:4001,[::]:4001"), ("external", outside)], &[]).unwrap();
    assert_eq!(loaded.config.reached_at().tcp, ["198.51.100.7:443".parse().unwrap()]);
    assert_eq!(loaded.config.source_address(), None);
    let shown = loaded.view.settings.iter().find(|entry| entry.key == "external").unwrap();
    assert_eq!(shown.value.as_array().unwrap().len(), 3);
    assert_eq!(shown.value[2], "198.51.100.7:443/tcp");

    let five = "10.0.0.1:1,10.0.0.1:3,10.0.0.1:5,10.0.0.1:7,10.0.0.1:9";
    for key in ["listen", "external"] {
        assert!(load_with("", &[(key, five)], &[]).is_err(), "a descriptor has room for four such {key}");
    }
    assert!(load_with("", &[("listen", &five[..43])], &[]).is_ok());
}

#[test]
fn an_unknown_setting_is_refused_with_the_one_that_was_meant() {
    let error = load_with("bootstraps = []", &[], &[]).unwrap_err();
    let problem = error.problem();
    assert_eq!(problem.code, "T1201");
    assert!(problem.action.contains("\"bootstrap\""), "{}", problem.action);
    let error = load_with("[volunteer]\naccept_term = 1", &[], &[]).unwrap_err();
    assert!(error.problem().action.contains("volunteer.accept_terms"));
    assert!(matches!(
        load_with("[network]\nid = 1", &[], &[]),
        Err(ConfigError::Value { key: "network", .. })
    ));
}

#[test]
fn wrong_values_name_their_setting_and_their_origin() {
    let from_file = [
        "network = 7",
        "network = \"A B\"",
        "volunteer.roles = [\"king\"]",
        "relay_only = \"yes\"",
        "bootstrap = [\"x\"]",
    ];
    for text in from_file {
        assert!(
            matches!(load_with(text, &[], &[]), Err(ConfigError::Value { origin: Origin::File, .. })),
            "{text}"
        );
    }
    let error = load_with("", &[("answer", "sing")], &[]).unwrap_err();
    assert!(matches!(error, ConfigError::Value { key: "answer", origin: Origin::Flag, .. }));
    let error = load_with("", &[], &[("TANDEM_ACCEPT_TERMS", "-1")]).unwrap_err();
    assert!(matches!(error, ConfigError::Value { origin: Origin::Environment, .. }));
    assert!(matches!(load_with("network = ", &[], &[]), Err(ConfigError::File { .. })));
}
