//! The commands, one file each.

mod bundle;
mod call;
mod config;
mod connections;
mod contacts;
mod devices;
mod doctor;
mod id;
mod network;
mod page;
mod policy;
mod private;
mod relay;
mod strangers;
mod up;
mod views;
mod volunteer;
pub(crate) mod why;

use std::collections::BTreeMap;
use std::path::PathBuf;

use tandem_api::Problem;
use tandem_node::config::{Flags, Loaded};
use tandem_node::handle::NodeConfig;
use tandem_node::keys::{self, Passphrase};
use tandem_node::messages::{Code, TERMS};
use tandem_node::platform::paths;
use zeroize::Zeroizing;

use crate::cli::{CallSettings, CallsArgs, Cli, Command, DoctorArgs, DoctorWhat, Global, SettingFlags};
use crate::output::{self, Exit};
use crate::{bench, demo, terminal};

/// Runs a command.
pub(crate) fn run(cli: Cli) -> Result<Exit, Problem> {
    let place = Place::new(cli.global)?;
    match cli.command {
        Command::Up(args) => up::run(&place, &args),
        Command::Id(args) => id::run(&place, &args),
        Command::Call(args) => call::run(&place, &args),
        Command::Echo(args) => call::echo(&place, &args),
        Command::Answer(which) => call::act(&place, which.call, "answer"),
        Command::Decline(which) => call::act(&place, which.call, "decline"),
        Command::Hangup(which) => call::act(&place, which.call, "hangup"),
        Command::Contacts(args) => contacts::run(&place, args.action),
        Command::Devices(args) => devices::run(&place, args.action),
        Command::Invite(args) => strangers::invite(&place, &args),
        Command::Request(args) => strangers::request(&place, &args),
        Command::Requests(args) => strangers::requests(&place, args.action),
        Command::Block(whom) => strangers::block(&place, &whom.who),
        Command::Unblock(whom) => strangers::unblock(&place, &whom.who),
        Command::Blocks => strangers::blocks(&place),
        Command::Connections(args) => connections::connections(&place, args.verbose),
        Command::Calls(CallsArgs { call: Some(call), why: true, .. }) => why::run(&place, &call),
        Command::Calls(args) => views::calls(&place, args.call.as_deref(), args.limit),
        Command::Page(args) => page::run(&place, &args),
        Command::Status => views::status(&place),
        Command::Stop => views::stop(&place),
        Command::Volunteer(args) => volunteer::run(&place, &args),
        Command::Config(_) => config::show(&place),
        Command::Network(args) => private::run(&place, args.action),
        Command::Policy(args) => policy::run(&place, args.action),
        Command::Doctor(DoctorArgs { what: Some(DoctorWhat::Network) }) => network::run(&place),
        Command::Doctor(_) => doctor::run(&place),
        Command::Bundle(args) => bundle::run(&place, &args),
        Command::Relay(args) => relay::run(&place, &args),
        Command::Demo(mut args) => {
            args.json |= place.json;
            let held =
                demo::run(&args).map_err(|e| Code::DemoFailed.with(&[("detail", &format!("{e:#}"))]))?;
            Ok(if held { Exit::Done } else { Exit::Failed })
        }
        Command::Bench(mut args) => {
            args.json |= place.json;
            let held =
                bench::run(&args).map_err(|e| Code::BenchFailed.with(&[("detail", &format!("{e:#}"))]))?;
            Ok(if held { Exit::Done } else { Exit::Failed })
        }
        Command::Version => {
            let version = serde_json::json!({
                "version": env!("CARGO_PKG_VERSION"), "api_version": tandem_api::API_VERSION,
            });
            output::either(place.json, &version, |_| format!("tandem {}", env!("CARGO_PKG_VERSION")));
            Ok(Exit::Done)
        }
    }
}

/// Where a command works, and how it speaks.
#[derive(Debug)]
struct Place {
    data: PathBuf,
    json: bool,
    passphrase_file: Option<PathBuf>,
}

impl Place {
    fn new(global: Global) -> Result<Self, Problem> {
        let data = match global.data {
            Some(data) => data,
            None => paths::default_data(|name| std::env::var_os(name)).ok_or_else(|| {
                Code::Usage.with(&[(
                    "detail",
                    "there is no home folder, so the data folder must be given with --data",
                )])
            })?,
        };
        Ok(Self { data: paths::absolute(&data), json: global.json, passphrase_file: global.passphrase_file })
    }

