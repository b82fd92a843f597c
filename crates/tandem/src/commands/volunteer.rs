//! Serving others: `volunteer` and what is under it.

use std::io::{BufRead, IsTerminal, Write};
use std::time::{Duration, Instant};

use tandem_api::{CapsChange, LedgerView, NewConsent, Problem, VolunteerRole, VolunteerView};
use tandem_node::config::Flags;
use tandem_node::installation::{prepare_folder, unix_ms};
use tandem_node::messages::{Code, TERMS, TERMS_TEXT};
use tandem_node::platform::{DataLock, paths};
use tandem_node::store::Store;
use tandem_node::volunteering::{Volunteering, ledger};

use super::Place;
use crate::cli::{AcceptArgs, CapsArgs, RoleArg, VolunteerAction, VolunteerArgs};
use crate::client::Client;
use crate::output::{self, Exit};

mod show;

/// How often `watch` looks.
const WATCH_EVERY: Duration = Duration::from_secs(1);

pub(super) fn run(place: &Place, args: &VolunteerArgs) -> Result<Exit, Problem> {
    let action = if args.terms { Some(&VolunteerAction::Terms) } else { args.action.as_ref() };
    match action {
        None => {
            let owner = Owner::open(place)?;
            output::either(place.json, &owner.view()?, |view| show::status(view, owner.runs()));
        }
        Some(VolunteerAction::Terms) => terms(place),
        Some(VolunteerAction::Accept(args)) => return accept(place, args),
        Some(VolunteerAction::Caps(args)) => caps(place, args)?,
        Some(VolunteerAction::Ledger { days }) => {
            let view = Owner::open(place)?.ledger(*days)?;
            output::either(place.json, &view, |view| show::ledger(view, *days));
        }
        Some(VolunteerAction::Watch { for_time }) => watch(place, *for_time)?,
        Some(VolunteerAction::Withdraw) => withdraw(place)?,
    }
    Ok(Exit::Done)
}

fn terms(place: &Place) {
    let value = serde_json::json!({ "terms": TERMS, "text": TERMS_TEXT });
    output::either(place.json, &value, |_| format!("{TERMS_TEXT}\nTo agree: tandem volunteer accept"));
}

/// A person at a terminal reads the terms first and says yes; a program names their number.
fn accept(place: &Place, args: &AcceptArgs) -> Result<Exit, Problem> {
    let mut owner = Owner::open(place)?;
    let terms = match args.terms {
        Some(terms) => terms,
        None if place.json || !std::io::stdin().is_terminal() => {
            return Err(Code::TermsNotAccepted.with(&[("terms", &owner.view()?.terms.to_string())]));
        }
        None => {
            let view = owner.view()?;
            eprintln!("{}", view.terms_text);
            if !agreed(&args.roles) {
                eprintln!("Nothing was changed.");
                return Ok(Exit::Failed);
            }
            view.terms
        }
    };
    let roles = args.roles.iter().map(|role| role.role()).collect();
    let view = owner.accept(NewConsent { terms, roles })?;
    output::either(place.json, &view, |view| show::accepted(view, owner.runs()));
    Ok(Exit::Done)
}

fn agreed(roles: &[RoleArg]) -> bool {
    let names: Vec<&str> = roles.iter().map(|role| role.name()).collect();
    eprint!("Do you agree, for {}? Type yes: ", names.join(" and "));
    // A prompt that cannot be shown is answered by nobody.
    drop(std::io::stderr().flush());
    let mut line = String::new();
    let read = std::io::stdin().lock().read_line(&mut line).is_ok();
    read && line.trim().eq_ignore_ascii_case("yes")
}

fn caps(place: &Place, args: &CapsArgs) -> Result<(), Problem> {
    let change = args.change();
    let mut owner = Owner::open(place)?;
    let view = if change == CapsChange::default() { owner.view()? } else { owner.set_caps(change)? };
    output::either(place.json, &view.caps, show::caps);
    Ok(())
}

fn withdraw(place: &Place) -> Result<(), Problem> {
    let mut owner = Owner::open(place)?;
    let had = owner.view()?;
    let view = owner.withdraw()?;
    output::either(place.json, &view, |view| show::withdrawn(&had, view));
    Ok(())
}

