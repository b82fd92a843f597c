use std::io::{IsTerminal, Read};

use tandem_api::{Identity, Problem};
use tandem_node::installation::{prepare_folder, unix_ms};
use tandem_node::keys::{self, Keys};
use tandem_node::messages::{Code, NO_EMERGENCY_CALLS};
use tandem_proto::identity::Entropy;
use zeroize::Zeroizing;

use super::Place;
use crate::cli::IdArgs;
use crate::output::{self, Exit};

/// 24 words are far shorter.
const WORDS_BYTES_MAX: u64 = 4096;

pub(super) fn run(place: &Place, args: &IdArgs) -> Result<Exit, Problem> {
    let keys = if args.restore { restore(place)? } else { open_or_create(place)? };
    if args.words {
        return words(place, &keys);
    }
    output::either(place.json, &identity(&keys), |identity| {
        format!("{}\n\nThis is your address: give it to whoever shall call you.", identity.address)
    });
    Ok(Exit::Done)
}

fn open_or_create(place: &Place) -> Result<Keys, Problem> {
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

fn restore(place: &Place) -> Result<Keys, Problem> {
    let _lock = prepare_folder(&place.data).map_err(|error| error.problem())?;
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
    let keys = keys::create(&place.data, Some(entropy), passphrase.as_ref(), unix_ms())
        .map_err(|error| error.problem())?;
    if !place.json {
        eprintln!(
            "The account is restored. From now on this is its only device; older ones cannot be called any more."
        );
    }
    Ok(keys)
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

fn identity(keys: &Keys) -> Identity {
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
    }
}
