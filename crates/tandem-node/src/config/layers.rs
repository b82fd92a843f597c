//! From the four layers to one [`Config`].

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tandem_api::{ConfigEntry, ConfigView, Origin, Problem, Redundancy};
use tandem_core::call::Strangers;
use tandem_proto::ids::NetworkKey;
use tandem_proto::multiaddr::PeerAddress;
use thiserror::Error;
use toml::Value;

use super::settings::{self, SETTINGS, Setting, SettingKind};
use super::{ANSWER_AFTER_MAX, Answer, Caps, Cidr, Config, FILE_NAME, MeteredSetting, Volunteer};
use crate::messages::Code;
use crate::policy::{self, Policy};

/// The settings file is far smaller; anything larger is something else.
const FILE_BYTES_MAX: u64 = 256 * 1024;
const NETWORK_LEN_MAX: usize = 32;
const BOOTSTRAP_MAX: usize = 64;
/// Addresses of one kind in a supernode's descriptor.
const ADDRESSES_MAX: usize = tandem_proto::signed::ADDRESSES_MAX;

/// Values given as flags: the key of each setting and its texts (several for a list).
pub type Flags = BTreeMap<&'static str, Vec<String>>;

/// The settings and where each came from.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    pub config: Config,
    pub view: ConfigView,
}

/// Why there are no settings to start with.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ConfigError {
    #[error("{file} cannot be read: {detail}")]
    File { file: PathBuf, detail: String },
    #[error("{file} holds the unknown setting {key}")]
    Unknown { file: PathBuf, key: String, nearest: Option<&'static str> },
    #[error("{key} is wrong: {detail}")]
    Value { key: &'static str, origin: Origin, detail: String },
    /// The policy of this machine cannot be followed, so nothing starts.
    #[error("{}", .0.message)]
    Policy(Box<Problem>),
}

impl ConfigError {
    /// For a person.
    #[must_use]
    pub fn problem(&self) -> Problem {
        match self {
            Self::File { file, detail } => {
                Code::ConfigFile.with(&[("file", &file.display().to_string()), ("detail", detail)])
            }
            Self::Unknown { file, key, nearest } => {
                let hint = match nearest {
                    Some(nearest) => format!("Did you mean \"{nearest}\"?"),
                    None => "See what there is with: tandem config show.".to_owned(),
                };
                Code::ConfigUnknown.with(&[
                    ("key", key),
                    ("file", &file.display().to_string()),
                    ("hint", &hint),
                ])
            }
            Self::Value { key, origin, detail } => {
                Code::ConfigValue.with(&[("key", key), ("origin", origin_text(*origin)), ("detail", detail)])
            }
            Self::Policy(problem) => (**problem).clone(),
        }
    }
}

/// Where a value came from, in words.
fn origin_text(origin: Origin) -> &'static str {
    match origin {
        Origin::Policy => "from the policy of this machine",
        Origin::Flag => "from a flag",
        Origin::Environment => "from the environment",
        Origin::File => "from tandem.toml",
        Origin::Default => "the default",
    }
}

/// Reads the settings of a data folder, and makes them obey the policy of this machine. A file that is not there is an
/// empty one.
///
/// # Errors
/// [`ConfigError`]: the file cannot be read, holds an unknown key, or some value is wrong; the policy cannot be followed.
pub fn load(
    data: &Path,
    flags: &Flags,
    environment: &BTreeMap<String, String>,
) -> Result<Loaded, ConfigError> {
    let policy = policy::system().map_err(|error| ConfigError::Policy(Box::new(error.problem())))?;
    load_under(policy, data, flags, environment)
}

/// The same under a given policy.
///
/// # Errors
/// As [`load`].
pub fn load_under(
    policy: Policy,
    data: &Path,
    flags: &Flags,
    environment: &BTreeMap<String, String>,
) -> Result<Loaded, ConfigError> {
    let file = data.join(FILE_NAME);
    let text = read_file(&file)?;
    let mut values = Values::new();
    if let Some(text) = &text {
        add_file(&mut values, &file, text)?;
    }
    for setting in SETTINGS {
        if let Some(text) = environment.get(setting.variable).filter(|text| !text.is_empty()) {
            let value = from_texts(setting, std::slice::from_ref(text), Origin::Environment)?;
            values.insert(setting.key, (value, Origin::Environment));
        }
        if let Some(texts) = flags.get(setting.key) {
            values.insert(setting.key, (from_texts(setting, texts, Origin::Flag)?, Origin::Flag));
        }
    }
    let mut config = build(&values)?;
    let changed = config.obey(Arc::new(policy));
    let view = ConfigView {
        data: data.display().to_string(),
        file: text.map(|_| file.display().to_string()),
        settings: entries(&config, &values, &changed),
    };
    Ok(Loaded { config, view })
}

