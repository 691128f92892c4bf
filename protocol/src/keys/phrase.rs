//! The words: 12 or 24 of the BIP39 English list.
//!
//! A [`Phrase`] always has a valid checksum. Reading is forgiving about whitespace, case, commas,
//! numbering (`1.`, `2)`) and Unicode forms, because none of them can turn one phrase into another;
//! it is strict about the words and says which one is wrong and what may have been meant.
//!
//! The seed is the one of [BIP39](https://github.com/bitcoin/bips/blob/master/bip-0039.mediawiki):
//! PBKDF2-HMAC-SHA512 over the words, salt `"mnemonic" || passphrase` in NFKD, 2,048 rounds, 64 bytes.

use std::borrow::Cow;
use std::fmt;

use bip39::{Language, Mnemonic};
use zeroize::{Zeroize, Zeroizing};

/// Longest text that is looked at, in bytes. 24 words, spaces and numbers need under 350.
pub const MAX_TEXT_LEN: usize = 4096;

/// Near misses named for an unknown word.
const MAX_NEAR: usize = 3;
/// Edits (insert, delete, replace, swap of neighbours) at which a word still counts as near.
const MAX_DISTANCE: usize = 2;
/// Longer unknown words have no near misses (the longest of the list has 8 letters), and errors show
/// this many of their letters.
const MAX_WORD_CHARS: usize = 16;

/// The words from which everything grows. Zeroized when dropped, never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Phrase(Mnemonic);

impl Phrase {
    /// The phrase of 16 (12 words) or 32 (24 words) random bytes, which the caller supplies.
    ///
    /// # Errors
    /// [`EntropyError`] for any other length.
    pub fn from_entropy<T>(entropy: &Zeroizing<T>) -> Result<Self, EntropyError>
    where
        T: AsRef<[u8]> + Zeroize,
    {
        let bytes: &[u8] = T::as_ref(entropy);
        if !matches!(bytes.len(), 16 | 32) {
            return Err(EntropyError { len: bytes.len() });
        }
        Mnemonic::from_entropy_in(Language::English, bytes)
            .map(Self)
            .map_err(|_| EntropyError { len: bytes.len() })
    }

    /// Reads a phrase as people write it.
    ///
    /// # Errors
    /// [`PhraseError`]: too many or too few words, words that are not in the list (all of them, each
    /// with its position and near misses), or a checksum that does not fit.
    pub fn parse(text: &str) -> Result<Self, PhraseError> {
        if text.len() > MAX_TEXT_LEN {
            return Err(PhraseError::TooLong { len: text.len() });
        }
        let text = normalize(text);
        let text = Zeroizing::new(text.to_lowercase());
        let words: Vec<&str> = text.split(is_separator).filter(|word| is_word(word)).collect();
        if !matches!(words.len(), 12 | 24) {
            return Err(PhraseError::WordCount { count: words.len() });
        }
        let unknown: Vec<UnknownWord> = words
            .iter()
            .enumerate()
            .filter(|(_, word)| Language::English.find_word(word).is_none())
            .map(|(index, word)| UnknownWord::new(index + 1, word))
            .collect();
        if !unknown.is_empty() {
            return Err(PhraseError::UnknownWords { words: unknown });
        }
        let joined = Zeroizing::new(words.join(" "));
        Mnemonic::parse_in_normalized(Language::English, &joined)
            .map(Self)
            .map_err(|_| PhraseError::Checksum { count: words.len() })
    }

    /// The words in order.
    pub fn words(&self) -> impl Iterator<Item = &'static str> + Clone + '_ {
        self.0.words()
    }

    /// How many words there are: 12 or 24.
    #[must_use]
    pub fn word_count(&self) -> usize {
        self.0.word_count()
    }

    /// The 16 or 32 bytes of which the words are a spelling.
    #[must_use]
    pub fn entropy(&self) -> Zeroizing<Vec<u8>> {
        let (mut padded, len) = self.0.to_entropy_array();
        let entropy = Zeroizing::new(padded[..len].to_vec());
        padded.zeroize();
        entropy
    }

