//! Where things lie.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Names in a data folder.
pub const STORE: &str = "store.db";
pub const KEYS: &str = "keys";
pub const LOCK: &str = "lock";
pub const MEMBERSHIP: &str = "membership";
pub const LOGS: &str = "logs";
pub const CALLS: &str = "calls";
pub const API_TOKEN: &str = "api-token";
pub const API_INFO: &str = "api.json";
pub const PAGE_LINK: &str = "open-page.html";

/// The data folder when none is given: `$XDG_DATA_HOME/tandem`, else `~/.local/share/tandem`; on macOS
/// `~/Library/Application Support/tandem`, on Windows `%APPDATA%\tandem`. `None` without a home folder.
#[must_use]
pub fn default_data(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let folder = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if cfg!(windows) {
        return folder("APPDATA").map(|base| base.join("tandem"));
    }
    if let Some(base) = folder("XDG_DATA_HOME").filter(|base| base.is_absolute()) {
        return Some(base.join("tandem"));
    }
    let under_home = if cfg!(target_os = "macos") { "Library/Application Support" } else { ".local/share" };
    folder("HOME").map(|home| home.join(under_home).join("tandem"))
}

/// The path from the root, even of something that does not exist yet.
#[must_use]
pub fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn the_default_follows_the_freedesktop_rules() {
        let with = |pairs: &'static [(&str, &str)]| {
            default_data(move |name| {
                pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into())
            })
        };
        assert_eq!(with(&[("XDG_DATA_HOME", "/x"), ("HOME", "/h")]), Some("/x/tandem".into()));
        assert_eq!(with(&[("XDG_DATA_HOME", "x"), ("HOME", "/h")]), Some("/h/.local/share/tandem".into()));
        assert_eq!(with(&[]), None);
    }
}
