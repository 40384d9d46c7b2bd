use super::*;

const RECIPE: &str = r#"
name = "Test"
[data]
held_out = { every = 4 }
[[data.texts]]
path = "a.txt"
[tokenizer]
size = 300
[model]
depth = 1
[train]
steps = 10
rows = 8
micro_rows = 2
context = 16
"#;

fn refused(from: &str, to: &str, words: &[&str]) {
    assert!(RECIPE.contains(from), "{from}");
    let error = Recipe::parse("r.toml", &RECIPE.replacen(from, to, 1)).unwrap_err().to_string();
    for word in words.iter().chain(&["r.toml"]) {
        assert!(error.contains(word), "{error:?} does not say {word:?}");
    }
}

#[test]
fn defaults_are_filled_in() {
    let recipe = Recipe::parse("r.toml", RECIPE).unwrap();
    assert_eq!((recipe.seed, recipe.train.parts(), recipe.train.tokens()), (1, 4, 128));
    assert_eq!(recipe.evaluate, Evaluation::default());
    assert_eq!(recipe.evaluate.temperature.value(), 0.8);
    assert_eq!((recipe.checkpoint.keep, recipe.data.texts[0].repeat), (2, 1));
}

#[test]
fn errors_name_the_key_and_the_mend() {
    refused("steps = 10", "stepps = 10", &["line 12", "stepps", "unknown field"]);
    refused("steps = 10", "steps = \"ten\"", &["line 12", "steps", "invalid type"]);
    refused("steps = 10\n", "", &["missing field `steps`"]);
    refused("steps = 10", "steps = 0", &["train.steps", "at least 1"]);
    refused("micro_rows = 2", "micro_rows = 3", &["train.micro_rows", "3 of 8", "power of two"]);
    refused("micro_rows = 2", "micro_rows = 0", &["train.micro_rows"]);
    refused("{ every = 4 }", "{ every = 4, hash = 3 }", &["data.held_out", "2 of the keys", "one way"]);
    refused("{ every = 4 }", "{ every = 1 }", &["data.held_out.every", "2 or more"]);
    refused("[tokenizer]", "[tokenizr]", &["tokenizr"]);
    refused("name = \"Test\"", "name = Test", &["line 2"]);
    refused("rows = 8", "rows = 8\nspike = -1.0", &["train.spike"]);
    for start in ["", "run = 'a'\nmodel = 'b.gguf'"] {
        refused("[model]", &format!("[start]\n{start}\n[model]"), &["start", "run and model", "name one"]);
    }
    refused("[model]", "[sampling]\ntop_p = 1.5\n[model]", &["sampling", "top_p", "1.5", "at most 1"]);
    let error = Recipe::read(Path::new("/nowhere/x.toml")).unwrap_err().to_string();
    assert!(error.contains("/nowhere/x.toml"), "{error}");
}

#[test]
fn the_recipes_of_this_repository_are_recipes() {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../recipes"));
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let recipes: Vec<_> = files.filter(|path| path.extension().is_some_and(|end| end == "toml")).collect();
    assert!(recipes.len() >= 3);
    for path in recipes {
        let recipe = Recipe::read(&path).unwrap();
        let config = recipe.model.resolve(recipe.tokenizer.size).unwrap();
        assert!(recipe.train.context <= config.context_length, "{}", path.display());
    }
}
