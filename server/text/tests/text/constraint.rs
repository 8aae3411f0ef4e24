//! What a constraint allows is valid, what it forces is what the tokenizer would have written, and what it cannot
//! enforce it refuses.

use quarry_text::constraint::{Constraint, ConstraintError, ConstraintSpec, SCHEMA_BYTES_MAX};
use quarry_text::tokenizer::Specials;
use serde_json::{Value, json};

use crate::{Draws, Known, QWEN25, SMOLLM2};

fn posting() -> Value {
    json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["title", "kind", "remote", "salary", "tags", "note"],
        "properties": {
            "title": {"type": "string", "minLength": 1, "maxLength": 12},
            "kind": {"enum": ["full_time", "part_time", "a \"quoted\" <b> — ї", null]},
            "remote": {"type": "boolean"},
            "salary": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/salary"}]},
            "tags": {"type": "array", "items": {"type": "string", "maxLength": 5}, "maxItems": 3},
            "note": {"type": ["string", "null"], "maxLength": 8},
        },
        "$defs": {"salary": {
            "type": "object",
            "additionalProperties": false,
            "required": ["min", "currency"],
            "properties": {
                "min": {"type": "integer", "minimum": 0, "maximum": 999_999},
                "currency": {"type": "string", "pattern": "^[A-Z]{3}$"},
            },
        }},
    })
}

fn start(known: &Known, schema: Value) -> Constraint {
    known.text.constraints.compile(&ConstraintSpec::JsonSchema(schema)).unwrap().start()
}

/// The first set bit at or after a random place.
fn draw(mask: &[u32], draws: &mut Draws) -> Option<u32> {
    let from = draws.below(mask.len());
    let word = (0..mask.len()).map(|i| (from + i) % mask.len()).find(|&word| mask[word] != 0)?;
    let bits: Vec<u32> = (0..32).filter(|bit| mask[word] >> bit & 1 == 1).collect();
    Some(word as u32 * 32 + bits[draws.below(bits.len())])
}

fn allows(mask: &[u32], token: u32) -> bool {
    mask[token as usize / 32] >> (token % 32) & 1 == 1
}

/// Takes forced tokens, then random allowed ones, to the end.
fn wander(known: &Known, mut constraint: Constraint, draws: &mut Draws) -> String {
    let tokenizer = &known.text.tokenizer;
    let mut tokens = constraint.forced().unwrap();
    let mut mask = Vec::new();
    while !constraint.is_complete() {
        assert!(tokens.len() < 3000, "no end: {}", tokenizer.decode(&tokens, false));
        constraint.mask(&mut mask).unwrap();
        let token = draw(&mask, draws).expect("something is always allowed");
        if tokenizer.eos_tokens().contains(&token) {
            break;
        }
        assert!(!tokenizer.is_special(token), "{token}");
        constraint.commit(token).unwrap();
        tokens.push(token);
        tokens.extend(constraint.forced().unwrap());
    }
    tokenizer.decode(&tokens, false)
}

fn check(posting: &Value) {
    let fields = posting.as_object().unwrap();
    assert_eq!(fields.keys().collect::<Vec<_>>(), ["title", "kind", "remote", "salary", "tags", "note"]);
    let chars = |value: &Value| value.as_str().unwrap().chars().count();
    assert!((1..=12).contains(&chars(&fields["title"])));
    let kinds = [json!("full_time"), json!("part_time"), json!("a \"quoted\" <b> — ї"), Value::Null];
    assert!(kinds.contains(&fields["kind"]));
    assert!(fields["remote"].is_boolean());
    if !fields["salary"].is_null() {
        let salary = fields["salary"].as_object().unwrap();
        assert_eq!(salary.keys().collect::<Vec<_>>(), ["min", "currency"]);
        assert!(salary["min"].as_u64().unwrap() <= 999_999);
        let currency = salary["currency"].as_str().unwrap();
        assert!(currency.len() == 3 && currency.bytes().all(|b| b.is_ascii_uppercase()), "{currency:?}");
    }
    let tags = fields["tags"].as_array().unwrap();
    assert!(tags.len() <= 3 && tags.iter().all(|tag| chars(tag) <= 5));
    assert!(fields["note"].is_null() || chars(&fields["note"]) <= 8);
}

#[test]
fn whatever_is_drawn_validates() {
    for known in [&*QWEN25, &*SMOLLM2] {
        let mut draws = Draws(7);
        for _ in 0..25 {
            let text = wander(known, start(known, posting()), &mut draws);
            let value: Value =
                serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text:?}"));
            check(&value);
        }
    }
}

