//! Every feature of `tokenizer.json`, against a golden file made with Hugging Face `tokenizers`
//! (`tools/golden/tokenizer_features.py`).

use chalot_tokenizer::{Specials, Tokenizer};
use serde_json::{Value, json};

fn golden() -> Value {
    serde_json::from_str(include_str!("golden/features.json")).unwrap()
}

/// A case's whole tokenizer.json.
fn file_of(golden: &Value, case: &Value) -> Value {
    let mut model = golden["models"][case["model"].as_str().unwrap()].clone();
    for (key, value) in case["options"].as_object().unwrap() {
        model[key] = value.clone();
    }
    let mut file = case["around"].clone();
    file["model"] = model;
    file
}

fn ids_of(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).unwrap()
}

/// Compares every text of a case; `decode`: also what the ids decode to.
fn check(tokenizer: &Tokenizer, golden: &Value, case: &Value, wrong: &mut Vec<String>) {
    let results = case["results"].as_array().unwrap();
    for (text, result) in golden["texts"].as_array().unwrap().iter().zip(results) {
        let text = text.as_str().unwrap();
        let parsed = ids_of(&result[0]);
        let as_text = if result[1].is_null() { parsed.clone() } else { ids_of(&result[1]) };
        let found = (tokenizer.encode(text, Specials::Parse), tokenizer.encode(text, Specials::AsText));
        let counts = (tokenizer.count(text, Specials::Parse), tokenizer.count(text, Specials::AsText));
        assert_eq!(counts, (found.0.len(), found.1.len()));
        let name = &case["name"];
        if found != (parsed.clone(), as_text.clone()) {
            wrong.push(format!("{name}: {text:?}: {found:?}, expected {:?}", (parsed, as_text)));
            continue;
        }
        let Some(decoded) = result[2].as_str() else { continue };
        let found = tokenizer.decode_lossy(&parsed);
        if found != decoded {
            wrong.push(format!("{name}: {parsed:?} is {found:?}, expected {decoded:?}"));
        }
    }
}

#[test]
fn all_features() {
    let golden = golden();
    let mut wrong = Vec::new();
    let cases = golden["cases"].as_array().unwrap();
    assert!(cases.len() > 60);
    for case in cases {
        let file = file_of(&golden, case).to_string();
        match Tokenizer::from_json("features.json", file.as_bytes()) {
            Ok(tokenizer) => check(&tokenizer, &golden, case, &mut wrong),
            Err(error) => wrong.push(format!("{}: {error}", case["name"])),
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong[..wrong.len().min(40)].join("\n"));
}

#[test]
fn all_features_survive_gguf_and_json() {
    let golden = golden();
    let mut wrong = Vec::new();
    for case in golden["cases"].as_array().unwrap() {
        let file = file_of(&golden, case).to_string();
        let tokenizer = Tokenizer::from_json("features.json", file.as_bytes()).unwrap();
        let keys = tokenizer.to_gguf();
        let again = Tokenizer::from_gguf("features.gguf", keys.clone()).unwrap();
        check(&again, &golden, case, &mut wrong);
        assert_eq!(again.to_gguf(), keys, "{}", case["name"]);
        let again = Tokenizer::from_json("written.json", tokenizer.to_json().as_bytes()).unwrap();
        check(&again, &golden, case, &mut wrong);
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong[..wrong.len().min(20)].join("\n"));
}

/// The usual keys are enough for the usual tokenizer: no tokenizer.json inside.
#[test]
fn a_usual_tokenizer_needs_no_json_in_gguf() {
    let golden = golden();
    let plain = &golden["cases"][0];
    let tokenizer =
        Tokenizer::from_json("plain.json", file_of(&golden, plain).to_string().as_bytes()).unwrap();
    let keys = tokenizer.to_gguf();
    assert_eq!((keys.model.as_str(), keys.pre.as_deref()), ("gpt2", Some("gpt-2")));
    assert_eq!(keys.huggingface_json, None);
    assert!(!keys.merges.is_empty());
}

#[test]
fn roles_come_from_the_configuration() {
    let golden = golden();
    let mut file = file_of(&golden, &golden["cases"][0]);
    file["post_processor"] = json!({"type": "Sequence", "processors": [
        {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": false, "use_regex": true},
        {"type": "TemplateProcessing",
         "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
         "pair": [], "special_tokens": {}},
    ]});
    let tokenizer = Tokenizer::from_json("roles.json", file.to_string().as_bytes()).unwrap();
    let (bos, eos) = (tokenizer.id_of("<s>").unwrap(), tokenizer.id_of("</s>").unwrap());
    assert_eq!((tokenizer.bos(), tokenizer.add_bos()), (Some(bos), true));
    assert_eq!(tokenizer.eos(), None);
    // Known by its name.
    assert_eq!(tokenizer.eog_tokens(), [eos]);
    assert!(tokenizer.is_special(eos) && !tokenizer.is_special(tokenizer.id_of("<think>").unwrap()));

    let config = br#"{"bos_token": {"content": "<s>", "lstrip": false}, "eos_token": "</s>", "pad_token": null, "add_bos_token": false}"#;
    let tokenizer = tokenizer.with_hf_config("tokenizer_config.json", config).unwrap();
    assert_eq!((tokenizer.eos(), tokenizer.add_bos()), (Some(eos), false));
    let think = tokenizer.id_of("<think>").unwrap();
    let tokenizer = tokenizer.with_eog_tokens("generation_config.json", &[eos, think]).unwrap();
    assert_eq!(tokenizer.eog_tokens(), [eos, think]);
    let again = Tokenizer::from_gguf("again", tokenizer.to_gguf()).unwrap();
    assert_eq!((again.bos(), again.eos(), again.eog_tokens()), (Some(bos), Some(eos), &[eos, think][..]));

    let error = tokenizer.with_eog_tokens("generation_config.json", &[4_000_000]).unwrap_err().to_string();
    assert!(error.contains("generation_config.json") && error.contains("4000000"), "{error}");
    let error =
        tokenizer.with_hf_config("tokenizer_config.json", br#"{"eos_token": "<nothing>"}"#).unwrap_err();
    assert!(error.to_string().contains("eos_token"), "{error}");
}
