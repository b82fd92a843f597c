//! The other end of `./x bench relay`: calls through a TURN server and what they cost it, and the bare forwarder that
//! is the floor. One process measures one server for one load and prints one JSON object.
//!
//! * `floor` forwards packets and does nothing else
//! * `relay` the relay's driver as `tandem relay` runs it, to try a build of this crate alone
//! * `drive` allocates, binds channels, sends sound, and reads what the server's process used

#![expect(clippy::disallowed_methods, reason = "a measurement reads the clock")]

mod clients;
mod drive;
mod floor;
mod gauge;
mod turn;

use std::collections::BTreeMap;
use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};
use tandem_proto::grant::RestSecret;
use tandem_relay::config::Config;
use tandem_relay::driver::{DriverConfig, Threads, start};

fn main() -> Result<()> {
    let mut words = std::env::args().skip(1);
    let what = words.next().context("usage: relay_load floor|relay|drive --NAME VALUE…")?;
    let options = Options::read(words)?;
    match what.as_str() {
        "floor" => floor::run(options.get("listen")?, options.or("coalesce-us", 0)?),
        "relay" => relay(&options),
        "drive" => drive::run(&options),
        other => bail!("there is no '{other}'"),
    }
}

/// `--name value` pairs.
#[derive(Debug)]
struct Options(BTreeMap<String, String>);

impl Options {
    fn read(mut words: impl Iterator<Item = String>) -> Result<Self> {
        let mut options = BTreeMap::new();
        while let Some(name) = words.next() {
            let value = words.next().with_context(|| format!("{name} wants a value"))?;
            let name = name.strip_prefix("--").with_context(|| format!("{name} is no option"))?;
            ensure!(options.insert(name.to_owned(), value).is_none(), "--{name} is given twice");
        }
        Ok(Self(options))
    }

    fn get<T: FromStr<Err: std::error::Error + Send + Sync + 'static>>(&self, name: &str) -> Result<T> {
        let value = self.0.get(name).with_context(|| format!("--{name} is missing"))?;
        value.parse().with_context(|| format!("--{name} {value}"))
    }

    fn or<T: FromStr<Err: std::error::Error + Send + Sync + 'static>>(
        &self,
        name: &str,
        default: T,
    ) -> Result<T> {
        if self.0.contains_key(name) { self.get(name) } else { Ok(default) }
    }
}

fn relay(options: &Options) -> Result<()> {
    let secret: String = options.get("rest-secret")?;
    let threads = Threads::Exactly(options.or("threads", 1)?);
    let driver = DriverConfig { udp: vec![options.get("listen")?], threads, ..DriverConfig::default() };
    let handle = start(&driver, Config::for_rest_secret(RestSecret::new(&secret)), rand_seed()?)?;
    while handle.is_running() {
        std::thread::sleep(std::time::Duration::from_secs(1));
    }
    Ok(())
}

fn rand_seed() -> Result<[u8; 32]> {
    use std::io::Read;
    let mut seed = [0; 32];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut seed)?;
    Ok(seed)
}