#[test]
fn any_object_is_an_object() {
    let schema = json!({"type": "object", "maxProperties": 2, "additionalProperties": {"type": "integer", "maximum": 9, "minimum": 0}});
    let mut draws = Draws(1);
    for _ in 0..5 {
        let text = wander(&QWEN25, start(&QWEN25, schema.clone()), &mut draws);
        assert!(serde_json::from_str::<Value>(&text).is_ok_and(|v| v.is_object()), "{text:?}");
    }
    let mut constraint = QWEN25.text.constraints.compile(&ConstraintSpec::JsonObject).unwrap().start();
    let first = constraint.forced().unwrap();
    let mut mask = Vec::new();
    constraint.mask(&mut mask).unwrap();
    let text = QWEN25.text.tokenizer.decode(&first, false);
    assert!(text.is_empty() || text == "{", "{text:?}");
    for bad in ["[", "\"", "x", "\n", " "] {
        let tokens = QWEN25.text.tokenizer.encode(bad, Specials::Literal);
        assert!(!allows(&mask, tokens[0]) || text == "{", "{bad:?}");
    }
}

/// Follows a whole answer: where something is forced it must be the tokenizer's own next tokens, elsewhere the
/// tokenizer's next token must be allowed. Returns how many of the tokens were forced.
fn follow(known: &Known, schema: Value, answer: &str) -> (usize, usize) {
    let tokens = known.text.tokenizer.encode(answer, Specials::Literal);
    let mut constraint = start(known, schema);
    let mut mask = Vec::new();
    let mut at = 0;
    let mut forced_all = 0;
    loop {
        let forced = constraint.forced().unwrap();
        let rest = &tokens[at..];
        assert!(
            rest.starts_with(&forced),
            "{}: forced {:?}, the tokenizer writes {:?}",
            known.name,
            known.text.tokenizer.decode(&forced, false),
            known.text.tokenizer.decode(rest, false)
        );
        at += forced.len();
        forced_all += forced.len();
        if at == tokens.len() {
            break;
        }
        constraint.mask(&mut mask).unwrap();
        assert!(
            allows(&mask, tokens[at]),
            "{} forbids {:?} after {:?}",
            known.name,
            known.text.tokenizer.decode(&tokens[at..=at], false),
            known.text.tokenizer.decode(&tokens[..at], false)
        );
        constraint.commit(tokens[at]).unwrap();
        at += 1;
    }
    if !constraint.is_complete() {
        constraint.mask(&mut mask).unwrap();
        assert!(known.text.tokenizer.eos_tokens().iter().any(|&end| allows(&mask, end)));
    }
    (forced_all, tokens.len())
}

#[test]
fn forced_tokens_are_the_tokenizer_s_own() {
    for known in [&*QWEN25, &*SMOLLM2] {
        for answer in [
            r#"{"title": "Engineer", "kind": "full_time", "remote": true, "salary": null, "tags": [], "note": null}"#,
            r#"{"title": "Їжа 東京 👩‍🚀", "kind": "a \"quoted\" <b> — ї", "remote": false, "salary": {"min": 60000, "currency": "UAH"}, "tags": ["a", "b c", ""], "note": "x\ny"}"#,
            r#"{"title": " \"\\/", "kind": null, "remote": false, "salary": {"min": 0, "currency": "EUR"}, "tags": ["<b>"], "note": ""}"#,
        ] {
            let (forced, all) = follow(known, posting(), answer);
            assert!(forced * 3 > all, "{}: only {forced} of {all} were forced", known.name);
        }
    }
}

#[test]
fn forcing_changes_nothing_but_the_steps() {
    // The same draws with and without forcing end in the same tokens wherever only one token is allowed.
    let tokenizer = &QWEN25.text.tokenizer;
    let answer = r#"{"title": "A", "kind": null, "remote": true, "salary": null, "tags": [], "note": null}"#;
    let tokens = tokenizer.encode(answer, Specials::Literal);
    let mut constraint = start(&QWEN25, posting());
    let mut mask = Vec::new();
    for &token in &tokens {
        constraint.mask(&mut mask).unwrap();
        assert!(allows(&mask, token));
        constraint.commit(token).unwrap();
    }
    constraint.mask(&mut mask).unwrap();
    assert!(constraint.is_complete() || tokenizer.eos_tokens().iter().any(|&end| allows(&mask, end)));
}

#[test]
fn a_token_the_mask_forbids_is_an_error() {
    let mut constraint = start(&QWEN25, posting());
    let token = QWEN25.text.tokenizer.encode("[", Specials::Literal)[0];
    assert!(matches!(constraint.commit(token), Err(ConstraintError::Broken(_))));
}

