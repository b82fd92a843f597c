//! `tandem network`: private networks. `create` and `admit` are for whoever runs one, the rest for its members.

use std::io::Read;
use std::path::{Path, PathBuf};

use tandem_api::{NetworkCreated, NetworkView, OwnMembership, Problem};
use tandem_node::config::{Config, Flags};
use tandem_node::installation::unix_ms;
use tandem_node::keys;
use tandem_node::messages::Code;
use tandem_node::platform::{files, paths, random};
use tandem_proto::identity::{
    MEMBERSHIP_SCHEME, MemberRequest, NetworkSecret, membership_from_text, membership_text,
};
use tandem_proto::names::NetworkId;
use tandem_proto::signed::{CERTIFICATE_LIFE_S_MAX, NetworkMembership, NewMembership};
use zeroize::Zeroizing;

use super::Place;
use crate::cli::{AdmitArgs, NetworkAction, NetworkCreateArgs};
use crate::output::{self, Exit};

/// One file may serve a whole organisation.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// A membership begins a little earlier than it is made: clocks differ.
const EARLIER_S: u64 = 3_600;

pub(super) fn run(place: &Place, action: Option<NetworkAction>) -> Result<Exit, Problem> {
    match action {
        None | Some(NetworkAction::Show) => show(place),
        Some(NetworkAction::Create(args)) => create(place, &args),
        Some(NetworkAction::Request) => request(place),
        Some(NetworkAction::Admit(args)) => admit(place, &args),
        Some(NetworkAction::Join { file }) => join(place, &file),
    }
}

// ---- who runs a network ---------------------------------------------------------------------------------------------

fn create(place: &Place, args: &NetworkCreateArgs) -> Result<Exit, Problem> {
    let id = network_id(&args.name)?;
    let secret = NetworkSecret::from_seed(&Zeroizing::new(random::bytes()));
    let text = format!(
        "# The secret key of the private network {id}: whoever has it lets others in.\n{}\n",
        *secret.to_text()
    );
    let text = Zeroizing::new(text);
    files::write_new(&args.key_file, text.as_bytes())
        .map_err(|error| file_problem(&args.key_file, &error))?;
    let created = NetworkCreated {
        network: id.to_string(),
        network_key: secret.public().to_string(),
        key_file: args.key_file.display().to_string(),
    };
    output::either(place.json, &created, |created| {
        format!(
            "The secret key is in {}: keep it off the network's own machines, and keep a copy.\n\
             Every member sets in tandem.toml (or the organisation in its policy, under [network]):\n\n\
             network = \"{}\"\nnetwork_key = \"{}\"\n",
            created.key_file, created.network, created.network_key
        )
    });
    Ok(Exit::Done)
}

fn admit(place: &Place, args: &AdmitArgs) -> Result<Exit, Problem> {
    let id = network_id(&args.network)?;
    let secret = read_secret(&args.key_file)?;
    let requests: Vec<MemberRequest> = args
        .requests
        .iter()
        .map(|text| text.parse().map_err(|error| text_problem(text, &error)))
        .collect::<Result<_, Problem>>()?;
    let now_s = unix_ms() / 1000;
    let for_s = args.for_time.as_secs().min(CERTIFICATE_LIFE_S_MAX - EARLIER_S);
    let mut lines = Vec::new();
    for request in requests {
        for member in [request.device.0, request.service.0] {
            let new = NewMembership {
                network: id.clone(),
                member,
                not_before_s: now_s - EARLIER_S,
                not_after_s: now_s + for_s,
                label: args.label.clone(),
            };
            let membership =
                NetworkMembership::issue(&secret, new).map_err(|error| text_problem(&args.label, &error))?;
            lines.push(membership_text(membership.signed()));
        }
    }
    if let Some(out) = &args.out {
        add_lines(out, &lines)?;
    }
    let value = serde_json::json!({ "memberships": lines, "not_after_unix_s": now_s + for_s });
    output::either(place.json, &value, |_| match &args.out {
        Some(out) => format!("{} memberships were added to {}.", lines.len(), out.display()),
        None => lines.join("\n"),
    });
    Ok(Exit::Done)
}

/// Adds lines to a file of memberships, written whole or not at all.
fn add_lines(file: &Path, lines: &[String]) -> Result<(), Problem> {
    let mut text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(file_problem(file, &error)),
    };
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    for line in lines {
        text.push_str(line);
        text.push('\n');
    }
    files::replace(file, text.as_bytes()).map_err(|error| file_problem(file, &error))
}

fn read_secret(file: &Path) -> Result<NetworkSecret, Problem> {
    let text = Zeroizing::new(std::fs::read_to_string(file).map_err(|error| file_problem(file, &error))?);
    if let Ok(Some(mode)) = files::open_to_others(file) {
        let detail = format!("others can read it (mode {mode}); run: chmod 600 {}", file.display());
        return Err(Code::NetworkFile.with(&[("file", &file.display().to_string()), ("detail", &detail)]));
    }
    let line = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
    NetworkSecret::from_text(line.unwrap_or_default()).map_err(|error| {
        Code::NetworkFile.with(&[
            ("file", &file.display().to_string()),
            ("detail", &format!("it holds no key of a network: {error}")),
        ])
    })
}

// ---- members --------------------------------------------------------------------------------------------------------

