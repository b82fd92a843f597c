//! Writes the vectors into the folder given: `cargo xtask vectors` runs this. Only that command does: the tests
//! compare, so a change of the wire format is seen and not absorbed.

#[path = "../tests/it/samples/mod.rs"]
mod samples;

use std::io;
use std::path::Path;

use serde_json::{Value, json};

fn main() -> io::Result<()> {
    let folder = std::env::args().nth(1).ok_or_else(|| io::Error::other("usage: vectors FOLDER"))?;
    let folder = Path::new(&folder);
    std::fs::create_dir_all(folder)?;
    assert!(
        samples::messages().iter().all(|sample| (sample.reads)(&sample.bytes)),
        "a message that is not read back"
    );
    let messages = ("messages.json", messages());
    for (name, value) in samples::files().into_iter().chain([messages]) {
        std::fs::write(folder.join(name), format!("{value:#}\n"))?;
    }
    Ok(())
}

/// `messages.json`, without the JSON that xtask adds to each vector.
fn messages() -> Value {
    let vectors = samples::messages().into_iter().map(|sample| {
        assert!((sample.reads)(&sample.bytes), "{} ({}) is not read back", sample.message, sample.name);
        json!({ "message": sample.message, "name": sample.name, "hex": samples::hex(&sample.bytes) })
    });
    Value::Array(vectors.collect())
}