    /// The words on one line, a single space between them.
    #[must_use]
    pub fn line(&self) -> Zeroizing<String> {
        // With room for 24 words of 8 letters, so that growth leaves no copy behind.
        let mut line = Zeroizing::new(String::with_capacity(24 * 9));
        for (index, word) in self.words().enumerate() {
            if index > 0 {
                line.push(' ');
            }
            line.push_str(word);
        }
        line
    }

    /// The 64-byte BIP39 seed of these words and a passphrase (empty for none). Any passphrase gives
    /// a seed, so a mistyped one gives another, empty wallet. Takes about a millisecond.
    #[must_use]
    pub fn seed(&self, passphrase: &str) -> Seed {
        let passphrase = normalize(passphrase);
        Seed(Zeroizing::new(self.0.to_seed_normalized(&passphrase)))
    }
}

impl fmt::Debug for Phrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Phrase({} words, redacted)", self.word_count())
    }
}

/// The 64-byte BIP39 seed. Zeroized when dropped, never printed.
pub struct Seed(Zeroizing<[u8; 64]>);

impl Seed {
    /// The 64 secret bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 64] {
        &self.0
    }
}

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seed(redacted)")
    }
}

/// Brings a secret text into Unicode's NFKD form, in which BIP39 hashes it, so that two keyboards
/// that compose an accent differently type the same passphrase.
#[must_use]
pub fn normalize(text: &str) -> Zeroizing<String> {
    let mut normal = Cow::Borrowed(text);
    Mnemonic::normalize_utf8_cow(&mut normal);
    Zeroizing::new(normal.into_owned())
}

/// Entropy of a length that has no phrase here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{len} bytes of entropy; 16 give 12 words and 32 give 24")]
pub struct EntropyError {
    /// Bytes supplied.
    pub len: usize,
}

/// Why a text is not a phrase. Its display names mistyped words, so it is for the eyes of whoever
/// typed them and not for a log; its debug form does not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PhraseError {
    /// Far more text than 24 words.
    #[error("{len} bytes of text are not a list of words (at most {MAX_TEXT_LEN} are read)")]
    TooLong {
        /// Bytes supplied.
        len: usize,
    },
    /// Neither 12 nor 24 words.
    #[error("{count} words found; a phrase has 12 or 24")]
    WordCount {
        /// Words found.
        count: usize,
    },
    /// Words that the BIP39 English list does not have.
    #[error("{}", describe_unknown(words))]
    UnknownWords {
        /// Every one of them, in order; never empty.
        words: Vec<UnknownWord>,
    },
    /// All words exist, but they do not belong together.
    #[error(
        "all {count} words are in the list, but their checksum does not fit: one of them is a \
         different word than the one written down, or two changed places"
    )]
    Checksum {
        /// Words found.
        count: usize,
    },
}

/// A word that the list does not have. Its debug form is redacted: what was meant is a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct UnknownWord {
    /// Which word, counted from 1.
    pub position: usize,
    /// What was typed, in lower case, at most 16 letters of it.
    pub word: String,
    /// Up to three words that may have been meant, the likeliest first.
    pub near: Vec<&'static str>,
}

impl UnknownWord {
    fn new(position: usize, word: &str) -> Self {
        Self { position, word: word.chars().take(MAX_WORD_CHARS).collect(), near: near(word) }
    }
}

impl fmt::Display for UnknownWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { position, word, near } = self;
        write!(f, "word {position}, \"{}\", is not in the list", word.escape_debug())?;
        match near.as_slice() {
            [] => Ok(()),
            [one] => write!(f, " (did you mean {one}?)"),
            [first @ .., last] => write!(f, " (did you mean {} or {last}?)", first.join(", ")),
        }
    }
}

impl fmt::Debug for UnknownWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UnknownWord(position {}, redacted)", self.position)
    }
}

impl Zeroize for UnknownWord {
    fn zeroize(&mut self) {
        self.word.zeroize();
        self.near.clear();
    }
}

