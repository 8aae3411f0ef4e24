//! The same tokens and the same renderings as the reference implementations; see golden/make.py.

use quarry_text::chat::ChatInput;
use quarry_text::tokenizer::Specials;
use serde_json::{Map, Value, json};

use crate::{all, golden_file};

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

#[test]
fn awkward_strings_have_the_reference_s_tokens() {
    let cases = golden_file("cases.json");
    for known in all() {
        let strings = cases["strings"].as_array().unwrap();
        let encodings = known.golden["encodings"].as_array().unwrap();
        assert_eq!(strings.len(), encodings.len());
        for (text, golden) in strings.iter().zip(encodings) {
            let text = text.as_str().unwrap();
            let letters = golden.get(1).unwrap_or(&golden[0]);
            for (specials, golden) in [(Specials::Parse, &golden[0]), (Specials::Literal, letters)] {
                let tokens = known.text.tokenizer.encode(text, specials);
                assert_eq!(tokens, ids(golden), "{} {specials:?} {text:?}", known.name);
            }
        }
    }
}

#[test]
fn very_long_strings_too() {
    let cases = golden_file("cases.json");
    for known in all() {
        for (case, golden) in
            cases["long"].as_array().unwrap().iter().zip(known.golden["long"].as_array().unwrap())
        {
            let text = case[0].as_str().unwrap().repeat(case[1].as_u64().unwrap() as usize);
            let tokens = known.text.tokenizer.encode(&text, Specials::Parse);
            let key = tokens.iter().fold(0xcbf2_9ce4_8422_2325_u64, |key, &token| {
                (key ^ u64::from(token)).wrapping_mul(0x100_0000_01b3)
            });
            let edge = tokens.len().min(4);
            let digest =
                json!([tokens.len(), tokens[..edge], tokens[tokens.len() - edge..], format!("{key:016x}")]);
            assert_eq!(&digest, golden, "{} {:?}", known.name, case[0]);
        }
    }
}

#[test]
fn added_tokens_have_the_reference_s_ids() {
    for known in all() {
        for added in known.golden["added"].as_array().unwrap() {
            let text = added[1].as_str().unwrap();
            let tokens = known.text.tokenizer.encode(text, Specials::Parse);
            assert_eq!(tokens, [added[0].as_u64().unwrap() as u32], "{} {text}", known.name);
            assert!(known.text.tokenizer.is_special(tokens[0]));
            assert_eq!(known.text.tokenizer.decode(&tokens, false), text);
        }
    }
}

#[test]
fn conversations_are_rendered_as_the_reference_renders_them() {
    let cases = golden_file("cases.json");
    for known in all() {
        for (name, golden) in known.golden["renderings"].as_object().unwrap() {
            let mut case: Map<String, Value> = cases["conversations"][name].as_object().unwrap().clone();
            let messages = case.remove("messages").unwrap();
            let tools = case.remove("tools");
            let add_generation_prompt = case.remove("add_generation_prompt") != Some(json!(false));
            let template = known.text.template.as_ref().unwrap();
            let rendered = template.render(&ChatInput {
                messages: messages.as_array().unwrap(),
                tools: tools.as_ref().map(|t| t.as_array().unwrap().as_slice()),
                add_generation_prompt,
                kwargs: &case,
            });
            assert_eq!(rendered.unwrap(), golden.as_str().unwrap(), "{} {name}", known.name);
        }
    }
}

#[test]
fn the_files_own_template_is_the_reference_s() {
    // The coder's files carry the template of the whole Qwen2.5 family.
    let golden = golden_file("qwen2.5.json");
    let file = crate::open("qwen2.5-coder-0.5b-instruct-q4_k_m");
    assert_eq!(
        file.metadata_str("tokenizer.chat_template").unwrap().trim(),
        golden["template"].as_str().unwrap().trim()
    );
}
