//! Encoding speed, one thread: `cargo bench -p chalot-tokenizer --bench encode -- TOKENIZER.json TEXT [ROUNDS [ONLY]]`.
//!
//! Cold is the first round of a new tokenizer, warm the mean of the others (the system counts a thread's time in ticks). Endless
//! pre-tokens follow, since a server must not stumble over them. Speeds are in MB/s of text, by the time that the thread itself
//! has run. With ONLY, what has it in its name. Several threads are what `chalot bench tokenizer` measures.

use std::time::Instant;

use chalot_tokenizer::{Specials, Tokenizer};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let [vocabulary, text, rest @ ..] = &arguments[..] else {
        println!("usage: encode TOKENIZER.json TEXT [ROUNDS]");
        return;
    };
    let rounds = rest.first().and_then(|rounds| rounds.parse().ok()).unwrap_or(5);
    let only = rest.get(1).map_or("", |only| only);
    let json = std::fs::read(vocabulary).expect("the vocabulary cannot be read");
    let text = std::fs::read(text).expect("the text cannot be read");
    let load = || Tokenizer::from_json(vocabulary, &json).expect("the vocabulary is damaged");

    let time = |name: &str, text: &[u8]| {
        if name.contains(only) {
            time(name, &load(), text, rounds);
        }
    };
    time("text", &text);
    let mut state = 1u64;
    let mut digit = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        b'0' + ((state >> 33) % 10) as u8
    };
    let size = 10_000_000;
    time("a", &b"a".repeat(size));
    time("0123456789", &b"0123456789".repeat(size / 10));
    time("random digits", &(0..size).map(|_| digit()).collect::<Vec<u8>>());
    time("random letters", &(0..size).map(|_| b'a' + 2 * (digit() - b'0')).collect::<Vec<u8>>());
    time("spaces", &b" ".repeat(size));
    time("newlines", &b"\n".repeat(size));
    time("U+1F600", &"\u{1F600}".repeat(size / 4).into_bytes());

    let mut marks = || ["\u{301}", "\u{308}", "\u{323}", "\u{330}"][digit() as usize % 4];
    let marked: String = (0..size / 17)
        .flat_map(|_| std::iter::once("e").chain((0..8).map(|_| marks()).collect::<Vec<_>>()))
        .collect();
    time("e with marks", marked.as_bytes());
}

fn time(name: &str, tokenizer: &Tokenizer, text: &[u8], rounds: u32) {
    let began = Instant::now();
    let round = || {
        let start = own_seconds(began);
        let ids = tokenizer.encode(text, Specials::AsText).len();
        (own_seconds(began) - start, ids)
    };
    let (cold, ids) = round();
    let warm = (0..rounds).map(|_| round().0).sum::<f64>() / f64::from(rounds);
    let speed = |seconds: f64| text.len() as f64 / 1e6 / seconds;
    println!("{name:24} cold {:8.1}  warm {:8.1} MB/s {ids:10} ids", speed(cold), speed(warm));
}

/// The time this thread has run, where the system tells (Linux); else the time that has passed. Neighbours on the machine
/// count less so.
fn own_seconds(began: Instant) -> f64 {
    let own = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanoseconds = own.and_then(|line| line.split(' ').next()?.parse::<f64>().ok());
    nanoseconds.map_or(began.elapsed().as_secs_f64(), |nanoseconds| nanoseconds / 1e9)
}
