//! A tar archive (POSIX.1-1988 "ustar"): 512-byte headers, contents padded to the same, two empty blocks at the end.

use super::Part;

const BLOCK: usize = 512;

/// The parts as one archive; `unix_s` is the time that all of them bear. Names longer than 99 bytes are cut.
#[must_use]
pub fn tar(parts: &[Part], unix_s: u64) -> Vec<u8> {
    let mut archive = Vec::new();
    for part in parts {
        archive.extend_from_slice(&header(&part.name, part.text.len(), unix_s));
        archive.extend_from_slice(part.text.as_bytes());
        archive.resize(archive.len().next_multiple_of(BLOCK), 0);
    }
    archive.resize(archive.len() + 2 * BLOCK, 0);
    archive
}

fn header(name: &str, length: usize, unix_s: u64) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let mut put = |at: usize, text: &[u8]| block[at..at + text.len()].copy_from_slice(text);
    let name = &name.as_bytes()[..name.len().min(99)];
    put(0, name);
    put(100, b"0000600\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{length:011o}\0").as_bytes());
    put(136, format!("{:011o}\0", unix_s & 0o77_777_777_777).as_bytes());
    // The checksum counts its own field as spaces.
    put(148, b"        ");
    put(156, b"0");
    put(257, b"ustar\x0000");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_programs_read_it() {
        let part =
            |name: &str, text: &str| Part { name: name.into(), what: String::new(), text: text.into() };
        let parts = [part("a.txt", "hello\n"), part("calls/b.json", &"x".repeat(1_000)), part("empty", "")];
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("b.tar");
        std::fs::write(&file, tar(&parts, 1_700_000_000)).unwrap();
        let unpacked =
            std::process::Command::new("tar").arg("-xf").arg(&file).arg("-C").arg(folder.path()).status();
        assert!(unpacked.unwrap().success());
        for part in &parts {
            assert_eq!(std::fs::read_to_string(folder.path().join(&part.name)).unwrap(), part.text);
        }
    }
}