type Values = BTreeMap<&'static str, (Value, Origin)>;

fn read_file(file: &Path) -> Result<Option<String>, ConfigError> {
    let unreadable = |detail: String| ConfigError::File { file: file.to_owned(), detail };
    match std::fs::metadata(file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error.to_string())),
        Ok(metadata) if metadata.len() > FILE_BYTES_MAX => {
            return Err(unreadable("it is too large".to_owned()));
        }
        Ok(_) => {}
    }
    std::fs::read_to_string(file).map(Some).map_err(|error| unreadable(error.to_string()))
}

fn add_file(values: &mut Values, file: &Path, text: &str) -> Result<(), ConfigError> {
    let table: toml::Table = toml::from_str(text).map_err(|error| {
        let line = error.span().map(|span| 1 + text[..span.start.min(text.len())].matches('\n').count());
        let place = line.map(|line| format!(" (line {line})")).unwrap_or_default();
        ConfigError::File { file: file.to_owned(), detail: format!("{}{place}", error.message()) }
    })?;
    add_table(values, file, "", table)
}

fn add_table(values: &mut Values, file: &Path, prefix: &str, table: toml::Table) -> Result<(), ConfigError> {
    for (name, value) in table {
        let key = format!("{prefix}{name}");
        match (settings::by_key(&key), value) {
            (Some(setting), value) => {
                let value = match (setting.kind, value) {
                    (SettingKind::List, Value::String(one)) => Value::Array(vec![one.into()]),
                    (_, value) => value,
                };
                check_kind(setting, &value)?;
                values.insert(setting.key, (value, Origin::File));
            }
            // One level of tables is all there is.
            (None, Value::Table(inner)) if prefix.is_empty() && key == "volunteer" => {
                add_table(values, file, &format!("{key}."), inner)?;
            }
            (None, _) => {
                let nearest = settings::nearest(&key);
                return Err(ConfigError::Unknown { file: file.to_owned(), key, nearest });
            }
        }
    }
    Ok(())
}

fn check_kind(setting: &Setting, value: &Value) -> Result<(), ConfigError> {
    let (fits, wanted) = match setting.kind {
        SettingKind::Text => (value.is_str(), "a text in quotes"),
        SettingKind::List => {
            (value.as_array().is_some_and(|list| list.iter().all(Value::is_str)), "a list of texts: [\"…\"]")
        }
        SettingKind::Number => (value.as_integer().is_some_and(|number| number >= 0), "a number, 0 or more"),
        SettingKind::Switch => (value.is_bool(), "true or false"),
        SettingKind::SwitchOrAuto => {
            (value.is_bool() || value.as_str() == Some("auto"), "true, false or \"auto\"")
        }
    };
    if fits { Ok(()) } else { Err(wrong(setting.key, Origin::File, format!("it must be {wanted}"))) }
}

fn from_texts(setting: &Setting, texts: &[String], origin: Origin) -> Result<Value, ConfigError> {
    let last = texts.last().map(String::as_str).unwrap_or_default().trim();
    match setting.kind {
        SettingKind::Text => Ok(Value::String(last.to_owned())),
        SettingKind::List => {
            let parts = texts.iter().flat_map(|text| text.split(',')).map(str::trim);
            Ok(Value::Array(
                parts.filter(|part| !part.is_empty()).map(|part| part.to_owned().into()).collect(),
            ))
        }
        SettingKind::Number => match last.replace('_', "").parse::<i64>() {
            Ok(number) if number >= 0 => Ok(Value::Integer(number)),
            _ => Err(wrong(setting.key, origin, format!("\"{last}\" is not a number, 0 or more"))),
        },
        SettingKind::Switch => switch(last)
            .ok_or_else(|| wrong(setting.key, origin, format!("\"{last}\" is neither true nor false"))),
        SettingKind::SwitchOrAuto if last.eq_ignore_ascii_case("auto") => {
            Ok(Value::String("auto".to_owned()))
        }
        SettingKind::SwitchOrAuto => switch(last)
            .ok_or_else(|| wrong(setting.key, origin, format!("\"{last}\" is neither true, false nor auto"))),
    }
}