    /// The settings in force.
    fn load(&self, flags: &Flags) -> Result<Loaded, Problem> {
        let environment: BTreeMap<String, String> = std::env::vars_os()
            .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(key, _)| key.starts_with("TANDEM_"))
            .collect();
        tandem_node::config::load(&self.data, flags, &environment).map_err(|error| error.problem())
    }

    /// What a node on this place starts with.
    fn node_config(&self, flags: &Flags, serve_api: bool) -> Result<NodeConfig, Problem> {
        let config = self.load(flags)?.config;
        config.check()?;
        tandem_node::installation::ensure_folder(&self.data).map_err(|error| error.problem())?;
        Ok(NodeConfig {
            config,
            data: self.data.clone(),
            passphrase: self.passphrase()?,
            serve_api,
            terms: TERMS,
        })
    }

    /// From the file, the environment, or the person, if the keys need one.
    fn passphrase(&self) -> Result<Option<Passphrase>, Problem> {
        if let Some(file) = &self.passphrase_file {
            let text = std::fs::read_to_string(file).map_err(|error| {
                let detail = format!("the passphrase file {} cannot be read: {error}", file.display());
                Code::Usage.with(&[("detail", &detail)])
            })?;
            return Ok(Passphrase::new(Zeroizing::new(text)));
        }
        if let Ok(text) = std::env::var("TANDEM_PASSPHRASE") {
            return Ok(Passphrase::new(Zeroizing::new(text)));
        }
        if !keys::is_sealed(&self.data) {
            return Ok(None);
        }
        let typed = terminal::ask_secret("Passphrase").map_err(|error| {
            Code::Usage.with(&[("detail", &format!("the terminal cannot be read: {error}"))])
        })?;
        Ok(typed.and_then(Passphrase::new))
    }
}

/// A runtime with few threads: what is heavy has threads of its own.
fn runtime() -> Result<tokio::runtime::Runtime, Problem> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Code::Internal.with(&[("detail", &error.to_string())]))
}

/// Logs to standard error, and to the data folder where a node runs on it.
fn log(filter: &str, data: Option<&std::path::Path>) -> Result<tandem_node::logging::LogGuard, Problem> {
    if let Some(data) = data {
        tandem_node::logging::report_panics(data);
    }
    tandem_node::logging::start(filter, data)
        .map_err(|error| Code::Internal.with(&[("detail", &error.to_string())]))
}

impl SettingFlags {
    fn flags(&self) -> Flags {
        let mut flags = Flags::new();
        let mut add = |key, values: Vec<String>| {
            if !values.is_empty() {
                flags.insert(key, values);
            }
        };
        add("listen", self.listen.iter().map(ToString::to_string).collect());
        add("listen_tcp", self.listen_tcp.iter().map(ToString::to_string).collect());
        add("external", self.external.clone());
        add("bootstrap", self.bootstrap.clone());
        add("api", self.api.iter().map(ToString::to_string).collect());
        add("volunteer.roles", self.volunteer.clone());
        add("volunteer.accept_terms", self.accept_terms.iter().map(ToString::to_string).collect());
        add("answer", self.answer.iter().cloned().collect());
        add("answer_after", self.answer_after.iter().cloned().collect());
        add("redundancy", self.redundancy.iter().map(|when| when.as_str().to_owned()).collect());
        add("relay_only", if self.relay_only { vec!["true".to_owned()] } else { Vec::new() });
        add("strangers", self.strangers.iter().cloned().collect());
        add("network", self.network.iter().cloned().collect());
        add("public_ranges", self.public_range.clone());
        add("log", self.log.iter().cloned().collect());
        flags
    }
}

impl CallSettings {
    /// For a node that is started for one call: it serves nobody, and is called by nobody.
    fn flags(&self) -> Flags {
        let settings = SettingFlags {
            bootstrap: self.bootstrap.clone(),
            redundancy: self.redundancy,
            relay_only: self.relay_only,
            log: Some(self.log.clone().unwrap_or_else(|| "warn".to_owned())),
            ..SettingFlags::default()
        };
        let mut flags = settings.flags();
        flags.insert("volunteer.roles", vec![String::new()]);
        flags
    }
}
