//! Frequencies and attention factors against the papers' formulas, computed elsewhere (`golden/make_rope.py`).

use quarry_model::rope::frequencies;
use quarry_model::spec::{RopePairing, RopeScaling, RopeSpec};
use serde_json::Value;

/// Relative: rounding to f32, and a base that is one.
const ERROR_MAX: f64 = 2e-7;

fn scaling(case: &Value) -> RopeScaling {
    let number = |key: &str| case[key].as_f64().expect(key) as f32;
    let original = || case["original"].as_u64().expect("original") as usize;
    match case["kind"].as_str().expect("kind") {
        "none" => RopeScaling::None,
        "linear" => RopeScaling::Linear { factor: number("factor") },
        "yarn" => match RopeScaling::yarn(number("factor"), original()) {
            RopeScaling::Yarn { factor, original_context, attention_factor, .. } => RopeScaling::Yarn {
                factor,
                original_context,
                beta_fast: number("fast"),
                beta_slow: number("slow"),
                attention_factor,
            },
            other => panic!("{other:?}"),
        },
        _ => RopeScaling::Llama3 {
            factor: number("factor"),
            original_context: original(),
            low_frequency_factor: number("low"),
            high_frequency_factor: number("high"),
        },
    }
}

#[test]
fn frequencies_are_the_papers() {
    let cases: Vec<Value> = serde_json::from_str(include_str!("golden/rope.json")).expect("JSON");
    assert_eq!(cases.len(), 9);
    for case in &cases {
        let name = case["name"].as_str().expect("name");
        let dims = case["dims"].as_u64().expect("dims") as usize;
        let theta = case["theta"].as_f64().expect("theta") as f32;
        let rope = RopeSpec { theta, dims, pairing: RopePairing::Halves, scaling: scaling(case) };
        let (found, factor) = frequencies(&rope);
        let expected = case["frequencies"].as_array().expect("frequencies");
        assert_eq!((found.len(), expected.len()), (dims / 2, dims / 2), "{name}");
        for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
            let expected = expected.as_f64().expect("a number");
            let error = (f64::from(*found) - expected).abs() / expected;
            assert!(error < ERROR_MAX, "{name}, pair {i}: {found:e}, not {expected:e}");
        }
        let expected = case["attention_factor"].as_f64().expect("a number");
        assert!((f64::from(factor) - expected).abs() < 1e-6, "{name}: {factor}, not {expected}");
    }
}

#[test]
fn a_factor_of_one_changes_nothing() {
    let plain = RopeSpec { theta: 1e6, dims: 128, pairing: RopePairing::Halves, scaling: RopeScaling::None };
    let llama3 = RopeScaling::Llama3 {
        factor: 1.0,
        original_context: 8192,
        low_frequency_factor: 1.0,
        high_frequency_factor: 4.0,
    };
    for scaling in [RopeScaling::Linear { factor: 1.0 }, RopeScaling::yarn(1.0, 4096), llama3] {
        let (found, factor) = frequencies(&RopeSpec { scaling, ..plain.clone() });
        let (expected, _) = frequencies(&plain);
        assert_eq!(factor, 1.0);
        let apart = found.iter().zip(&expected).map(|(a, b)| (a - b).abs() / b).fold(0.0, f32::max);
        assert!(apart < 1e-6, "{apart}");
    }
}