fn switch(text: &str) -> Option<Value> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Some(Value::Boolean(true)),
        "false" | "0" | "no" | "off" => Some(Value::Boolean(false)),
        _ => None,
    }
}

fn wrong(key: &'static str, origin: Origin, detail: String) -> ConfigError {
    ConfigError::Value { key, origin, detail }
}

fn build(values: &Values) -> Result<Config, ConfigError> {
    let defaults = Config::default();
    let bootstrap = list(values, "bootstrap", check_bootstrap)?.unwrap_or_default();
    if bootstrap.len() > BOOTSTRAP_MAX {
        let origin = origin_of(values, "bootstrap");
        return Err(wrong("bootstrap", origin, format!("there may be at most {BOOTSTRAP_MAX} addresses")));
    }
    let listen = list(values, "listen", socket)?.unwrap_or_default();
    let listen_tcp = list(values, "listen_tcp", socket)?.unwrap_or_default();
    check_room(values, "listen", listen.len(), listen_tcp.len())?;
    let (external, external_tcp) = external(values)?;
    Ok(Config {
        network: text(values, "network", network)?.unwrap_or(defaults.network),
        network_key: text(values, "network_key", |text| {
            text.parse::<NetworkKey>().map_err(|e| e.to_string())
        })?,
        membership: text(values, "membership", |text| Ok(PathBuf::from(text)))?,
        bootstrap,
        listen,
        listen_tcp,
        external,
        external_tcp,
        api: text(values, "api", socket)?.unwrap_or(defaults.api),
        metered: match values.get("metered") {
            Some((Value::Boolean(metered), _)) => MeteredSetting::of(*metered),
            _ => defaults.metered,
        },
        volunteer: volunteer(values)?,
        answer: text(values, "answer", answer)?.unwrap_or(defaults.answer),
        answer_after: text(values, "answer_after", ringing_time)?.unwrap_or(defaults.answer_after),
        redundancy: text(values, "redundancy", redundancy)?.unwrap_or(defaults.redundancy),
        port_mapping: values
            .get("port_mapping")
            .and_then(|(value, _)| value.as_bool())
            .unwrap_or(defaults.port_mapping),
        relay_only: values
            .get("relay_only")
            .and_then(|(value, _)| value.as_bool())
            .unwrap_or(defaults.relay_only),
        strangers: text(values, "strangers", strangers)?,
        early_media: text(values, "early_media", early_media)?.unwrap_or(defaults.early_media),
        public_ranges: list(values, "public_ranges", |text| text.parse::<Cidr>().map_err(|e| e.to_string()))?
            .unwrap_or_default(),
        log: text(values, "log", log_filter)?.unwrap_or(defaults.log),
        policy: defaults.policy,
    })
}

fn volunteer(values: &Values) -> Result<Volunteer, ConfigError> {
    let defaults = Caps::default();
    let roles = list(values, "volunteer.roles", |role| match role {
        "directory" | "relay" => Ok(role.to_owned()),
        _ => Err(format!("\"{role}\" is no role; there are directory and relay")),
    })?
    .unwrap_or_default();
    let caps = Caps {
        devices: number(values, "volunteer.devices")?.unwrap_or(defaults.devices),
        calls: number(values, "volunteer.calls")?.unwrap_or(defaults.calls),
        bits_per_second: number(values, "volunteer.bits_per_second")?.unwrap_or(defaults.bits_per_second),
        bytes_per_month: number(values, "volunteer.bytes_per_month")?.unwrap_or(defaults.bytes_per_month),
        directory_bytes_per_month: number(values, "volunteer.directory_bytes_per_month")?
            .unwrap_or(defaults.directory_bytes_per_month),
    };
    Ok(Volunteer {
        directory: roles.iter().any(|role| role == "directory"),
        relay: roles.iter().any(|role| role == "relay"),
        accept_terms: number(values, "volunteer.accept_terms")?,
        caps,
        policy: Arc::default(),
    })
}

