//! Books to clean prose: what a small model should not have to learn is taken out.
//!
//! A book is cut at its headings, and each chapter or tale is a document. Headings, verse, tables, notes and the signatures
//! of letters are dropped; quotes, dashes and emphasis are written plainly, British single quotes as double ones. Paragraphs
//! with racial slurs are left out.

use std::sync::LazyLock;

use fancy_regex::Regex;

/// Between two paragraphs.
pub const PARAGRAPH: &str = "\n\n";
/// A document of fewer bytes is a rest of something else.
const SHORTEST: usize = 400;
/// A longer paragraph is no heading.
const LONGEST_HEADING: usize = 90;

/// The documents of a book, paragraphs separated by [`PARAGRAPH`].
pub fn documents(book: &str) -> Vec<String> {
    let book = plain(book);
    let british = british(&book);
    let mut found = vec![String::new()];
    for paragraph in paragraphs(&book) {
        if is_heading(paragraph) {
            found.push(String::new());
        } else if is_prose(paragraph) {
            let mut clean = tidy(paragraph);
            if british {
                clean = double_quotes(&clean);
            }
            if let Some(document) = found.last_mut() {
                if !document.is_empty() {
                    document.push_str(PARAGRAPH);
                }
                document.push_str(&clean);
            }
        }
    }
    found.retain(|document| document.len() > SHORTEST);
    found
}

/// Typographic characters as their plain ones; Markdown's marks of emphasis are dropped.
fn plain(book: &str) -> String {
    let mut out = String::with_capacity(book.len());
    for c in book.chars() {
        match c {
            '“' | '”' => out.push('"'),
            '‘' | '’' | '`' => out.push('\''),
            '…' => out.push_str("..."),
            '–' => out.push('-'),
            '—' => out.push_str("--"),
            '\u{a0}' => out.push(' '),
            '\u{200b}' | '\u{2060}' | '\u{feff}' | '_' | '*' | '\r' => {}
            c => out.push(c),
        }
    }
    out
}

fn paragraphs(book: &str) -> impl Iterator<Item = &str> {
    static BREAK: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"\n[^\S\n]*\n\s*").ok());
    let mut rest = Some(book);
    std::iter::from_fn(move || {
        let text = rest?;
        let found = BREAK.as_ref().and_then(|pattern| pattern.find(text).ok().flatten());
        let (paragraph, after) = match found {
            Some(found) => (&text[..found.start()], Some(&text[found.end()..])),
            None => (text, None),
        };
        rest = after;
        Some(paragraph.trim())
    })
    .filter(|paragraph| !paragraph.is_empty())
}

/// Whether dialogue stands in single quotes.
fn british(book: &str) -> bool {
    let double = book.matches('"').count() as f64;
    let bytes = book.as_bytes();
    let opening = bytes
        .windows(3)
        .filter(|w| w[0].is_ascii_whitespace() && w[1] == b'\'' && w[2].is_ascii_alphanumeric())
        .count() as f64;
    double < 0.004 * bytes.len() as f64 && opening > 0.001 * bytes.len() as f64
}

fn matches(pattern: &LazyLock<Option<Regex>>, text: &str) -> bool {
    pattern.as_ref().is_some_and(|pattern| pattern.is_match(text).unwrap_or(false))
}

fn is_heading(paragraph: &str) -> bool {
    static HEADING: LazyLock<Option<Regex>> = LazyLock::new(|| {
        let words = r"(?i:the \w+ chapter|chapter|part|book|stave|published|translat|illustrat)";
        Regex::new(&format!(r#"^{words}\b.*[^.!?"',;:)]$|^(?:[IVXLC]+|\d+)(?:\.|\s+-|$)"#)).ok()
    });
    let upper = |text: &str| text.chars().any(char::is_uppercase) && !text.chars().any(char::is_lowercase);
    let mut chars = paragraph.chars();
    let (first, last) = (chars.next(), paragraph.chars().next_back());
    let title = first.is_some_and(char::is_uppercase) && !last.is_some_and(|c| ".!?\"',;:)-".contains(c));
    paragraph.starts_with('#')
        || (paragraph.len() < LONGEST_HEADING
            && (matches(&HEADING, paragraph) || (upper(paragraph) && paragraph.len() > 10) || title))
}

/// Not verse, a table or a note: one line of mostly letters.
fn is_prose(paragraph: &str) -> bool {
    static MARKS: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"[\[\]{}|\\#^=>@<]|\. \. \.").ok());
    // What no program should say to a child.
    static UNFIT: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r"(?i)\bnigg|\bdark(e?y|ies)\b|\bcoons?\b").ok());
    let letters = paragraph.bytes().filter(|b| b.is_ascii_alphabetic() || *b == b' ').count();
    let upper = paragraph.bytes().any(|b| b.is_ascii_uppercase());
    let lower = paragraph.bytes().any(|b| b.is_ascii_lowercase());
    paragraph.is_ascii()
        && !paragraph.contains('\n')
        && letters * 10 > paragraph.len() * 7
        && (lower || !upper)
        && !matches(&MARKS, paragraph)
        && !matches(&UNFIT, paragraph)
}

