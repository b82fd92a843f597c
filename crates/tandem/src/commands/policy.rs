//! `tandem policy`: what an organisation allows on this machine. It only looks: the file is the administrator's.

use std::path::{Path, PathBuf};

use tandem_api::{PolicyCheck, PolicyView, Problem};
use tandem_node::policy::{self, Policy};

use super::Place;
use crate::cli::PolicyAction;
use crate::output::{self, Exit};

pub(super) fn run(place: &Place, action: Option<PolicyAction>) -> Result<Exit, Problem> {
    match action {
        Some(PolicyAction::Check { file }) => check(place, file),
        Some(PolicyAction::Show) | None => show(place),
    }
}

/// The policy in force. One that cannot be followed is a problem, as it is for a node.
fn show(place: &Place) -> Result<Exit, Problem> {
    let policy = policy::system().map_err(|error| error.problem())?;
    output::either(place.json, &policy.view(), text);
    Ok(Exit::Done)
}

fn check(place: &Place, file: Option<PathBuf>) -> Result<Exit, Problem> {
    let system = Path::new(policy::SYSTEM_PATH);
    let (policy, untrusted) = match file {
        // As a node reads it; what is not trusted there is an error.
        None => (policy::system().map_err(|error| error.problem())?, None),
        Some(file) if file == system => (policy::system().map_err(|error| error.problem())?, None),
        // A draft may lie anywhere.
        Some(file) => {
            let policy: Policy = policy::read(&file).map_err(|error| error.problem())?;
            (policy, policy::check_file(&file).err().map(|error| error.to_string()))
        }
    };
    let report = PolicyCheck { ok: true, policy: policy.view(), untrusted };
    output::either(place.json, &report, |report| {
        let mut out = text(&report.policy);
        if let Some(untrusted) = &report.untrusted {
            out.push_str(&output::wrapped(
                "",
                &format!(
                    "A node would not follow it where it is now: {untrusted}. Install it as root: \
                     install -D -o root -g root -m 644 FILE {}",
                    report.policy.system_file
                ),
            ));
        }
        out
    });
    Ok(Exit::Done)
}

/// For a person.
fn text(view: &PolicyView) -> String {
    let Some(file) = &view.file else {
        return format!(
            "This machine has no policy: the node follows its owner's settings alone.\n\
             An organisation's policy would be {}.\n",
            view.system_file
        );
    };
    let mut text = format!("Policy  {file}\n");
    if view.rules.is_empty() {
        text.push_str("It restricts nothing.\n");
    }
    for rule in &view.rules {
        text.push_str(&output::wrapped("  - ", &rule.means));
        text.push_str(&format!("      ({})\n", rule.key));
    }
    if !view.rules.is_empty() {
        text.push_str("No setting, flag or variable changes any of this.\n");
    }
    text
}
