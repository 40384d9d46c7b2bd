//! Texts of a real model: free prose, and answers that repeat their prompt.
use std::ops::ControlFlow;

use chalot::{
    CompletionOptions, Message, TextModel,
    model::{Sampler, SamplingParams, SequenceOptions, SpeculationOptions, SpeculationStats},
    tokenizer::Specials,
};
use serde::Serialize;

use super::{Outcome, Pair};
use crate::{
    args::{Holding, bench::SpeculateBench},
    cmd::{drafts, open},
    failure::Usage,
    settings::Settings,
    terminal_input::read_text,
};

/// Openings; no text that a model learns from has them.
const OPENINGS: [&str; 8] = [
    "The old king",
    "Once upon a time there was a mouse who",
    "\"Where have you been?\" asked her mother. \"I was",
    "It was raining when the two brothers",
    "In the garden behind the mill",
    "Nobody in the village believed that",
    "The morning after the storm, Anna",
    "He opened the letter and",
];

/// What is to be repeated: prose, and code.
const PASSAGE: &str = "The lighthouse stood on a rock a mile from the shore. Every evening the keeper climbed the ninety-two \
steps, cleaned the glass and lit the lamp. Once a week a boat brought him bread, oil and newspapers, and on Sundays his \
sister came with a pie. One winter the sea was so rough that no boat could land for nineteen days. The keeper ate the \
last of his bread, then the last of his beans, and still he lit the lamp every evening, because the ships could not know \
that he was hungry.";
const CODE: &str = "def read_table(path):\n    rows = []\n    with open(path) as file:\n        for line in file:\n            \
line = line.strip()\n            if not line or line.startswith('#'):\n                continue\n            name, value = \
line.split('=', 1)\n            rows.append((name.strip(), float(value)))\n    return rows\n\n\ndef \
write_table(path, rows):\n    with open(path, 'w') as file:\n        for name, value in rows:\n            \
file.write(f'{name} = {value}\\n')\n";

/// What is measured of texts.
#[derive(Serialize)]
pub struct Texts {
    model: String,
    texts: usize,
    school: String,
    #[serde(flatten)]
    pub(super) result: Outcome,
}

impl Texts {
    pub fn line(&self) -> String {
        format!("{}, {} texts, drafts: {}", self.model, self.texts, self.school)
    }
}

/// The model goes on from openings.
pub fn prose(args: &SpeculateBench, settings: &Settings) -> anyhow::Result<Texts> {
    let model = open(args, settings)?;
    let text = match &args.openings {
        Some(file) => read_text(file)?,
        None => OPENINGS.join("\n"),
    };
    let openings = text.lines().filter(|line| !line.trim().is_empty());
    let prompts: Vec<_> = openings.map(|opening| model.prompt(opening, Specials::AsText)).collect();
    if prompts.is_empty() {
        return Err(Usage("--openings: the file has no lines".to_owned()).into());
    }
    measure(&model, &prompts, args)
}

/// The model repeats, with a change; one without a chat template is shown the beginning of the repetition.
pub fn repeat(args: &SpeculateBench, settings: &Settings) -> anyhow::Result<Texts> {
    let model = open(args, settings)?;
    let prompts = [
        ("Copy this text, but call the keeper Tom:", PASSAGE, "The lighthouse stood"),
        ("Copy this code, but call the first function load_table:", CODE, "def load_table(path):\n"),
    ]
    .map(|(wish, text, first)| match &model.template {
        Some(template) => {
            let message = Message::new("user", format!("{wish}\n\n{text}"));
            Ok(model.prompt(&template.render(&[message], true)?, Specials::Parse))
        }
        None => Ok(model.prompt(&format!("{text}\n\n{first}"), Specials::AsText)),
    });
    let prompts = prompts.into_iter().collect::<Result<Vec<_>, chalot::Error>>()?;
    measure(&model, &prompts, args)
}

fn open(args: &SpeculateBench, settings: &Settings) -> anyhow::Result<TextModel> {
    Ok(open::open(args.model.as_ref(), &Holding::default(), None, settings)?)
}

/// Every prompt's text, without drafts and with them in turn. What is learnt about drafts goes from text to text, as in a chat.
fn measure(model: &TextModel, prompts: &[Vec<u32>], args: &SpeculateBench) -> anyhow::Result<Texts> {
    let mut plain = model.session(SequenceOptions::default())?;
    let mut drafting = model.session(SequenceOptions::default())?;
    let drafts = drafts::options(model, &args.drafting)?;
    drafting
        .speculate(drafts.map(|drafts| SpeculationOptions { draft_vocab: args.draft_vocab, ..drafts }))?;
    let options =
        CompletionOptions { max_tokens: Some(args.tokens), ignore_eos: true, ..CompletionOptions::default() };
    let mut stats = SpeculationStats::default();
    let mut identical = true;
    let mut pairs = Vec::new();
    for prompt in prompts {
        let mut pair = Pair { plain: Vec::new(), drafted: Vec::new(), tokens: 0 };
        for round in 0..args.rounds {
            let params = SamplingParams {
                temperature: args.temp,
                seed: round as u64,
                ..if args.temp > 0.0 { SamplingParams::default() } else { SamplingParams::greedy() }
            };
            let run = |session: &mut chalot::Session| {
                let mut sampler = Sampler::new(params.clone())?;
                session.complete(prompt, &mut sampler, &options, &mut |_| ControlFlow::Continue(()))
            };
            // Whoever comes second finds warmer caches.
            let (without, with) = if round % 2 == 0 {
                let without = run(&mut plain)?;
                (without, run(&mut drafting)?)
            } else {
                let with = run(&mut drafting)?;
                (run(&mut plain)?, with)
            };
            identical &= without.tokens == with.tokens;
            pair.tokens = without.stats.decode_steps;
            pair.plain.push(without.stats.decode_time.as_secs_f64());
            pair.drafted.push(with.stats.decode_time.as_secs_f64());
            stats.add(&with.stats.speculation.unwrap_or_default());
        }
        pairs.push(pair);
    }
    let draft = drafts.as_ref().map_or(0, SpeculationOptions::most_drafts);
    Ok(Texts {
        model: open::name(args.model.as_deref()),
        texts: prompts.len(),
        school: format!("{:?}", args.drafting.speculate).to_lowercase(),
        result: Outcome::new(draft, pairs, &stats, identical),
    })
}