fn request(place: &Place) -> Result<Exit, Problem> {
    let request = own_request(place)?;
    let value = serde_json::json!({
        "request": request.to_string(),
        "device": request.device.to_string(),
        "service": request.service.to_string(),
    });
    output::either(place.json, &value, |_| {
        format!("Give this to whoever runs the network:\n\n{request}\n\nNothing in it is secret.")
    });
    Ok(Exit::Done)
}

fn own_request(place: &Place) -> Result<MemberRequest, Problem> {
    // As a first start would: who is to be let in before it can connect needs keys first.
    let keys = super::id::open_or_create(place)?;
    Ok(MemberRequest { device: keys.device.public(), service: keys.service.public() })
}

fn join(place: &Place, file: &Path) -> Result<Exit, Problem> {
    let config = place.load(&Flags::new())?.config;
    let given = read_text(file)?;
    let own = own_request(place)?;
    let mine: Vec<String> = memberships_in(&given)?
        .into_iter()
        .filter(|membership| [own.device.0, own.service.0].contains(membership.member()))
        .map(|membership| membership_text(membership.signed()))
        .collect();
    if mine.is_empty() {
        let detail =
            "it holds no membership for this installation; send the request anew: tandem network request";
        return Err(Code::NetworkFile.with(&[("file", &file.display().to_string()), ("detail", detail)]));
    }
    let kept = membership_file(place, &config);
    let text = mine.join("\n") + "\n";
    files::replace(&kept, text.as_bytes()).map_err(|error| file_problem(&kept, &error))?;
    show(place)
}

fn show(place: &Place) -> Result<Exit, Problem> {
    let config = place.load(&Flags::new())?.config;
    let Some(key) = config.network_key else {
        return Err(Code::NetworkPublic.with(&[("network", &config.network)]));
    };
    let id = network_id(&config.network)?;
    let file = membership_file(place, &config);
    let own = if keys::exists(&place.data) { Some(own_request(place)?) } else { None };
    let text = std::fs::read_to_string(&file).unwrap_or_default();
    let all = memberships_in(&text)?;
    let of = |member: &[u8; 32]| {
        let mine = all.iter().filter(|membership| membership.member() == member);
        let checked = mine.map(|membership| {
            let verified = NetworkMembership::verify(membership.signed(), (&id, key), member, unix_ms());
            OwnMembership {
                label: membership.label().to_owned(),
                not_after_unix_s: membership.not_after_s(),
                holds: verified.is_ok(),
                why_not: verified.err().map(|error| error.to_string()),
            }
        });
        checked.max_by_key(|membership| (membership.holds, membership.not_after_unix_s))
    };
    let view = NetworkView {
        network: config.network.clone(),
        network_key: key.to_string(),
        file: file.display().to_string(),
        device: own.and_then(|own| of(&own.device.0)),
        service: own.and_then(|own| of(&own.service.0)),
    };
    output::either(place.json, &view, |view| {
        let line = |what: &str, own: &Option<OwnMembership>| match own {
            None => format!("{what}  none; ask for one with: tandem network request\n"),
            Some(own) if own.holds => {
                let left_s = own.not_after_unix_s.saturating_sub(unix_ms() / 1000);
                format!("{what}  holds for {} more days\n", left_s / 86_400)
            }
            Some(own) => format!("{what}  does not hold: {}\n", own.why_not.as_deref().unwrap_or_default()),
        };
        format!(
            "Network          {}\nKey              {}\nMemberships in   {}\n{}{}",
            view.network,
            view.network_key,
            view.file,
            line("As a device    ", &view.device),
            line("As a supernode ", &view.service)
        )
    });
    Ok(Exit::Done)
}

fn membership_file(place: &Place, config: &Config) -> PathBuf {
    config.membership.clone().unwrap_or_else(|| place.data.join(paths::MEMBERSHIP))
}

fn memberships_in(text: &str) -> Result<Vec<NetworkMembership>, Problem> {
    let lines = text.lines().map(str::trim).filter(|line| line.starts_with(MEMBERSHIP_SCHEME));
    lines
        .map(|line| {
            let signed = membership_from_text(line).map_err(|error| text_problem(line, &error))?;
            NetworkMembership::parse(&signed).map_err(|error| text_problem(line, &error))
        })
        .collect()
}

/// A file, or `-` for standard input.
fn read_text(file: &Path) -> Result<String, Problem> {
    let mut text = String::new();
    let read = if file.as_os_str() == "-" {
        std::io::stdin().lock().take(FILE_BYTES_MAX).read_to_string(&mut text)
    } else {
        std::fs::File::open(file).and_then(|opened| opened.take(FILE_BYTES_MAX).read_to_string(&mut text))
    };
    read.map_err(|error| file_problem(file, &error))?;
    Ok(text)
}

fn network_id(text: &str) -> Result<NetworkId, Problem> {
    text.parse().map_err(|error| text_problem(text, &error))
}

fn text_problem(text: &str, error: &dyn std::fmt::Display) -> Problem {
    let text: String = text.chars().take(40).collect();
    Code::NetworkText.with(&[("text", &text), ("detail", &error.to_string())])
}

fn file_problem(file: &Path, error: &std::io::Error) -> Problem {
    Code::NetworkFile.with(&[("file", &file.display().to_string()), ("detail", &error.to_string())])
}
