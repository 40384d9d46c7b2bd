//! Encoding speed, one thread: `cargo bench -p chalot-tokenizer --bench encode -- TOKENIZER.json TEXT [ROUNDS [ONLY]]`.
//!
//! Cold is the first round of a new tokenizer, warm the mean of the others (the system counts a thread's time in ticks). Endless
//! pre-tokens follow, since a server must not stumble over them. Speeds are in MB/s of text, by the time that the thread itself
//! has run. With ONLY, what has it in its name.

use std::hint::black_box;
use std::thread;
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

    if !"threads".contains(only) {
        return;
    }
    let tokenizer = load();
    let documents: Vec<&[u8]> = text.chunks(1 << 16).collect();
    let batch =
        |threads| tokenizer.encode_batch(&documents, Specials::AsText, threads).iter().map(Vec::len).sum();
    let one_text = |threads| tokenizer.encode_parallel(&text, Specials::AsText, threads).len();
    beside_each_other("batch", &text, rounds, &batch);
    beside_each_other("one text", &text, rounds, &one_text);
}

/// Where arithmetic gains this much from a second thread, the two run on cores of their own at that time.
const TWO_CORES: f64 = 1.8;

/// One thread and two in turn, medians, with arithmetic as the yardstick: two CPUs may be the two halves of one core, where no
/// program is twice as fast on both. `encode` gives the number of ids.
fn beside_each_other(name: &str, text: &[u8], rounds: u32, encode: &dyn Fn(usize) -> usize) {
    let speed = |threads| {
        let start = Instant::now();
        let ids = encode(threads);
        assert!(ids > 0, "no ids");
        text.len() as f64 / 1e6 / start.elapsed().as_secs_f64()
    };
    speed(2);
    let mut samples: Vec<[f64; 4]> = Vec::new();
    for _ in 0..rounds.max(1) {
        let (one, two) = (speed(1), speed(2));
        samples.push([one, two, two / one, arithmetic(1) / arithmetic(2)]);
    }
    let show = |rounds: &str, samples: &[[f64; 4]]| {
        let median = |at: usize| {
            let mut values: Vec<f64> = samples.iter().map(|sample| sample[at]).collect();
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        };
        if !samples.is_empty() {
            let [one, two, ratio, yardstick] = [0, 1, 2, 3].map(median);
            let (name, count) = (format!("{name}, {rounds}"), samples.len());
            println!(
                "{name:24} ({count:3}) one thread {one:7.1}, two {two:7.1} MB/s of time passed, {ratio:.2} times (arithmetic {yardstick:.2})"
            );
        }
    };
    show("all rounds", &samples);
    samples.retain(|sample| sample[3] >= TWO_CORES);
    show("on two cores", &samples);
}

/// Seconds for the same number of products, all on one thread or half on each of two.
fn arithmetic(threads: u32) -> f64 {
    let products = || {
        let mut chains = [1u64, 2, 3, 4, 5, 6, 7, 8];
        for _ in 0..6_400_000 / threads {
            chains = black_box(chains.map(|x| x.wrapping_mul(6_364_136_223_846_793_005) ^ (x >> 7)));
        }
    };
    let start = Instant::now();
    thread::scope(|scope| {
        (1..threads).for_each(|_| drop(scope.spawn(products)));
        products();
    });
    start.elapsed().as_secs_f64()
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
