use std::io::{IsTerminal, Read};
use std::time::Duration;

use tandem_api::{Identity, Problem};
use tandem_node::handle::Request;
use tandem_node::installation::{prepare_folder, unix_ms};
use tandem_node::keys::{self, Keys};
use tandem_node::messages::{Code, NO_EMERGENCY_CALLS};
use tandem_proto::identity::Entropy;
use zeroize::Zeroizing;

use super::{Place, runtime};
use crate::cli::{IdArgs, SettingFlags};
use crate::output::{self, Exit};

/// 24 words are far shorter.
const WORDS_BYTES_MAX: u64 = 4096;
/// So long the directory is asked which other devices a restored account has.
const RESTORE_TIME: Duration = Duration::from_secs(25);
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// The new device set is published before the node ends.
const DRAIN: Duration = Duration::from_secs(3);

pub(super) fn run(place: &Place, args: &IdArgs) -> Result<Exit, Problem> {
    let keys = if args.restore { restore(place, args)? } else { open_or_create(place)? };
    if args.words {
        return words(place, &keys);
    }
    output::either(place.json, &identity(&keys), |identity| {
        format!("{}\n\nThis is your address: give it to whoever shall call you.", identity.address)
    });
    Ok(Exit::Done)
}

pub(super) fn open_or_create(place: &Place) -> Result<Keys, Problem> {
    let passphrase = place.passphrase()?;
    if !keys::exists(&place.data) {
        let _lock = prepare_folder(&place.data).map_err(|error| error.problem())?;
        if !place.json {
            eprintln!("A new account was made in {}. {NO_EMERGENCY_CALLS}", place.data.display());
        }
        return keys::create(&place.data, None, passphrase.as_ref(), unix_ms())
            .map_err(|error| error.problem());
    }
    keys::open(&place.data, passphrase.as_ref(), unix_ms()).map_err(|error| error.problem())
}

fn restore(place: &Place, args: &IdArgs) -> Result<Keys, Problem> {
    let lock = prepare_folder(&place.data).map_err(|error| error.problem())?;
    if keys::exists(&place.data) {
        return Err(Code::IdentityExists.with(&[("path", &place.data.display().to_string())]));
    }
    if std::io::stdin().is_terminal() {
        eprintln!("Type the 24 words, then Ctrl-D:");
    }
    let mut typed = Zeroizing::new(String::new());
    std::io::stdin()
        .take(WORDS_BYTES_MAX)
        .read_to_string(&mut typed)
        .map_err(|error| Code::WordsWrong.with(&[("detail", &error.to_string())]))?;
    let entropy = Entropy::from_words(&typed)
        .map_err(|error| Code::WordsWrong.with(&[("detail", &error.to_string())]))?;
    let passphrase = place.passphrase()?;
    if args.only {
        let keys = keys::create(&place.data, Some(entropy), passphrase.as_ref(), unix_ms())
            .map_err(|error| error.problem())?;
        if !place.json {
            eprintln!(
                "The account is restored. From now on this is its only device; older ones cannot be called any more."
            );
        }
        return Ok(keys);
    }
    keys::restore(&place.data, entropy, &args.label, passphrase.as_ref(), unix_ms())
        .map_err(|error| error.problem())?;
    // The node takes the lock itself.
    drop(lock);
    let added = join_the_others(place, args);
    if !place.json {
        match added {
            Ok(true) => {
                eprintln!("The account is restored: this is one more of its devices. See: tandem devices.")
            }
            Ok(false) => eprintln!("{}", Code::Restoring.problem()),
            Err(problem) => output::problem(&problem, false),
        }
    }
    keys::open(&place.data, passphrase.as_ref(), unix_ms()).map_err(|error| error.problem())
}

/// Runs a node until it knows the account's other devices; false when nobody could be asked in time.
fn join_the_others(place: &Place, args: &IdArgs) -> Result<bool, Problem> {
    let settings = SettingFlags { bootstrap: args.bootstrap.clone(), ..SettingFlags::default() };
    let mut flags = settings.flags();
    flags.insert("volunteer.roles", vec![String::new()]);
    let config = place.node_config(&flags, false)?;
    if config.config.bootstrap.is_empty() {
        return Err(Code::NoBootstrap.problem());
    }
    runtime()?.block_on(async {
        let node = tandem_node::start(config).await.map_err(|error| error.problem())?;
        let handle = node.handle();
        let until = std::time::Instant::now() + RESTORE_TIME;
        let mut restored = false;
        while !restored && std::time::Instant::now() < until {
            tokio::time::sleep(LOOK_EVERY).await;
            restored = !handle.ask(Request::Identity).await?.restoring;
        }
        node.shutdown(DRAIN).await;
        Ok(restored)
    })
}

fn words(place: &Place, keys: &Keys) -> Result<Exit, Problem> {
    let entropy = keys.entropy.as_ref().ok_or_else(|| Code::NoAccountKey.problem())?;
    let words = entropy.words();
    if place.json {
        output::json(&serde_json::json!({ "address": keys.address().to_string(), "words": &*words }));
        return Ok(Exit::Done);
    }
    eprintln!("Whoever has these words is you. Write them on paper; show them to nobody.\n");
    output::line(&*words);
    Ok(Exit::Done)
}

pub(super) fn identity(keys: &Keys) -> Identity {
    Identity {
        address: keys.address().to_string(),
        device: keys.device.public().to_string(),
        service: keys.service.public().to_string(),
        has_account_key: keys.entropy.is_some(),
        sealed: keys.sealed,
        epoch: keys.device_set.epoch(),
        certificate_serial: keys.certificate.serial(),
        certificate_not_after_unix_ms: keys.certificate.not_after_s() * 1000,
        devices: u32::try_from(keys.device_set.devices().len()).unwrap_or(u32::MAX),
        label: keys.certificate.label().to_owned(),
        restoring: keys.restoring,
        revoked: keys.revoked.is_some(),
    }
}
