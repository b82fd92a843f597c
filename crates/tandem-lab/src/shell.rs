//! Runs the system's programs: `ip`, `nft`, `conntrack`.

use std::ffi::OsStr;
use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Runs a program with this text as its standard input; gives its standard output.
///
/// # Errors
/// When it is not there or fails; the message has what it said.
pub(crate) fn run<S: AsRef<OsStr>>(program: &str, arguments: &[S], input: &str) -> Result<String> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {program} (./x lab installs what the lab needs)"))?;
    let mut stdin = child.stdin.take().context("no standard input")?;
    // A program that ends before it has read everything says why on its standard error.
    stdin.write_all(input.as_bytes()).ok();
    drop(stdin);
    let output = child.wait_with_output()?;
    if !output.status.success() {
        let words: Vec<String> =
            arguments.iter().map(|word| word.as_ref().to_string_lossy().into_owned()).collect();
        bail!("{program} {}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs these lines as one `ip -batch`, in a namespace or outside.
///
/// # Errors
/// When one of them fails; the ones before it are done.
pub(crate) fn ip(namespace: Option<&str>, lines: &[String]) -> Result<()> {
    if lines.is_empty() {
        return Ok(());
    }
    let mut arguments = Vec::new();
    if let Some(namespace) = namespace {
        arguments.extend(["-n", namespace]);
    }
    arguments.extend(["-batch", "-"]);
    run("ip", &arguments, &(lines.join("\n") + "\n"))
        .map(drop)
        .with_context(|| format!("setting up {}", namespace.unwrap_or("links")))
}
