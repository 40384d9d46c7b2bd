//! Training speed: `cargo bench -p chalot-tokenizer --bench train -- TEXT... [--entries N] [--threads N] [--linear BYTES]`.
//!
//! Documents are separated by `<|endoftext|>`. After the whole text, the textbook's algorithm and ours are measured on its
//! first BYTES (1 MB): it counts and searches all pairs for each merge, which nobody wants to wait for on more.

use std::ops::ControlFlow;
use std::time::Instant;

use chalot_tokenizer::input::{InputOptions, Texts};
use chalot_tokenizer::train::{Speed, TrainOptions, Trainer};

fn main() {
    let mut files = Vec::new();
    let mut options = TrainOptions { min_frequency: 1, ..TrainOptions::default() };
    let mut linear_bytes = 1_000_000;
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    while let Some(argument) = arguments.next() {
        let mut number =
            || arguments.next().and_then(|number| number.parse().ok()).expect("a number is needed");
        match argument.as_str() {
            "--entries" => options.vocab_size = number(),
            "--threads" => options.threads = number(),
            "--linear" => linear_bytes = number(),
            _ => files.push(argument),
        }
    }
    if files.is_empty() {
        println!("usage: train TEXT... [--entries N] [--threads N] [--linear BYTES]");
        return;
    }
    let input =
        InputOptions { separator: Some("<|endoftext|>".into()), cut: true, ..InputOptions::default() };
    let texts = || Texts::new(files.clone(), input.clone());
    let mut go = |_| ControlFlow::Continue(());
    let mut trainer = Trainer::new(options.clone()).expect("the options fit nothing");
    let start = Instant::now();
    let _ = trainer.count(texts(), &mut go).expect("the text cannot be read");
    let counted = start.elapsed().as_secs_f64();
    let _ = trainer.merge(&mut go).expect("the text cannot be merged");
    let all = start.elapsed().as_secs_f64();
    println!(
        "{:.1} MB, {} thread(s): counting {counted:.3} s ({:.0} MB/s), {} different pre-tokens; {} merges {:.3} s; in all {all:.3} s",
        trainer.bytes() as f64 / 1e6,
        options.threads,
        trainer.bytes() as f64 / 1e6 / counted,
        trainer.words(),
        trainer.merges(),
        all - counted,
    );
    let mut sample = String::new();
    for text in texts() {
        sample.push_str(&text.expect("the text cannot be read"));
        if sample.len() >= linear_bytes {
            break;
        }
    }
    sample.truncate(sample.floor_char_boundary(linear_bytes));
    let options = TrainOptions { vocab_size: options.vocab_size.min(2048), ..options };
    let speed = Speed::measure(&sample, options.clone()).expect("the sample cannot be trained on");
    println!(
        "{} bytes, {} entries: {:.1} MB/s; the textbook's algorithm {:.1} MB/s: {:.1} times",
        sample.len(),
        options.vocab_size,
        speed.mb_per_second,
        speed.linear_mb_per_second,
        speed.over_linear(),
    );
}
