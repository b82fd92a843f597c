//! Whether the network costs by the byte, as NetworkManager says. Where it does not run, nothing is known, and the network
//! does not count as metered: the setting `metered` is there for such machines.

use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

/// It answers in a few hundredths of a second.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// A line for each of a machine's interfaces is far shorter.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Of the interfaces that lead out, by name; `None`: nobody knows.
pub async fn is_metered(leading_out: &[String]) -> Option<bool> {
    if !cfg!(target_os = "linux") {
        return None;
    }
    let asked = Command::new("nmcli")
        .args(["--terse", "--fields", "GENERAL.DEVICE,GENERAL.METERED", "device", "show"])
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .output();
    let answer = tokio::time::timeout(ANSWER_WITHIN, asked).await.ok()?.ok()?;
    if !answer.status.success() || answer.stdout.len() > ANSWER_BYTES_MAX {
        return None;
    }
    parse(&String::from_utf8_lossy(&answer.stdout), leading_out)
}

/// One device after the other, each of its two lines beginning with the field's name (nmcli(1), `--terse`). What
/// NetworkManager guesses (a telephone's hotspot) counts: a bill is worse than a supernode less.
fn parse(answer: &str, leading_out: &[String]) -> Option<bool> {
    let (mut counts, mut metered) = (false, None);
    for line in answer.lines() {
        match line.split_once(':') {
            Some(("GENERAL.DEVICE", name)) => counts = leading_out.iter().any(|known| known == name),
            Some(("GENERAL.METERED", said)) if counts => {
                let said = match said {
                    "yes" | "yes (guessed)" => true,
                    "no" | "no (guessed)" => false,
                    _ => continue,
                };
                metered = Some(metered.unwrap_or(false) | said);
            }
            _ => {}
        }
    }
    metered
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &str = "GENERAL.DEVICE:wlan0\nGENERAL.METERED:yes (guessed)\n\n\
                          GENERAL.DEVICE:eth0\nGENERAL.METERED:no\n\n\
                          GENERAL.DEVICE:lo\nGENERAL.METERED:unknown\n";

    #[test]
    fn only_what_leads_out_counts() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        for (leading_out, expected) in [
            (vec!["eth0"], Some(false)),
            (vec!["wlan0"], Some(true)),
            (vec!["eth0", "wlan0"], Some(true)),
            (vec!["lo"], None),
            (vec!["usb0"], None),
            (vec![], None),
        ] {
            assert_eq!(parse(ANSWER, &names(&leading_out)), expected, "{leading_out:?}");
        }
        assert_eq!(parse("", &names(&["eth0"])), None);
        assert_eq!(parse("GENERAL.METERED:yes\n:::\nx", &names(&["eth0"])), None);
    }
}