/// Says again and again how it stands: on a terminal in one place, else a line each time.
fn watch(place: &Place, for_time: Option<Duration>) -> Result<(), Problem> {
    let client = Client::require(&place.data)?;
    let until = for_time.map(|time| Instant::now() + time);
    let in_place = !place.json && std::io::stdout().is_terminal();
    let mut lines = 0;
    loop {
        let view: VolunteerView = client.get("/api/volunteer")?;
        if in_place {
            let text = show::status(&view, true);
            // Back to where the last one began, and away with it.
            let back = if lines > 0 { format!("\u{1b}[{lines}A\u{1b}[J") } else { String::new() };
            output::line(format!("{back}{text}Ctrl-C ends this view; the node runs on."));
            lines = text.lines().count() + 1;
        } else {
            output::either(place.json, &view, show::now);
        }
        let next = Instant::now() + WATCH_EVERY;
        if until.is_some_and(|until| next > until) {
            return Ok(());
        }
        std::thread::sleep(WATCH_EVERY);
    }
}

/// The owner's word: told to the running node, or where none runs written for the next one.
enum Owner {
    Node(Client),
    Disk { store: Store, volunteering: Box<Volunteering>, _lock: DataLock },
}

impl Owner {
    fn open(place: &Place) -> Result<Self, Problem> {
        if let Some(client) = Client::find(&place.data)? {
            return Ok(Self::Node(client));
        }
        let lock = prepare_folder(&place.data).map_err(|error| error.problem())?;
        let settings = place.load(&Flags::new())?.config.volunteer;
        let unix_ms = unix_ms();
        let store = Store::open(&place.data.join(paths::STORE), unix_ms).map_err(|error| error.problem())?;
        let volunteering = Volunteering::at_rest(&store, &settings, TERMS, unix_ms);
        let volunteering = Box::new(volunteering.map_err(|error| error.problem())?);
        Ok(Self::Disk { store, volunteering, _lock: lock })
    }

    /// Whether a node runs.
    fn runs(&self) -> bool {
        matches!(self, Self::Node(_))
    }

    fn view(&self) -> Result<VolunteerView, Problem> {
        match self {
            Self::Node(client) => client.get("/api/volunteer"),
            Self::Disk { volunteering, .. } => Ok(volunteering.view_at_rest()),
        }
    }

    fn accept(&mut self, new: NewConsent) -> Result<VolunteerView, Problem> {
        match self {
            Self::Node(client) => client.put("/api/volunteer/consent", &new),
            Self::Disk { store, volunteering, .. } => {
                volunteering.accept(store, &new, unix_ms())?;
                Ok(volunteering.view_at_rest())
            }
        }
    }

    fn set_caps(&mut self, change: CapsChange) -> Result<VolunteerView, Problem> {
        match self {
            Self::Node(client) => client.put("/api/volunteer/caps", &change),
            Self::Disk { store, volunteering, .. } => {
                volunteering.set_caps(store, &change)?;
                Ok(volunteering.view_at_rest())
            }
        }
    }

    fn withdraw(&mut self) -> Result<VolunteerView, Problem> {
        match self {
            Self::Node(client) => client.delete_for("/api/volunteer"),
            Self::Disk { store, volunteering, .. } => {
                volunteering.withdraw(store, unix_ms())?;
                Ok(volunteering.view_at_rest())
            }
        }
    }

    fn ledger(&self, days: u64) -> Result<LedgerView, Problem> {
        match self {
            Self::Node(client) => client.get(&format!("/api/volunteer/ledger?days={days}")),
            Self::Disk { store, .. } => ledger(store, days, unix_ms()).map_err(|error| error.problem()),
        }
    }
}

impl RoleArg {
    fn role(self) -> VolunteerRole {
        match self {
            Self::Directory => VolunteerRole::Directory,
            Self::Relay => VolunteerRole::Relay,
        }
    }

    fn name(self) -> &'static str {
        show::role_name(self.role())
    }
}

impl CapsArgs {
    fn change(&self) -> CapsChange {
        CapsChange {
            devices: self.devices,
            calls: self.calls,
            bits_per_second: self.bits_per_second,
            directory_bytes_per_month: self.directory_bytes_per_month.or(self.bytes_per_month),
            relay_bytes_per_month: self.relay_bytes_per_month.or(self.bytes_per_month),
            hours: self.hours.clone(),
            reset: self.reset,
        }
    }
}
