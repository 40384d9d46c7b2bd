//! The model card: what a model is, what it was made of, how good it is.

use crate::data::Summary;
use crate::log::HeldOut;
use crate::recipe::Recipe;

/// The card as Markdown, with the head that Hugging Face's site reads.
pub(super) fn card(recipe: &Recipe, texts: &Summary, parameters: (u64, u64), held_out: &HeldOut) -> String {
    let mut card = String::from("---\nlibrary_name: chalot\npipeline_tag: text-generation\n");
    if let Some(license) = &recipe.license {
        card.push_str(&format!("license: {}\n", license.to_lowercase()));
    }
    card.push_str(&format!("---\n# {}\n\n", recipe.name));
    if let Some(description) = &recipe.description {
        card.push_str(&format!("{description}\n\n"));
    }
    let (all, active) = parameters;
    let active =
        if active == all { String::new() } else { format!(", {} of them for a token", number(active)) };
    card.push_str(&format!(
        "| | |\n|---|---|\n| parameters | {}{active} |\n| vocabulary | {} entries at most, byte-level BPE, `{}` before and \
         between texts |\n| context | {} tokens |\n| trained on | {} tokens in {} steps, {:.1} times through the texts |\n\
         | held-out text | {:.4} bits a byte, {:.4} nats a token |\n",
        number(all),
        recipe.tokenizer.size,
        recipe.tokenizer.end_of_text,
        recipe.train.context,
        number(recipe.train.steps * recipe.train.tokens()),
        recipe.train.steps,
        (recipe.train.steps * recipe.train.tokens()) as f64 / texts.tokens.max(1) as f64,
        held_out.bits_per_byte,
        held_out.loss
    ));
    if let Some(exit) = held_out.exit_bits_per_byte {
        card.push_str(&format!("| held-out text at the early exit | {exit:.4} bits a byte |\n"));
    }
    card.push_str("\n## Texts\n\n| file | source | licence |\n|---|---|---|\n");
    for source in &recipe.data.texts {
        let said = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".into());
        card.push_str(&format!(
            "| {} | {} | {} |\n",
            source.path.names().join(", "),
            said(&source.source),
            said(&source.license)
        ));
    }
    card.push_str(&format!(
        "\n{} texts; {} documents, {} bytes and {} tokens to train on; {} bytes held out",
        texts.texts,
        texts.documents,
        number(texts.bytes),
        number(texts.tokens),
        number(texts.held_out_bytes)
    ));
    match texts.held_out_texts.len() {
        1..=12 => card.push_str(&format!(" ({}).\n", texts.held_out_texts.join("; "))),
        count => card.push_str(&format!(" ({count} texts).\n")),
    }
    if let Some(sample) = &held_out.sample {
        let quoted = sample.trim().replace('\n', "\n> ");
        card.push_str(&format!(
            "\n## Sample\n\nAs it came, from the prompt {:?}:\n\n> {quoted}\n",
            recipe.evaluate.prompt
        ));
    }
    card.push_str("\nIt was made by `chalot train` from the recipe `recipe.toml` beside the run.\n");
    card
}

/// 8123456 as "8.1 million".
fn number(number: u64) -> String {
    match number {
        0..10_000 => number.to_string(),
        10_000..1_000_000 => format!("{:.1} thousand", number as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} million", number as f64 / 1e6),
        _ => format!("{:.2} billion", number as f64 / 1e9),
    }
}
