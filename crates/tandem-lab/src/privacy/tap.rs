//! What a node of the tapped build wrote down: all that it received, decrypted (`tandem-node`, `tap.rs`).

use std::collections::BTreeMap;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};

use super::capture::clear;

/// The file of one node, read piece by piece.
#[derive(Debug)]
pub(super) struct Tap {
    path: PathBuf,
    read: u64,
    /// What is known of each stream: whose it is.
    from: BTreeMap<u64, String>,
}

/// What came on one stream since the last reading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Heard {
    /// "libp2p stream 7 from …".
    pub(super) place: String,
    pub(super) bytes: Vec<u8>,
}

impl Tap {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, read: 0, from: BTreeMap::new() }
    }

    /// What came since the last time, each stream's bytes put together; of a call's media what is not encrypted further.
    pub(super) fn take(&mut self) -> Result<Vec<Heard>> {
        let mut file = std::fs::File::open(&self.path)
            .with_context(|| format!("no tap at {}: was the program built with it?", self.path.display()))?;
        file.seek(SeekFrom::Start(self.read))?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        // A line that is being written is for the next time.
        text.truncate(text.rfind('\n').map_or(0, |end| end + 1));
        self.read += text.len() as u64;
        self.parse(&text)
    }

    fn parse(&mut self, text: &str) -> Result<Vec<Heard>> {
        let mut streams: BTreeMap<u64, (String, Vec<u8>)> = BTreeMap::new();
        for line in text.lines() {
            let words: Vec<&str> = line.splitn(4, ' ').collect();
            let [_, kind, number, rest] = words[..] else { bail!("the tap is not whole: {line}") };
            let number: u64 = number.parse().context("a stream's number")?;
            if let Some(from) = rest.strip_prefix("# ") {
                self.from.insert(number, format!("{kind} stream {number} with {from}"));
                continue;
            }
            let bytes = unhex(rest).with_context(|| format!("not hexadecimal: {rest}"))?;
            let (_, all) = streams.entry(number).or_insert_with(|| (kind.to_owned(), Vec::new()));
            all.extend(bytes);
        }
        let place = |number| self.from.get(&number).cloned().unwrap_or_default();
        Ok(streams
            .into_iter()
            .map(|(number, (kind, bytes))| {
                let bytes = if kind == "media" { clear(&bytes).to_vec() } else { bytes };
                Heard { place: place(number), bytes }
            })
            .collect())
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| u8::try_from(char::from(byte).to_digit(16)?).ok();
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    rest.is_empty()
        .then(|| pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_a_stream_are_put_together() {
        let mut tap = Tap::new(PathBuf::new());
        let text = "5 libp2p 1 # /ip4/51.1.0.20/tcp/4001\n6 libp2p 1 51ab\n6 media 2 # 51.1.0.20:4002\n\
                    7 libp2p 1 0014\n7 media 2 5a5a5a\n";
        let heard = tap.parse(text).expect("a tap");
        let place = "libp2p stream 1 with /ip4/51.1.0.20/tcp/4001".to_owned();
        assert_eq!(heard[0], Heard { place: place.clone(), bytes: vec![0x51, 0xab, 0, 0x14] });
        assert!(heard[1].bytes.is_empty(), "of media only what is not encrypted");
        assert_eq!(tap.parse("8 libp2p 1 00\n").expect("a tap"), [Heard { place, bytes: vec![0] }]);
        for broken in ["full\n", "5 libp2p 1 5\n", "5 libp2p x 51\n"] {
            assert!(tap.parse(broken).is_err(), "{broken}");
        }
    }
}
