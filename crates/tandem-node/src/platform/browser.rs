//! The person's browser.

use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use super::{files, paths};

#[cfg(target_os = "macos")]
const OPENER: &[&str] = &["open"];
#[cfg(windows)]
const OPENER: &[&str] = &["explorer"];
#[cfg(not(any(target_os = "macos", windows)))]
const OPENER: &[&str] = &["xdg-open"];

/// Does somebody sit at this machine's screen? `variable` reads the environment.
#[must_use]
pub fn has_desktop(variable: impl Fn(&str) -> Option<std::ffi::OsString>) -> bool {
    let set = |name| variable(name).is_some_and(|value| !value.is_empty());
    // Over SSH the browser would open on the screen of the machine, or nowhere.
    let here = cfg!(any(target_os = "macos", windows)) || set("DISPLAY") || set("WAYLAND_DISPLAY");
    here && !set("SSH_CONNECTION")
}

/// Opens a link that is worth something in the person's browser. Everybody on the machine can read the arguments of a program,
/// so the browser is given a file instead, which only its owner may read and which leads on to the link.
///
/// # Errors
/// What the operating system says, for example that there is no such program.
pub fn open_secret(url: &str, data: &Path) -> io::Result<()> {
    let path = data.join(paths::PAGE_LINK);
    files::replace(&path, leading_to(url).as_bytes())?;
    let (program, arguments) = OPENER.split_first().ok_or(io::ErrorKind::Unsupported)?;
    let mut child = Command::new(program)
        .args(arguments)
        .arg(&path)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    // Nobody else waits for it, and a zombie would stay as long as the node runs.
    std::thread::Builder::new().name("browser".into()).spawn(move || drop(child.wait())).map(drop)
}

fn leading_to(url: &str) -> String {
    let url = url.replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;");
    format!(
        "<!doctype html>\n<meta charset=\"utf-8\">\n<title>Tandem</title>\n\
         <meta http-equiv=\"refresh\" content=\"0; url={url}\">\n<p><a href=\"{url}\">Open Tandem</a></p>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_stays_a_link() {
        let page = leading_to("http://127.0.0.1:7710/#code=0a");
        assert!(page.contains("content=\"0; url=http://127.0.0.1:7710/#code=0a\""), "{page}");
        assert!(!leading_to("http://x/\"><script>").contains("<script>"));
    }

    #[test]
    #[cfg(not(any(target_os = "macos", windows)))]
    fn a_machine_without_a_screen_has_no_desktop() {
        let with = |pairs: &'static [(&str, &str)]| {
            has_desktop(move |name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into()))
        };
        assert!(with(&[("DISPLAY", ":0")]));
        assert!(with(&[("WAYLAND_DISPLAY", "wayland-0")]));
        assert!(!with(&[("DISPLAY", "")]));
        assert!(!with(&[("DISPLAY", ":0"), ("SSH_CONNECTION", "192.0.2.1 1 192.0.2.2 22")]));
        assert!(!with(&[]));
    }
}
