//! `cargo xtask vectors`: the example of tandem-proto writes the bytes; this adds each message in protobuf's own
//! JSON (bytes in base64), read from the `.proto` files alone, so that other implementations can build it.
//!
//! xtask does not depend on tandem-proto, so that `cargo xtask proto` works while that does not compile.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use serde_json::Value;

/// Writes every file of `spec/vectors`.
pub(crate) fn write(root: &Path) -> Result<()> {
    let folder = root.join("spec/vectors");
    let status = Command::new(env!("CARGO"))
        .args(["run", "--release", "--quiet", "--package", "tandem-proto", "--example", "vectors", "--"])
        .arg(&folder)
        .status()
        .context("cannot run cargo")?;
    if !status.success() {
        bail!("the example of tandem-proto did not write the vectors");
    }
    add_json(&folder.join("messages.json"))
}

fn add_json(path: &Path) -> Result<()> {
    let pool = DescriptorPool::from_file_descriptor_set(crate::compile()?)?;
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut vectors: Value = serde_json::from_str(&text)?;
    for vector in vectors.as_array_mut().context("messages.json is not a list")? {
        let message = vector["message"].as_str().context("a vector without a message")?;
        let hex = vector["hex"].as_str().context("a vector without bytes")?;
        let bytes = data_encoding::HEXLOWER.decode(hex.as_bytes())?;
        vector["json"] = protobuf_json(&pool, message, &bytes)?;
    }
    std::fs::write(path, format!("{vectors:#}\n")).with_context(|| format!("cannot write {}", path.display()))
}

fn protobuf_json(pool: &DescriptorPool, message: &str, bytes: &[u8]) -> Result<Value> {
    let name = format!("tandem.v1.{message}");
    let descriptor = pool.get_message_by_name(&name).with_context(|| format!("no message {name}"))?;
    let decoded = DynamicMessage::decode(descriptor, bytes)?;
    let options = SerializeOptions::new().use_proto_field_name(true).stringify_64_bit_integers(false);
    Ok(decoded.serialize_with_options(serde_json::value::Serializer, &options)?)
}