fn text<T>(
    values: &Values,
    key: &'static str,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<Option<T>, ConfigError> {
    let Some((Value::String(text), origin)) = values.get(key) else { return Ok(None) };
    parse(text).map(Some).map_err(|detail| wrong(key, *origin, detail))
}

fn list<T>(
    values: &Values,
    key: &'static str,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<Option<Vec<T>>, ConfigError> {
    let Some((Value::Array(items), origin)) = values.get(key) else { return Ok(None) };
    let parsed: Result<Vec<T>, String> = items.iter().filter_map(Value::as_str).map(parse).collect();
    parsed.map(Some).map_err(|detail| wrong(key, *origin, detail))
}

fn number<T: TryFrom<i64>>(values: &Values, key: &'static str) -> Result<Option<T>, ConfigError> {
    let Some((Value::Integer(number), origin)) = values.get(key) else { return Ok(None) };
    T::try_from(*number).map(Some).map_err(|_| wrong(key, *origin, "it is too large".to_owned()))
}

fn network(text: &str) -> Result<String, String> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if (1..=NETWORK_LEN_MAX).contains(&text.len()) && text.chars().all(fits) {
        return Ok(text.to_owned());
    }
    Err(format!("a network id has 1 to {NETWORK_LEN_MAX} of a–z, 0–9 and -"))
}

fn check_bootstrap(text: &str) -> Result<String, String> {
    text.parse::<PeerAddress>().map(|_| text.to_owned()).map_err(|error| format!("\"{text}\": {error}"))
}

fn socket(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("\"{text}\" is no address and port; one looks like 127.0.0.1:7710"))
}

/// Where others reach this node over UDP and TCP, and where over TCP alone (`IP:PORT/tcp`).
fn external(values: &Values) -> Result<(Vec<SocketAddr>, Vec<SocketAddr>), ConfigError> {
    let reachable = |text: &str| {
        let (address, tcp_only) = text.strip_suffix("/tcp").map_or((text, false), |address| (address, true));
        match socket(address)? {
            address if address.ip().is_unspecified() || address.port() == 0 => {
                Err(format!("\"{text}\" is no address and port that others could reach"))
            }
            address => Ok((address, tcp_only)),
        }
    };
    let all = list(values, "external", reachable)?.unwrap_or_default();
    let (tcp, full): (Vec<_>, Vec<_>) = all.into_iter().partition(|(_, tcp_only)| *tcp_only);
    check_room(values, "external", full.len(), tcp.len())?;
    if full.is_empty() && !tcp.is_empty() {
        let detail = "besides addresses for TCP alone there must be one for both, IP:PORT".to_owned();
        return Err(wrong("external", origin_of(values, "external"), detail));
    }
    let addresses = |list: Vec<(SocketAddr, bool)>| list.into_iter().map(|(address, _)| address).collect();
    Ok((addresses(full), addresses(tcp)))
}

/// What the descriptor has room for: each full place is two addresses, one for TCP alone is one.
fn check_room(values: &Values, key: &'static str, full: usize, tcp: usize) -> Result<(), ConfigError> {
    if full.saturating_mul(2).saturating_add(tcp) <= ADDRESSES_MAX {
        return Ok(());
    }
    let detail = format!(
        "there is room for {ADDRESSES_MAX}: an address for UDP and TCP counts as two, one for TCP alone as one"
    );
    Err(wrong(key, origin_of(values, key), detail))
}

fn origin_of(values: &Values, key: &str) -> Origin {
    values.get(key).map_or(Origin::Default, |(_, origin)| *origin)
}

fn answer(text: &str) -> Result<Answer, String> {
    match text {
        "ring" => Ok(Answer::Ring),
        "echo" => Ok(Answer::Echo),
        _ => match text.strip_prefix("wav:") {
            Some(file) if !file.is_empty() => Ok(Answer::Wav(PathBuf::from(file))),
            _ => Err(format!("\"{text}\" is none of ring, echo and wav:FILE")),
        },
    }
}

/// `2s`, `500ms`, or seconds alone.
fn ringing_time(text: &str) -> Result<Duration, String> {
    let (number, unit_s) = match text.strip_suffix("ms") {
        Some(number) => (number, 0.001),
        None => (text.strip_suffix('s').unwrap_or(text), 1.0),
    };
    let seconds = number.trim().parse::<f64>().ok().map(|number| number * unit_s);
    let time = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    time.filter(|time| *time <= ANSWER_AFTER_MAX).ok_or_else(|| {
        format!("\"{text}\" is no time like 2s or 500ms, at most {} s", ANSWER_AFTER_MAX.as_secs())
    })
}

