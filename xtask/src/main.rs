//! Repository chores. `cargo xtask proto` writes the wire messages' Rust from `spec/proto`;
//! `cargo xtask proto --check` says whether the committed file is stale; `cargo xtask vectors` writes `spec/vectors`.

mod vectors;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use prost_types::FileDescriptorSet;

const GENERATED: &str = "crates/tandem-proto/src/wire/generated.rs";
const HEADER: &str = "// Generated from spec/proto by `cargo xtask proto`. Do not edit.\n";

/// Messages with secrets: their `Debug` is written by hand and leaves them out.
const SECRET: [&str; 3] = [".tandem.v1.Grant", ".tandem.v1.Offer", ".tandem.v1.MediaDescription"];

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["proto"] => write_messages(),
        ["proto", "--check"] => check_messages(),
        ["vectors"] => vectors::write(&root()),
        _ => bail!("usage: cargo xtask proto [--check] | cargo xtask vectors"),
    }
}

fn write_messages() -> Result<()> {
    let path = root().join(GENERATED);
    std::fs::write(&path, generate()?).with_context(|| format!("cannot write {}", path.display()))
}

fn check_messages() -> Result<()> {
    let path = root().join(GENERATED);
    let committed =
        std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    if committed != generate()? {
        bail!("{GENERATED} is stale: run `cargo xtask proto` and commit the result");
    }
    Ok(())
}

fn generate() -> Result<String> {
    let out = tempfile::tempdir()?;
    prost_build::Config::new().out_dir(out.path()).format(true).skip_debug(SECRET).compile_fds(compile()?)?;
    let text = std::fs::read_to_string(out.path().join("tandem.v1.rs"))?;
    Ok(format!("{HEADER}{text}"))
}

/// The messages of `spec/proto`.
fn compile() -> Result<FileDescriptorSet> {
    let folder = root().join("spec/proto");
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(&folder)?.map(|entry| entry.map(|e| e.path())).collect::<Result<_, _>>()?;
    files.retain(|path| path.extension().is_some_and(|e| e == "proto"));
    files.sort();
    Ok(protox::compile(&files, [&folder])?)
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}
