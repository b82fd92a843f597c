//! The list of settings: what `tandem.toml` may hold, and the environment variable of each.

/// The form of a setting's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SettingKind {
    Text,
    /// In the environment and in flags: separated by commas. In the file, one alone needs no brackets.
    List,
    /// Not negative.
    Number,
    Switch,
    /// A switch, or `"auto"`.
    SwitchOrAuto,
}

/// One setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting {
    /// As in `tandem.toml`; a dot stands for a table.
    pub key: &'static str,
    pub variable: &'static str,
    pub kind: SettingKind,
}

const fn setting(key: &'static str, variable: &'static str, kind: SettingKind) -> Setting {
    Setting { key, variable, kind }
}

/// All settings, in the order `tandem config show` prints them.
pub const SETTINGS: &[Setting] = &[
    setting("network", "TANDEM_NETWORK", SettingKind::Text),
    setting("network_key", "TANDEM_NETWORK_KEY", SettingKind::Text),
    setting("membership", "TANDEM_MEMBERSHIP", SettingKind::Text),
    setting("bootstrap", "TANDEM_BOOTSTRAP", SettingKind::List),
    setting("listen", "TANDEM_LISTEN", SettingKind::List),
    setting("listen_tcp", "TANDEM_LISTEN_TCP", SettingKind::List),
    setting("external", "TANDEM_EXTERNAL", SettingKind::List),
    setting("api", "TANDEM_API", SettingKind::Text),
    setting("answer", "TANDEM_ANSWER", SettingKind::Text),
    setting("answer_after", "TANDEM_ANSWER_AFTER", SettingKind::Text),
    setting("redundancy", "TANDEM_REDUNDANCY", SettingKind::Text),
    setting("relay_only", "TANDEM_RELAY_ONLY", SettingKind::Switch),
    setting("port_mapping", "TANDEM_PORT_MAPPING", SettingKind::Switch),
    setting("strangers", "TANDEM_STRANGERS", SettingKind::Text),
    setting("early_media", "TANDEM_EARLY_MEDIA", SettingKind::Text),
    setting("public_ranges", "TANDEM_PUBLIC_RANGES", SettingKind::List),
    setting("log", "TANDEM_LOG", SettingKind::Text),
    setting("metered", "TANDEM_METERED", SettingKind::SwitchOrAuto),
    setting("volunteer.roles", "TANDEM_VOLUNTEER", SettingKind::List),
    setting("volunteer.accept_terms", "TANDEM_ACCEPT_TERMS", SettingKind::Number),
    setting("volunteer.devices", "TANDEM_VOLUNTEER_DEVICES", SettingKind::Number),
    setting("volunteer.calls", "TANDEM_VOLUNTEER_CALLS", SettingKind::Number),
    setting("volunteer.bits_per_second", "TANDEM_VOLUNTEER_BITS_PER_SECOND", SettingKind::Number),
    setting("volunteer.bytes_per_month", "TANDEM_VOLUNTEER_BYTES_PER_MONTH", SettingKind::Number),
    setting(
        "volunteer.directory_bytes_per_month",
        "TANDEM_VOLUNTEER_DIRECTORY_BYTES_PER_MONTH",
        SettingKind::Number,
    ),
];

/// Whether this is the name of a setting.
#[must_use]
pub fn is_setting(key: &str) -> bool {
    by_key(key).is_some()
}

/// The setting of this key.
pub(super) fn by_key(key: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.key == key)
}

/// The known key most like a mistyped one, if any is near enough to be meant.
pub(super) fn nearest(key: &str) -> Option<&'static str> {
    nearest_of(key, SETTINGS.iter().map(|setting| setting.key))
}

/// The same, of any list of keys.
pub(crate) fn nearest_of(key: &str, known: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    let last = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();
    known
        .map(|candidate| {
            let whole = distance(key, candidate);
            let name = distance(&last(key), &last(candidate)) + 1;
            (whole.min(name), candidate)
        })
        .min()
        .filter(|(distance, nearest)| *distance <= 1 + nearest.len() / 3)
        .map(|(_, nearest)| nearest)
}

/// Levenshtein distance, over the first 64 characters.
fn distance(a: &str, b: &str) -> usize {
    const LONGEST: usize = 64;
    let b: Vec<char> = b.chars().take(LONGEST).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().take(LONGEST).enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manual_lists_every_setting_and_no_other() {
        let manual = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/OPERATING.md");
        let manual = std::fs::read_to_string(manual).unwrap();
        let row = |line: &str| {
            let mut cells = line.strip_prefix("| `")?.split("` | `");
            let (key, rest) = (cells.next()?, cells.next()?);
            rest.starts_with("TANDEM_")
                .then(|| (key.to_owned(), rest.split('`').next().unwrap_or("").to_owned()))
        };
        let listed: Vec<(String, String)> = manual.lines().filter_map(row).collect();
        let expected: Vec<(String, String)> =
            SETTINGS.iter().map(|setting| (setting.key.to_owned(), setting.variable.to_owned())).collect();
        assert_eq!(listed, expected);
    }

    #[test]
    fn the_nearest_key_is_named() {
        assert_eq!(nearest("bootstraps"), Some("bootstrap"));
        assert_eq!(nearest("volunteer.accept_term"), Some("volunteer.accept_terms"));
        assert_eq!(nearest("accept_terms"), Some("volunteer.accept_terms"));
        assert_eq!(nearest("zzzzzzzzzzzz"), None);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
