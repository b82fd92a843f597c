//! The 24 words an account is made of.

use std::fmt;

use bip39::{Language, Mnemonic};
use hkdf::Hkdf;
use sha2::Sha256;
use thiserror::Error;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::AccountSecret;

/// HKDF `info` of the account's signing key.
const ACCOUNT_INFO: &[u8] = b"tandem account 1";
/// 256 bits of entropy and 8 of checksum, 11 a word (BIP-39).
const WORD_COUNT: usize = 24;
/// No English BIP-39 word is longer than 8 letters; nobody's typing error is longer than this.
const LONGEST_TYPED_WORD: usize = 16;
const SUGGESTIONS_MAX: usize = 3;
const SUGGESTION_DISTANCE_MAX: usize = 2;

/// The 32 random bytes an account is made of. Written down as 24 words. Wiped from memory when dropped.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Entropy([u8; 32]);

/// Why 24 words were not accepted. The text is for the person who typed them; it holds no word they typed, but its
/// suggestions come near: not for a log.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum WordsError {
    /// Not 24 words.
    #[error("there are {found} words, and an account has 24: type all of them, in order")]
    WrongCount { found: usize },
    /// A word that is not in the English BIP-39 list. `position` counts from 1; `suggestions` are at most 3 words
    /// of the list that look like it, the nearest first.
    #[error(
        "word {position} is not in the word list{}: compare it with what you wrote down",
        did_you_mean(suggestions)
    )]
    UnknownWord { position: usize, suggestions: Vec<&'static str> },
    /// Every word is in the list, but they do not belong together.
    #[error(
        "the words do not fit together: one is wrong or two are swapped; compare each with what you wrote down"
    )]
    WrongChecksum,
}

/// The 2,048 words that accounts are written with, in their order (BIP-39, English).
pub fn word_list() -> impl Iterator<Item = &'static str> {
    bip39::Language::English.word_list().iter().copied()
}

impl Entropy {
    /// From 32 bytes of a cryptographic random generator, or of an existing account.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Reads 24 English BIP-39 words, separated by any white space, in any case.
    ///
    /// # Errors
    /// [`WordsError`] says which word is wrong, or that they do not belong together.
    pub fn from_words(words: &str) -> Result<Self, WordsError> {
        let words = Zeroizing::new(words.to_lowercase());
        let found = words.split_whitespace().count();
        if found != WORD_COUNT {
            return Err(WordsError::WrongCount { found });
        }
        for (index, word) in words.split_whitespace().enumerate() {
            if Language::English.find_word(word).is_none() {
                return Err(WordsError::UnknownWord { position: index + 1, suggestions: suggestions(word) });
            }
        }
        let joined = Zeroizing::new(words.split_whitespace().collect::<Vec<_>>().join(" "));
        let mnemonic = Mnemonic::parse_in_normalized(Language::English, &joined)
            .map_err(|_| WordsError::WrongChecksum)?;
        let bytes = Zeroizing::new(mnemonic.to_entropy());
        let mut entropy = [0; 32];
        entropy.copy_from_slice(&bytes);
        Ok(Self(entropy))
    }

    /// The 24 words, separated by single spaces.
    #[must_use]
    pub fn words(&self) -> Zeroizing<String> {
        let mnemonic = Mnemonic::from_entropy_in(Language::English, &self.0)
            .expect("invariant: 32 bytes make 24 words (BIP-39)");
        Zeroizing::new(mnemonic.words().collect::<Vec<_>>().join(" "))
    }

    /// The 32 bytes, for a key file.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The account's signing key: HKDF-SHA256 without salt, `info` "tandem account 1" (RFC 5869).
    #[must_use]
    pub fn account_secret(&self) -> AccountSecret {
        let mut seed = Zeroizing::new([0; 32]);
        Hkdf::<Sha256>::new(None, &self.0)
            .expand(ACCOUNT_INFO, seed.as_mut())
            .expect("invariant: 32 bytes are within HKDF's limit of 255 hashes");
        AccountSecret::from_seed(&seed)
    }
}

impl fmt::Debug for Entropy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Entropy(secret)")
    }
}

fn did_you_mean(suggestions: &[&'static str]) -> String {
    if suggestions.is_empty() {
        return String::new();
    }
    format!(" (perhaps {})", suggestions.join(" or "))
}

/// The words of the list nearest to what was typed, by edit distance, then alphabetically.
fn suggestions(typed: &str) -> Vec<&'static str> {
    if typed.chars().count() > LONGEST_TYPED_WORD {
        return Vec::new();
    }
    let mut near: Vec<(usize, &'static str)> = Language::English
        .word_list()
        .iter()
        .map(|word| (edit_distance(typed, word), *word))
        .filter(|(distance, _)| *distance <= SUGGESTION_DISTANCE_MAX)
        .collect();
    near.sort_unstable();
    near.into_iter().take(SUGGESTIONS_MAX).map(|(_, word)| word).collect()
}

/// Levenshtein distance in characters.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entropy() -> Entropy {
        Entropy::new(std::array::from_fn(|i| i as u8))
    }

    #[test]
    fn words_come_back() {
        let words = entropy().words();
        assert_eq!(words.split(' ').count(), 24);
        let shouted = format!("  {}\n", words.to_uppercase().replace(' ', "\t "));
        assert_eq!(Entropy::from_words(&shouted).unwrap().as_bytes(), entropy().as_bytes());
    }

    #[test]
    fn a_wrong_word_is_named_by_position() {
        let mut words: Vec<String> = entropy().words().split(' ').map(str::to_owned).collect();
        words[4] = "abandn".into();
        let Err(WordsError::UnknownWord { position, suggestions }) = Entropy::from_words(&words.join(" "))
        else {
            panic!("accepted a word outside the list")
        };
        assert_eq!(position, 5);
        assert_eq!(suggestions.first(), Some(&"abandon"));
    }

    #[test]
    fn count_and_checksum_are_checked() {
        let words = entropy().words();
        let fewer = words.rsplit_once(' ').unwrap().0;
        assert_eq!(Entropy::from_words(fewer).unwrap_err(), WordsError::WrongCount { found: 23 });
        let swapped = ["zoo"; 24].join(" ");
        assert_eq!(Entropy::from_words(&swapped).unwrap_err(), WordsError::WrongChecksum);
    }

    #[test]
    fn nothing_secret_is_printed() {
        assert_eq!(format!("{:?}", entropy()), "Entropy(secret)");
    }
}
