//! Exact texts that are always replaced: names and labels that no rule could tell from other words.

use std::sync::OnceLock;

use aho_corasick::AhoCorasick;

/// They are at least this long, in characters: shorter ones would tear words apart.
const KNOWN_MIN: usize = 2;
/// Shorter ones, in bytes, are replaced as whole words only: somebody called Al is no reason to tear "also" apart.
const WHOLE_BELOW: usize = 5;

/// A set of texts, found all at once in a time that their number does not change.
#[derive(Debug, Default)]
pub(super) struct Known {
    texts: Vec<KnownText>,
    /// Of their folded forms; built when first something is looked for.
    searcher: OnceLock<AhoCorasick>,
}

#[derive(Debug)]
struct KnownText {
    /// Folded.
    text: String,
    kind: &'static str,
    /// As it is written, when only that counts.
    exact: Option<String>,
}

/// A place where one stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found<'a> {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) kind: &'static str,
    /// The known text in the form that stands for all its writings.
    pub(super) text: &'a str,
}

impl Known {
    /// `exact`: only as a whole word, and with the same capitals.
    pub(super) fn add(&mut self, text: &str, kind: &'static str, exact: bool) {
        if text.chars().count() >= KNOWN_MIN {
            self.texts.push(KnownText { text: fold(text), kind, exact: exact.then(|| text.to_owned()) });
            self.searcher = OnceLock::new();
        }
    }

    /// What a text that is known as a whole is called: its kind and the form that stands for all its writings.
    pub(super) fn kind_of(&self, text: &str) -> Option<(&'static str, &str)> {
        let folded = fold(text.trim());
        let known = self.texts.iter().find(|known| known.text == folded)?;
        Some((known.kind, &known.text))
    }

    /// All places in their order, none over another. Where two overlap, the place is both together.
    pub(super) fn find(&self, text: &str) -> Vec<Found<'_>> {
        let searcher = self.searcher.get_or_init(|| {
            AhoCorasick::new(self.texts.iter().map(|known| &known.text))
                .expect("invariant: fewer texts than four thousand million")
        });
        let folded = fold(text);
        let mut places: Vec<Found<'_>> = searcher
            .find_overlapping_iter(&folded)
            .filter_map(|found| {
                let known = &self.texts[found.pattern().as_usize()];
                let (start, end) = (found.start(), found.end());
                let fits = known.fits(text, start, end);
                fits.then_some(Found { start, end, kind: known.kind, text: &known.text })
            })
            .collect();
        // The longest first of those that begin together: it gives the name.
        places.sort_by_key(|found| (found.start, std::cmp::Reverse(found.end)));
        places.dedup_by(|next, kept| {
            let overlaps = next.start < kept.end;
            if overlaps {
                kept.end = kept.end.max(next.end);
            }
            overlaps
        });
        places
    }
}

impl KnownText {
    fn fits(&self, text: &str, start: usize, end: usize) -> bool {
        let letter = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
        let whole = !letter(text[..start].chars().next_back()) && !letter(text[end..].chars().next());
        match &self.exact {
            Some(exact) => whole && text[start..end] == **exact,
            None => whole || self.text.len() >= WHOLE_BELOW,
        }
    }
}

/// Lower case, letter by letter, so that every letter stays in its place: one whose small form has another length stays
/// as it is, in the known text as in the searched one.
fn fold(text: &str) -> String {
    text.chars()
        .map(|letter| {
            let mut lower = letter.to_lowercase();
            match (lower.next(), lower.next()) {
                (Some(one), None) if one.len_utf8() == letter.len_utf8() => one,
                _ => letter,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(texts: &[(&str, bool)], text: &str) -> Vec<String> {
        let mut known = Known::default();
        for (text, exact) in texts {
            known.add(text, "name", *exact);
        }
        known.find(text).iter().map(|found| text[found.start..found.end].to_owned()).collect()
    }

    #[test]
    fn whatever_the_capitals() {
        assert_eq!(found(&[("Élodie", false)], "élodie ÉLODIE Élodies"), ["élodie", "ÉLODIE", "Élodie"]);
        // The small form of this letter has two characters.
        assert_eq!(found(&[("İpek Kaya", false)], "an İPEK KAYA, İpek kaya"), ["İPEK KAYA", "İpek kaya"]);
    }

    #[test]
    fn short_and_exact_ones_are_whole_words() {
        assert_eq!(found(&[("Al", false)], "also al, Al's"), ["al", "Al"]);
        assert_eq!(found(&[("Phone", true)], "telephone phone Phone \"Phone\""), ["Phone", "Phone"]);
        assert_eq!(found(&[("a", false)], "a b a"), Vec::<String>::new(), "one letter is no name");
        // The longer one is inside a word; the shorter one is not.
        assert_eq!(found(&[("al", false), ("al b", false)], "al bx"), ["al"]);
    }

    #[test]
    fn names_that_overlap_go_together() {
        let names = [("Anna Berg", false), ("Berg Hansen", false), ("Anna", true)];
        assert_eq!(found(&names, "x anna berg hansen y"), ["anna berg hansen"]);
    }

    #[test]
    fn nothing_known_finds_nothing() {
        assert_eq!(found(&[], "some text"), Vec::<String>::new());
    }
}