/// One space between words, dashes between spaces, contractions in one piece.
fn tidy(paragraph: &str) -> String {
    static DASH: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"\s?--\s?").ok());
    let words = paragraph.split_whitespace().collect::<Vec<_>>().join(" ");
    let dashed = replace(&DASH, &words, " -- ");
    dashed.trim().replace(" n't", "n't")
}

/// Dialogue in single quotes, the British way, to double quotes.
fn double_quotes(text: &str) -> String {
    // Words that begin with an apostrophe of their own: no quotation opens there.
    static OPENING: LazyLock<Option<Regex>> = LazyLock::new(|| {
        let elided =
            "tis|twas|twere|twill|em|til|till|cause|bout|gainst|neath|way|un|ee|most|ave|ere|old|at|im|er";
        Regex::new(&format!(r"(?i)(^|[\s(-])'(?!(?:{elided})\b)(?=\w)")).ok()
    });
    static CLOSING: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"(?<=[,.!?;-])'(?!\w)").ok());
    let opened = replace(&OPENING, text, "${1}\"");
    replace(&CLOSING, &opened, "\"")
}

fn replace(pattern: &LazyLock<Option<Regex>>, text: &str, by: &str) -> String {
    match pattern.as_ref() {
        Some(pattern) => pattern.replace_all(text, by).into_owned(),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_book_becomes_chapters_of_plain_paragraphs() {
        let long = "The king said that it was so. ".repeat(20);
        let book = format!(
            "A TALE OF KINGS\n\nChapter 1 - The King\n\n“{long}” he _said_ — and\nwent\n\nThe queen—who was old—could n't hear it…\n\n\
             A rose is red,\nA violet blue.\n\n{long}\n\nCHAPTER II\n\n{long}\n\n[Note: a note]\n\nshort"
        );
        let found = documents(&book);
        assert_eq!(found.len(), 2);
        assert!(
            found[0].starts_with("The queen -- who was old -- couldn't hear it...\n\nThe king said"),
            "{}",
            found[0]
        );
        assert!(found[1].ends_with(".\n\nshort") && !found[1].contains('['));
    }

    #[test]
    fn british_dialogue_gets_double_quotes() {
        let line = "'Well,' said he, ''twas the queen's rose.' 'Oh!' she said. ";
        let found = documents(&line.repeat(30));
        assert!(found[0].starts_with("\"Well,\" said he, "), "{}", found[0]);
        assert!(found[0].contains("queen's rose.\" \"Oh!\" she"), "{}", found[0]);
        let american = "\"Well,\" said he, \"the 'rose' is red.\" ".repeat(30);
        assert!(documents(&american)[0].contains("'rose'"));
    }

    #[test]
    fn every_pattern_is_one() {
        for paragraph in ["CHAPTER ONE", "IV.", "12", "Of the Sea"] {
            assert!(is_heading(paragraph), "{paragraph}");
        }
        for paragraph in ["He went home.", "\"Who is it?\"", "a heading must not begin small"] {
            assert!(!is_heading(paragraph), "{paragraph}");
        }
        assert!(
            !is_prose("1 2 3 | 4 5 6") && !is_prose("x = y") && !is_prose("Été") && is_prose("It was so.")
        );
        assert_eq!(paragraphs("a\n \n\nb\nc\n\n").collect::<Vec<_>>(), ["a", "b\nc"]);
    }
}