#[test]
fn what_cannot_be_enforced_is_refused_by_name() {
    for (schema, word) in [
        (json!({"type": "object", "minProperties": "three"}), "minProperties"),
        (json!({"not": {"type": "string"}}), "not"),
        (json!({"if": {}, "then": {}}), "if"),
        (json!({"type": "array", "uniqueItems": true}), "uniqueItems"),
        (json!({"type": "array", "contains": {}}), "contains"),
        (json!({"type": "object", "dependentRequired": {}}), "dependentRequired"),
        (json!({"type": "wizard"}), "wizard"),
        (json!({"type": "string", "pattern": "(?=a)b"}), "look"),
        (json!({"type": "string", "format": "wizard"}), "wizard"),
        (json!({"type": "integer", "minimum": 5, "maximum": 3}), "5"),
        (json!({"$ref": "#/nowhere"}), "nowhere"),
        (json!({"$ref": "https://example.com/schema.json"}), "example.com"),
        (json!({"$ref": "#"}), ""),
        (json!({"allOf": [{"$ref": "#"}]}), ""),
        (json!(false), "false"),
        (json!("string"), ""),
        (json!(3), ""),
    ] {
        match QWEN25.text.constraints.compile(&ConstraintSpec::JsonSchema(schema.clone())) {
            Err(ConstraintError::Unsupported(message)) => {
                assert!(message.contains(word), "{schema} is refused with {message:?}");
            }
            Err(other) => panic!("{schema}: {other}"),
            Ok(_) => panic!("{schema} is accepted"),
        }
    }
}

#[test]
fn hostile_schemas_are_answered() {
    let nested = |levels: usize, leaf: Value| {
        (0..levels)
            .fold(leaf, |inner, _| json!({"type": "object", "properties": {"a": inner}, "required": ["a"]}))
    };
    let wide: Value = (0..3000).map(|i| (format!("key_{i}"), json!({"type": "string"}))).collect();
    let words: Vec<String> = (0..5000).map(|i| format!("word number {i}")).collect();
    let doubling: Value = (0..40)
        .map(|i| {
            let next = json!({"$ref": format!("#/$defs/d{}", i + 1)});
            (
                format!("d{i}"),
                json!({"type": "array", "prefixItems": [next, next], "items": false, "minItems": 2}),
            )
        })
        .chain([("d40".to_owned(), json!({"type": "null"}))])
        .collect();
    // Each is compiled or refused with a typed error; none hangs, panics or takes the stack.
    for (what, schema) in [
        ("itself", json!({"$ref": "#"})),
        ("all of itself", json!({"allOf": [{"$ref": "#"}]})),
        ("any of itself", json!({"anyOf": [{"$ref": "#"}, {"$ref": "#"}]})),
        (
            "each other",
            json!({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}),
        ),
        ("a list of itself", json!({"type": "array", "items": {"$ref": "#"}, "minItems": 1})),
        ("deep", nested(48, json!({"type": "string"}))),
        ("as deep as is taken", nested(47, json!({"type": "string"}))),
        ("wide", json!({"type": "object", "properties": wide})),
        ("many words", json!({"enum": words})),
        ("doubling", json!({"$ref": "#/$defs/d0", "$defs": doubling})),
        ("long string", json!({"type": "string", "minLength": 4_000_000_000_u64})),
        ("long list", json!({"type": "array", "items": {"type": "null"}, "minItems": 4_000_000_000_u64})),
        ("nested repetition", json!({"type": "string", "pattern": "^((a{1000}){1000}){1000}$"})),
        ("backtracking", json!({"type": "string", "pattern": "^(a|aa)+(a|aa)+(a|aa)+b{900}$"})),
        (
            "huge numbers",
            json!({"type": "number", "minimum": -1e308, "maximum": 1e308, "multipleOf": 1e-300}),
        ),
    ] {
        match QWEN25.text.constraints.compile(&ConstraintSpec::JsonSchema(schema)) {
            Ok(compiled) => {
                // Whatever was accepted can be begun.
                let mut constraint = compiled.start();
                let forced = constraint.forced().unwrap();
                assert!(forced.len() < 10_000, "{what}");
                let mut mask = Vec::new();
                if !constraint.is_complete() {
                    constraint.mask(&mut mask).unwrap();
                }
            }
            Err(ConstraintError::Unsupported(message)) => assert!(!message.is_empty(), "{what}"),
            Err(ConstraintError::TooDeep) => assert_eq!(what, "deep"),
            Err(ConstraintError::TooLong { bytes }) => assert!(bytes > SCHEMA_BYTES_MAX, "{what}"),
            Err(error) => panic!("{what}: {error}"),
        }
    }
}

#[test]
fn compiled_constraints_are_independent() {
    let mut first = start(&QWEN25, posting());
    let opening = first.forced().unwrap();
    // The second comes from the cache and is at its own beginning.
    let mut second = start(&QWEN25, posting());
    assert_eq!(second.forced().unwrap(), opening);
}

#[test]
fn what_a_schema_spells_out_comes_as_it_is_spelled() {
    // Characters that the tokenizer would compose, or that no token holds whole; and what looks like a mark.
    for word in ["cafe\u{301} \u{212b}", "👩‍🚀 𓀀", "<|im_end|>", "a\u{fdd0}b", "\u{1100}\u{1161}\u{11a8}"]
    {
        for known in [&*QWEN25, &*SMOLLM2] {
            let schema = json!({"type": "object", "properties": {"w": {"const": word}}, "required": ["w"], "additionalProperties": false});
            let text = wander(known, start(known, schema), &mut Draws(3));
            let value: Value =
                serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text:?}"));
            assert_eq!(value, json!({"w": word}), "{}", known.name);
        }
    }
}
