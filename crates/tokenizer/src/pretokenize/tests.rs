//! The scanners against the regular expressions that they stand for.

use chalot_simd::Isa;
use chalot_simd::bytes::{self, ByteKernel, ByteLanes};
use proptest::prelude::*;

use super::*;

/// Strings that sit on the corners of the patterns.
const FRAGMENTS: [&str; 84] = [
    "'s",
    "'S",
    "'t",
    "'T",
    "'re",
    "'RE",
    "'rE",
    "'ve",
    "'m",
    "'ll",
    "'lL",
    "'d",
    "'D",
    "'ſ",
    "'\u{212A}",
    "'",
    "''",
    "'x",
    "'l",
    "'r",
    "'v",
    " ",
    "  ",
    "   ",
    "\t",
    "\n",
    "\n\n",
    "\r\n",
    "\r",
    "\n ",
    " \n",
    " \n ",
    "\u{A0}",
    "\u{3000}",
    "\u{2028}",
    "\u{85}",
    "1",
    "12",
    "123",
    "1234",
    "²",
    "½",
    "٣٤٥",
    "Ⅷ",
    "a",
    "A",
    "ab",
    "aB",
    "Ab",
    "AB",
    "ABc",
    "é",
    "É",
    "ǅ",
    "ʰ",
    "ª",
    "日本",
    "한",
    "\u{301}",
    "e\u{301}",
    "\u{301}A",
    "\u{903}",
    "\u{20DD}",
    "!",
    "?!",
    "...",
    "/",
    "//",
    "\n/",
    "/\n",
    "!\n",
    "!\r\n/",
    "(",
    "_",
    "$",
    "€",
    "+",
    "\u{200B}",
    "\u{200D}",
    "\0",
    "😀",
    "👍🏽",
    "▁",
    "\u{10FFFF}",
];

fn text() -> impl Strategy<Value = String> {
    let fragment = prop_oneof![
        8 => prop::sample::select(&FRAGMENTS[..]).prop_map(String::from),
        1 => any::<char>().prop_map(String::from),
        // What is passed over by sixteen bytes, or because it repeats itself.
        1 => (prop::sample::select(&FRAGMENTS[..]), 1..90usize).prop_map(|(fragment, times)| fragment.repeat(times)),
    ];
    prop::collection::vec(fragment, 0..60).prop_map(|fragments| fragments.concat())
}

/// By 64 bytes at a time where that says something.
struct Blocks<'a>(Scanner, &'a [u8]);

impl ByteKernel for Blocks<'_> {
    type Output = Vec<String>;
    #[inline(always)]
    fn run<L: ByteLanes>(self, lanes: L) -> Vec<String> {
        let Blocks(scanner, text) = self;
        let (mut at, mut pieces) = (0, Vec::new());
        while at < text.len() {
            let found = if text.len() - at >= REACH { scanner.boundaries(lanes, text, at) } else { 0 };
            let ends = (0..64).filter(|bit| found >> bit & 1 == 1).map(|bit| at + bit).collect::<Vec<_>>();
            let ends = if found == 0 { vec![scanner.end_of_match(text, at)] } else { ends };
            for end in ends {
                pieces.push(String::from_utf8_lossy(&text[at..end]).into_owned());
                at = end;
            }
        }
        pieces
    }
}

fn pieces(scanner: Scanner, text: &[u8]) -> Vec<String> {
    let mut pieces = Vec::new();
    scanner.run(text, |piece| pieces.push(String::from_utf8_lossy(piece).into_owned()));
    pieces
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn scanners_do_what_the_patterns_say(text in text()) {
        for (spelling, scanner) in known::all() {
            thread_local! {
                static COMPILED: std::cell::RefCell<std::collections::HashMap<&'static str, Regex>> = Default::default();
            }
            let mut expected = Vec::new();
            COMPILED.with_borrow_mut(|compiled| {
                let regex = compiled.entry(spelling).or_insert_with(|| Regex::new("test", "pattern", spelling).unwrap());
                regex.split(text.as_bytes(), &mut |piece, _| expected.push(String::from_utf8_lossy(piece).into_owned()));
            });
            prop_assert_eq!(pieces(*scanner, text.as_bytes()), expected.clone(), "{:?} {}", scanner, spelling);
            for isa in Isa::available() {
                let found = bytes::dispatch(isa, Blocks(*scanner, text.as_bytes()));
                prop_assert_eq!(found, expected.clone(), "{} {:?} {}", isa, scanner, spelling);
            }
        }
    }

    #[test]
    fn scanners_cover_any_bytes(bytes in prop::collection::vec(prop_oneof![any::<u8>(), Just(b' '), Just(b'\n'), Just(0xC3), Just(b'\'')], 0..60)) {
        for (_, scanner) in known::all() {
            let mut covered = Vec::new();
            scanner.run(&bytes, |piece| {
                assert!(!piece.is_empty());
                covered.extend_from_slice(piece);
            });
            prop_assert_eq!(&covered, &bytes);
        }
    }
}

fn split_of(text: &str, behavior: Behavior, invert: bool) -> Vec<String> {
    let mut pieces = Vec::new();
    let matcher = Matcher::String("-".into());
    split(text.as_bytes(), &matcher, behavior, invert, &mut |piece| {
        pieces.push(String::from_utf8_lossy(piece).into_owned())
    });
    pieces
}

/// The example of Hugging Face's documentation of `SplitDelimiterBehavior`.
#[test]
fn behaviors() {
    let text = "the-final--countdown";
    assert_eq!(split_of(text, Behavior::Removed, false), ["the", "final", "countdown"]);
    assert_eq!(split_of(text, Behavior::Isolated, false), ["the", "-", "final", "-", "-", "countdown"]);
    assert_eq!(split_of(text, Behavior::MergedWithPrevious, false), ["the-", "final-", "-", "countdown"]);
    assert_eq!(split_of(text, Behavior::MergedWithNext, false), ["the", "-final", "-", "-countdown"]);
    assert_eq!(split_of(text, Behavior::Contiguous, false), ["the", "-", "final", "--", "countdown"]);
    assert_eq!(split_of(text, Behavior::Removed, true), ["-", "-", "-"]);
}

/// A name, not a spelling: every name of GGUF that has a scanner uses it.
#[test]
fn named_patterns_have_scanners() {
    for (name, pre) in pre::all() {
        let compiled = PreTokenize::new("test", Some(&pre.pre_tokenizer())).unwrap();
        let scanned = compiled.steps.iter().any(|step| matches!(step, Step::Scan(_)));
        assert!(scanned, "{name}: {compiled:?}");
        assert!(pre::by_name(name).is_some());
    }
    for name in ["gpt2", "cl100k", "o200k", "llama3", "qwen2"] {
        let Ok(pattern) = name.parse::<Pattern>();
        assert!(known::scanner_of(pattern.regex()).is_some(), "{pattern:?}");
    }
    assert_eq!(r"\w+".parse(), Ok(Pattern::Regex(r"\w+".into())));
}