impl Drop for UnknownWord {
    fn drop(&mut self) {
        self.zeroize();
    }
}

fn describe_unknown(words: &[UnknownWord]) -> String {
    words.iter().map(UnknownWord::to_string).collect::<Vec<_>>().join("; ")
}

/// Whitespace, commas, and the invisible marks that editors leave (byte order mark, zero-width space).
fn is_separator(c: char) -> bool {
    c.is_whitespace() || matches!(c, ',' | '\u{feff}' | '\u{200b}')
}

/// Whether a piece of text is a word and neither empty nor a number in front of one.
fn is_word(piece: &str) -> bool {
    let bare = piece.trim_end_matches(['.', ')', ':']);
    !piece.is_empty() && (bare.is_empty() || !bare.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Up to three words of the list that `typed` may stand for. The list's words differ in their first
/// four letters, so a word that shares them comes first; the rest are ordered by edit distance.
fn near(typed: &str) -> Vec<&'static str> {
    let typed: Zeroizing<Vec<char>> =
        Zeroizing::new(typed.chars().take(MAX_WORD_CHARS + 1).collect());
    if typed.len() > MAX_WORD_CHARS {
        return Vec::new();
    }
    let mut ranked: Vec<(usize, &'static str)> = Language::English
        .word_list()
        .iter()
        .filter_map(|word| {
            let letters: Vec<char> = word.chars().collect();
            if typed.len() >= 4 && letters.len() >= 4 && typed[..4] == letters[..4] {
                return Some((0, *word));
            }
            let distance = edit_distance(&typed, &letters);
            (distance <= MAX_DISTANCE && distance < typed.len()).then_some((distance, *word))
        })
        .collect();
    ranked.sort_unstable();
    ranked.into_iter().take(MAX_NEAR).map(|(_, word)| word).collect()
}

/// Optimal string alignment distance: insertions, deletions, replacements and swaps of neighbours.
fn edit_distance(a: &[char], b: &[char]) -> usize {
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before_last[j - 2] + 1);
            }
            row.push(best);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::*;

    const LEGAL: &str =
        "legal winner thank year wave sausage worth useful legal winner thank yellow";

    fn legal() -> Phrase {
        Phrase::parse(LEGAL).unwrap()
    }

    fn unknown(text: &str) -> Vec<UnknownWord> {
        match Phrase::parse(text) {
            Err(PhraseError::UnknownWords { words }) => words,
            other => panic!("expected unknown words, got {other:?}"),
        }
    }

    #[test]
    fn entropy_has_16_or_32_bytes() {
        let phrase = Phrase::from_entropy(&Zeroizing::new([0x7f; 16])).unwrap();
        assert_eq!(*phrase.line(), LEGAL);
        assert_eq!(*phrase.entropy(), vec![0x7f; 16]);
        assert_eq!(Phrase::from_entropy(&Zeroizing::new([1; 32])).unwrap().word_count(), 24);
        for len in [0, 15, 20, 24, 31, 33] {
            let refused = Phrase::from_entropy(&Zeroizing::new(vec![1; len]));
            assert_eq!(refused, Err(EntropyError { len }));
        }
    }

    #[test]
    fn spelling_is_forgiven() {
        let numbered: String =
            legal().words().enumerate().map(|(i, word)| format!("{}. {word}\r\n", i + 1)).collect();
        let wide: String = LEGAL
            .chars()
            .map(|c| char::from_u32(u32::from(c) + 0xfee0).filter(|_| c != ' ').unwrap_or(c))
            .collect();
        for text in [
            format!("\u{feff}  {}\n\t", LEGAL.to_uppercase()),
            LEGAL.replace(' ', "\u{3000}\n"),
            LEGAL.replace(' ', ", "),
            numbered,
            wide,
        ] {
            assert_eq!(Phrase::parse(&text), Ok(legal()), "{text}");
        }
    }

    #[test]
    fn a_wrong_count_is_named() {
        for (text, count) in [("", 0), ("legal winner", 2), (&format!("{LEGAL} legal"), 13)] {
            assert_eq!(Phrase::parse(text), Err(PhraseError::WordCount { count }));
        }
        let fifteen = format!("{LEGAL} legal winner thank");
        assert_eq!(Phrase::parse(&fifteen), Err(PhraseError::WordCount { count: 15 }));
        let len = MAX_TEXT_LEN + 1;
        assert_eq!(Phrase::parse(&"a".repeat(len)), Err(PhraseError::TooLong { len }));
    }

    #[test]
    fn unknown_words_are_named_with_near_misses() {
        let words = unknown(&LEGAL.replace("wave", "waev").replace("yellow", "yelloww"));
        assert_eq!(words.len(), 2);
        assert_eq!((words[0].position, words[0].word.as_str()), (5, "waev"));
        assert_eq!(words[0].near[0], "wave");
        assert!(words[0].near.len() <= 3);
        assert_eq!((words[1].position, words[1].near[0]), (12, "yellow"));
    }

    #[test]
    fn the_first_four_letters_are_enough_for_a_suggestion() {
        let words = unknown(&LEGAL.replace("sausage", "saus").replace("useful", "usefullness"));
        assert_eq!(words[0].near[0], "sausage");
        assert_eq!(words[1].near[0], "useful");
    }

    #[test]
    fn a_long_word_is_cut_and_has_no_near_misses() {
        let words = unknown(&LEGAL.replace("wave", &"x".repeat(500)));
        assert_eq!((words[0].word.len(), words[0].near.len()), (MAX_WORD_CHARS, 0));
    }

    #[test]
    fn errors_speak_plainly_and_debug_keeps_the_word() {
        let error = Phrase::parse(&LEGAL.replace("wave", "wavee")).unwrap_err();
        assert!(error.to_string().contains("word 5, \"wavee\", is not in the list"), "{error}");
        assert!(error.to_string().contains("did you mean wave"), "{error}");
        assert!(!format!("{error:?}").contains("wave"));
    }

    #[test]
    fn a_bad_checksum_is_said_in_plain_words() {
        let swapped = LEGAL.replace("legal winner thank year", "winner legal thank year");
        let error = Phrase::parse(&swapped).unwrap_err();
        assert_eq!(error, PhraseError::Checksum { count: 12 });
        assert!(error.to_string().contains("checksum does not fit"));
    }

    #[test]
    fn secrets_are_not_printed() {
        let phrase = legal();
        assert_eq!(format!("{phrase:?}"), "Phrase(12 words, redacted)");
        assert_eq!(format!("{:?}", phrase.seed("")), "Seed(redacted)");
    }

    #[test]
    fn passphrases_are_normalised() {
        let (composed, decomposed) = ("caf\u{e9}", "cafe\u{301}");
        assert_eq!(legal().seed(composed).as_bytes(), legal().seed(decomposed).as_bytes());
        assert_ne!(legal().seed(composed).as_bytes(), legal().seed("").as_bytes());
    }

    #[test]
    fn distances() {
        let distance = |a: &str, b: &str| {
            edit_distance(&a.chars().collect::<Vec<_>>(), &b.chars().collect::<Vec<_>>())
        };
        assert_eq!(distance("wave", "waev"), 1);
        assert_eq!(distance("", "wave"), 4);
        assert_eq!(distance("kitten", "sitting"), 3);
    }

    proptest! {
        #[test]
        fn every_phrase_reads_back(short in any::<[u8; 16]>(), long in any::<[u8; 32]>()) {
            for phrase in [
                Phrase::from_entropy(&Zeroizing::new(short)).unwrap(),
                Phrase::from_entropy(&Zeroizing::new(long)).unwrap(),
            ] {
                assert_eq!(Phrase::parse(&phrase.line()).unwrap(), phrase);
                let again = Phrase::from_entropy(&phrase.entropy()).unwrap();
                assert_eq!(again, phrase);
            }
        }

        #[test]
        fn any_text_gives_a_phrase_or_an_error(text in "\\PC{0,200}") {
            let _ = Phrase::parse(&text);
        }
    }
}