fn redundancy(text: &str) -> Result<Redundancy, String> {
    match text {
        "auto" => Ok(Redundancy::Auto),
        "always" => Ok(Redundancy::Always),
        "off" => Ok(Redundancy::Off),
        _ => Err(format!("\"{text}\" is none of auto, always and off")),
    }
}

fn strangers(text: &str) -> Result<Strangers, String> {
    match text {
        "requests" => Ok(Strangers::Requests),
        "ring" => Ok(Strangers::Ring),
        "refuse" => Ok(Strangers::Refuse),
        _ => Err(format!("\"{text}\" is none of requests, ring and refuse")),
    }
}

fn early_media(text: &str) -> Result<bool, String> {
    match text {
        "everybody" => Ok(true),
        "contacts" => Ok(false),
        _ => Err(format!("\"{text}\" is neither everybody nor contacts")),
    }
}

fn log_filter(text: &str) -> Result<String, String> {
    tracing_subscriber::EnvFilter::try_new(text).map(|_| text.to_owned()).map_err(|error| error.to_string())
}

/// Each setting's value in force and its origin.
fn entries(config: &Config, values: &Values, changed: &[&str]) -> Vec<ConfigEntry> {
    let origin = |key: &str| if changed.contains(&key) { Origin::Policy } else { origin_of(values, key) };
    SETTINGS
        .iter()
        .map(|setting| ConfigEntry {
            key: setting.key.to_owned(),
            value: value_of(config, setting.key),
            origin: origin(setting.key),
            policy: config.policy.bound(setting.key).map(str::to_owned),
        })
        .collect()
}

fn value_of(config: &Config, key: &str) -> serde_json::Value {
    use serde_json::json;
    let caps = &config.volunteer.caps;
    match key {
        "network" => json!(config.network),
        "network_key" => json!(config.network_key.map(|key| key.to_string())),
        "membership" => json!(config.membership),
        "bootstrap" => json!(config.bootstrap),
        "listen" => json!(config.listen),
        "listen_tcp" => json!(config.listen_tcp),
        "external" => {
            let full = config.external.iter().map(ToString::to_string);
            let tcp = config.external_tcp.iter().map(|address| format!("{address}/tcp"));
            json!(full.chain(tcp).collect::<Vec<_>>())
        }
        "api" => json!(config.api),
        "answer" => json!(match &config.answer {
            Answer::Ring => "ring".to_owned(),
            Answer::Echo => "echo".to_owned(),
            Answer::Wav(file) => format!("wav:{}", file.display()),
        }),
        "answer_after" => json!(format!("{}s", config.answer_after.as_secs_f64())),
        "redundancy" => json!(config.redundancy),
        "relay_only" => json!(config.relay_only),
        "port_mapping" => json!(config.port_mapping),
        "strangers" => json!(match config.strangers() {
            Strangers::Requests => "requests",
            Strangers::Ring => "ring",
            Strangers::Refuse => "refuse",
        }),
        "early_media" => json!(if config.early_media { "everybody" } else { "contacts" }),
        "public_ranges" => json!(config.public_ranges.iter().map(ToString::to_string).collect::<Vec<_>>()),
        "log" => json!(config.log),
        "metered" => config.metered.said().map_or_else(|| json!("auto"), |said| json!(said)),
        "volunteer.roles" => {
            let roles = [("directory", config.volunteer.directory), ("relay", config.volunteer.relay)];
            json!(roles.iter().filter(|(_, on)| *on).map(|(role, _)| *role).collect::<Vec<_>>())
        }
        "volunteer.accept_terms" => json!(config.volunteer.accept_terms),
        "volunteer.devices" => json!(caps.devices),
        "volunteer.calls" => json!(caps.calls),
        "volunteer.bits_per_second" => json!(caps.bits_per_second),
        "volunteer.bytes_per_month" => json!(caps.bytes_per_month),
        "volunteer.directory_bytes_per_month" => json!(caps.directory_bytes_per_month),
        _ => serde_json::Value::Null,
    }
}
