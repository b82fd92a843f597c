use tandem_api::{ConfigEntry, Origin, Problem};
use tandem_node::config::Flags;

use super::Place;
use crate::output::{self, Exit};

pub(super) fn show(place: &Place) -> Result<Exit, Problem> {
    let view = place.load(&Flags::new())?.view;
    output::either(place.json, &view, |view| {
        let rows: Vec<[String; 3]> = view.settings.iter().map(row).collect();
        let file = view.file.as_deref().unwrap_or("none; tandem.toml in the data folder would be read");
        format!(
            "Data folder    {}\nSettings file  {file}\n\n{}",
            view.data,
            output::table(["Setting", "From", "Value"], &rows)
        )
    });
    Ok(Exit::Done)
}

fn row(entry: &ConfigEntry) -> [String; 3] {
    let origin = match entry.origin {
        Origin::Policy => "policy",
        Origin::Flag => "flag",
        Origin::Environment => "environment",
        Origin::File => "file",
        Origin::Default => "default",
    };
    let value = match &entry.value {
        serde_json::Value::Null => "not set".to_owned(),
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let bound = match (&entry.policy, entry.origin) {
        (Some(key), Origin::Policy) => format!("  (the policy's {key})"),
        (Some(key), _) => format!("  (within the policy's {key})"),
        (None, _) => String::new(),
    };
    [entry.key.clone(), origin.to_owned(), value + &bound]
}
