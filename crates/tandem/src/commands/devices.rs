use std::io::{BufRead, IsTerminal};

use tandem_api::{DeviceChange, DeviceView, Devices, JoinOffer, NewDevice, Problem};
use tandem_node::installation::unix_ms;
use tandem_node::messages::Code;
use tandem_proto::identity::{DeviceLink, device_words};

use super::{Place, log, runtime};
use crate::cli::{DeviceAction, JoinArgs};
use crate::client::{Client, path_part};
use crate::output::{self, Exit};

pub(super) fn run(place: &Place, action: Option<DeviceAction>) -> Result<Exit, Problem> {
    match action.unwrap_or(DeviceAction::List) {
        DeviceAction::List => {
            let devices: Devices = Client::require(&place.data)?.get("/api/devices")?;
            output::either(place.json, &devices, list);
        }
        DeviceAction::Join(args) => return join(place, &args),
        DeviceAction::Add { link, label, yes } => return add(place, link, label, yes),
        DeviceAction::Rename { who, label } => {
            let change = DeviceChange { label };
            let path = format!("/api/devices/{}", path_part(&who));
            let device: DeviceView = Client::require(&place.data)?.patch(&path, &change)?;
            output::either(place.json, &device, |device| format!("It is now called {}.", device.label));
        }
        DeviceAction::Revoke { who } => {
            let path = format!("/api/devices/{}", path_part(&who));
            let device: DeviceView = Client::require(&place.data)?.delete_for(&path)?;
            output::either(place.json, &device, |device| {
                let name = if device.label.is_empty() { &device.key } else { &device.label };
                format!(
                    "{name} is revoked. Everybody who asks hears of it within a minute.\n\
                     If the 24 words were on it, whoever has it can still be you: move to a new account then."
                )
            });
        }
    }
    Ok(Exit::Done)
}

/// On the new device: shows the link and waits.
fn join(place: &Place, args: &JoinArgs) -> Result<Exit, Problem> {
    let mut flags = args.settings.flags();
    flags.insert("volunteer.roles", vec![String::new()]);
    let config = place.node_config(&flags, false)?;
    let _log = log(args.settings.log.as_deref().unwrap_or("warn"), None)?;
    let json = place.json;
    let show = move |offer: &JoinOffer| output::either(json, offer, offer_text);
    let joined = runtime()?.block_on(tandem_node::join(config, show))?;
    let identity = super::id::identity(&joined.keys);
    output::either(json, &identity, |identity| {
        format!(
            "This device belongs to {} now. Compare the address with the other device.\n\
             Start it with: tandem up",
            identity.address
        )
    });
    Ok(Exit::Done)
}

fn offer_text(offer: &JoinOffer) -> String {
    format!(
        "On a device that holds the account key, type:\n\n  tandem devices add {}\n\n\
         It shows these words; they must be the same:  {}\n\
         Show the link to nobody else. Waiting for {} minutes …",
        offer.link,
        offer.words,
        offer.within_ms / 60_000
    )
}

/// On a device that holds the account key.
fn add(place: &Place, link: String, label: String, yes: bool) -> Result<Exit, Problem> {
    let client = Client::require(&place.data)?;
    let parsed: DeviceLink =
        link.parse().map_err(|error| Code::DeviceLinkWrong.with(&[("detail", &format!("{error}"))]))?;
    let ask = !yes && !place.json && std::io::stdin().is_terminal();
    if !place.json {
        let name = if label.is_empty() { "a device without a label" } else { &label };
        eprintln!(
            "This adds {name} to your account. It will ring when you are called and call in your name, until you revoke \
             it. It does not get the account key.\nIts words: {}",
            device_words(parsed.device)
        );
    }
    if ask && !agreed() {
        eprintln!("Nothing was changed.");
        return Ok(Exit::Failed);
    }
    let added: DeviceView = client.post("/api/devices", &NewDevice { link, label })?;
    output::either(place.json, &added, |added| {
        let name = if added.label.is_empty() { &added.key } else { &added.label };
        format!(
            "{name} is a device of your account now. Contacts and past calls stay on each device by itself."
        )
    });
    Ok(Exit::Done)
}

fn agreed() -> bool {
    eprint!("Does the new device show the same words? [y/N] ");
    let mut line = String::new();
    let read = std::io::stdin().lock().read_line(&mut line).is_ok();
    read && matches!(line.trim(), "y" | "Y" | "yes")
}

fn list(devices: &Devices) -> String {
    let rows: Vec<[String; 5]> = devices.devices.iter().map(row).collect();
    let mut text = output::table(["Label", "Key", "Added", "Now", ""], &rows);
    if !devices.can_change {
        text.push_str("\nThe account key is not here: devices are added and revoked on one that holds it.");
    }
    text
}

fn row(device: &DeviceView) -> [String; 5] {
    let now = match device.reachable {
        Some(true) => "reachable",
        Some(false) => "not reachable",
        None => "not known",
    };
    let mut remarks = Vec::new();
    if device.this {
        remarks.push("this one");
    }
    match device.holds_account_key {
        Some(true) => remarks.push("holds the account key"),
        Some(false) => remarks.push("without the account key"),
        None => {}
    }
    let label = if device.label.is_empty() { "–" } else { &device.label };
    [
        label.to_owned(),
        device.key.clone(),
        format!("{} ago", output::ago(device.added_unix_ms, unix_ms())),
        now.to_owned(),
        remarks.join(", "),
    ]
}
