//! The sampler beside a naive twin in f64: sort everything, then cut, then count.

use proptest::prelude::*;
use quarry_core::ids::TokenId;
use quarry_core::request::SamplingParams;
use quarry_core::sampler::{SampleRow, Sampled, Scratch, sample};

#[derive(Clone)]
struct Case<'a> {
    params: SamplingParams,
    prompt: &'a [TokenId],
    output: &'a [TokenId],
    mask: Option<&'a [u32]>,
    forbidden: &'a [TokenId],
}

impl Case<'_> {
    fn new(params: SamplingParams) -> Self {
        Self { params, prompt: &[], output: &[], mask: None, forbidden: &[] }
    }

    fn draw(&self, logits: &[f32]) -> Sampled {
        let Self { params, prompt, output, mask, forbidden } = self;
        let row = SampleRow { params, prompt, output, mask: *mask, forbidden };
        sample(&mut logits.to_vec(), &row, &mut Scratch::default())
    }

    fn may(&self, token: usize) -> bool {
        let masked = self.mask.is_some_and(|mask| mask[token / 32] >> (token % 32) & 1 == 0);
        !masked && !self.forbidden.contains(&(token as TokenId))
    }

    /// Logits after bias, penalties, forbidden and mask.
    fn adjusted(&self, logits: &[f32]) -> Vec<f64> {
        let p = &self.params;
        let count = |of: &[TokenId], token: usize| of.iter().filter(|t| **t as usize == token).count() as f64;
        let adjust = |(token, &logit): (usize, &f32)| {
            let bias = p.logit_bias.iter().filter(|(t, _)| *t as usize == token).map(|(_, b)| f64::from(*b));
            let mut x = f64::from(logit) + bias.sum::<f64>();
            if count(self.prompt, token) + count(self.output, token) > 0.0 {
                let penalty = f64::from(p.repetition_penalty);
                x = if x > 0.0 { x / penalty } else { x * penalty };
            }
            let times = count(self.output, token);
            if times > 0.0 {
                x -= f64::from(p.presence_penalty) + times * f64::from(p.frequency_penalty);
            }
            if self.may(token) { x } else { f64::NEG_INFINITY }
        };
        logits.iter().enumerate().map(adjust).collect()
    }

    /// Every token's probability.
    fn distribution(&self, logits: &[f32]) -> Vec<f64> {
        let p = &self.params;
        let adjusted = self.adjusted(logits);
        let mut order: Vec<usize> = (0..logits.len()).collect();
        order.sort_by(|&a, &b| adjusted[b].total_cmp(&adjusted[a]).then(a.cmp(&b)));
        let max = adjusted[order[0]];
        let mut kept: Vec<(usize, f64)> =
            order.iter().map(|&t| (t, ((adjusted[t] - max) / f64::from(p.temperature)).exp())).collect();
        if p.top_k > 0 {
            kept.truncate(p.top_k as usize);
        }
        let total: f64 = kept.iter().map(|k| k.1).sum();
        let mut sum = 0.0;
        let nucleus = kept.iter().position(|k| {
            sum += k.1;
            sum >= f64::from(p.top_p) * total
        });
        if p.top_p < 1.0 {
            kept.truncate(nucleus.unwrap() + 1);
        }
        kept.retain(|k| k.1 >= f64::from(p.min_p));
        let total: f64 = kept.iter().map(|k| k.1).sum();
        let mut all = vec![0.0; logits.len()];
        kept.iter().for_each(|&(token, weight)| all[token] = weight / total);
        all
    }

    /// Draws by many seeds; the counts stay within five standard deviations of the naive distribution.
    fn check_distribution(&self, logits: &[f32], what: &str) {
        const DRAWS: u64 = 40_000;
        let expected = self.distribution(logits);
        let mut counts = vec![0u64; logits.len()];
        for seed in 0..DRAWS {
            let params = SamplingParams { seed, ..self.params.clone() };
            counts[Case { params, ..*self }.draw(logits).token as usize] += 1;
        }
        for (token, (&count, &p)) in counts.iter().zip(&expected).enumerate() {
            let mean = p * DRAWS as f64;
            let bound = 5.0 * (mean * (1.0 - p)).sqrt() + if p > 0.0 { 1.0 } else { 0.0 };
            assert!((count as f64 - mean).abs() <= bound, "{what}: token {token}: {count}, expected {mean}");
        }
    }
}

/// Distinct, spread values.
fn spread(count: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 37 % count) as f32 - count as f32 / 2.0) * 4.0 / count as f32).collect()
}

#[test]
fn draws_follow_the_naive_distribution() {
    let base = SamplingParams::default();
    let params = [
        ("plain", base.clone()),
        ("hot", SamplingParams { temperature: 2.0, ..base.clone() }),
        ("cold", SamplingParams { temperature: 0.3, ..base.clone() }),
        ("top-k", SamplingParams { top_k: 5, ..base.clone() }),
        ("top-p", SamplingParams { top_p: 0.6, ..base.clone() }),
        ("min-p", SamplingParams { min_p: 0.2, ..base.clone() }),
        ("top-k and top-p", SamplingParams { top_k: 9, top_p: 0.7, ..base.clone() }),
        ("top-p and min-p", SamplingParams { top_p: 0.9, min_p: 0.15, ..base.clone() }),
        ("all", SamplingParams { temperature: 0.8, top_k: 12, top_p: 0.9, min_p: 0.05, ..base.clone() }),
        (
            "penalties",
            SamplingParams {
                repetition_penalty: 1.3,
                presence_penalty: 0.5,
                frequency_penalty: -0.4,
                logit_bias: vec![(3, 1.5), (4, -2.0), (3, 0.25)],
                ..base
            },
        ),
    ];
    let logits = spread(24);
    let mask = [0x00f7_7fff];
    for (name, params) in params {
        let output = &[1, 2, 2, 9, 23][..];
        let plain = Case { prompt: &[3, 7, 7], output, ..Case::new(params) };
        plain.check_distribution(&logits, name);
        let masked = Case { mask: Some(&mask), forbidden: &[0, 5], ..plain };
        masked.check_distribution(&logits, &format!("{name}, masked"));
    }
}

#[test]
fn a_vocabulary_of_many_chunks_is_drawn_from_evenly() {
    // More than one chunk of weights, all equal: every id is as likely, also the last.
    let logits = vec![0.5; 600];
    Case::new(SamplingParams::default()).check_distribution(&logits, "flat");
    Case::new(SamplingParams { top_p: 0.999, ..SamplingParams::default() })
        .check_distribution(&logits, "flat p");
}

#[test]
fn a_draw_depends_on_seed_and_position_alone() {
    let logits = spread(50);
    let at = |seed, output: &[TokenId]| {
        let params = SamplingParams { seed, temperature: 2.0, ..SamplingParams::default() };
        Case { output, ..Case::new(params) }.draw(&logits).token
    };
    let by_position: Vec<TokenId> = (0..40).map(|n| at(1, &vec![0; n])).collect();
    assert_eq!(by_position, (0..40).map(|n| at(1, &vec![7; n])).collect::<Vec<_>>());
    assert_ne!(by_position, (0..40).map(|n| at(2, &vec![0; n])).collect::<Vec<_>>());
    assert!(by_position.iter().any(|token| *token != by_position[0]), "positions differ");
}

#[test]
fn greedy_takes_the_lowest_of_equals() {
    let greedy = SamplingParams { temperature: 0.0, ..SamplingParams::default() };
    assert_eq!(Case::new(greedy.clone()).draw(&[1.0, 3.0, 3.0, 2.0]).token, 1);
    assert_eq!(Case { forbidden: &[1], ..Case::new(greedy) }.draw(&[1.0, 3.0, 3.0, 2.0]).token, 2);
}

#[test]
fn ties_at_the_edge_go_to_the_lowest_ids() {
    let logits = [1.0, 2.0, 2.0, 2.0, 2.0, 0.0];
    for seed in 0..200 {
        let top_k = SamplingParams { top_k: 2, seed, ..SamplingParams::default() };
        assert!([1, 2].contains(&Case::new(top_k).draw(&logits).token));
        let top_p = SamplingParams { top_p: 0.2, seed, ..SamplingParams::default() };
        assert_eq!(Case::new(top_p).draw(&logits).token, 1);
    }
}

#[test]
fn logprob_is_of_the_raw_logits() {
    let logits = [0.0f32, 1.0, 2.0];
    let sum: f64 = logits.iter().map(|x| f64::from(*x).exp()).sum();
    let params =
        SamplingParams { temperature: 0.0, logit_bias: vec![(0, 50.0)], ..SamplingParams::default() };
    let drawn = Case::new(params).draw(&logits);
    assert_eq!(drawn.token, 0);
    assert!((f64::from(drawn.logprob) + sum.ln()).abs() < 1e-5);
}

#[test]
fn odd_logits_and_empty_masks_have_an_answer() {
    let odd = [f32::NAN, f32::NEG_INFINITY, f32::INFINITY, 0.0, -0.0, f32::MAX, f32::MIN, 1e-40];
    for temperature in [0.0, 1e-30, 1.0, 2.0] {
        for (top_k, top_p, min_p) in [(0, 1.0, 0.0), (3, 0.5, 0.0), (0, 1e-20, 1.0), (0, 0.99, 0.5)] {
            let params = SamplingParams { temperature, top_k, top_p, min_p, ..SamplingParams::default() };
            let drawn = Case::new(params.clone()).draw(&odd);
            assert!(drawn.token == 2 || drawn.token == 5, "plus infinity counts as the largest number");
            assert!(!drawn.logprob.is_nan());
            let case = Case::new(params);
            assert_eq!(case.draw(&[f32::NAN; 4]), Sampled { token: 0, logprob: f32::NEG_INFINITY });
            assert_eq!(case.draw(&[]).token, 0);
            assert_eq!(Case { mask: Some(&[0]), ..case.clone() }.draw(&odd).token, 0);
            assert_eq!(Case { mask: Some(&[]), ..case.clone() }.draw(&odd).token, 0);
            assert_eq!(Case { mask: Some(&[0b1000]), forbidden: &[3], ..case.clone() }.draw(&odd).token, 3);
            assert_eq!(Case { mask: Some(&[0b11]), ..case.clone() }.draw(&odd).token, 0);
        }
    }
}

fn params() -> impl Strategy<Value = SamplingParams> {
    let draw = (0.05..2.0f32, 0..40u32, 0.01..1.0f32, 0.0..1.0f32, any::<u64>());
    let penalties = (0.5..2.0f32, -2.0..2.0f32, -2.0..2.0f32);
    let bias = proptest::collection::vec((0..130u32, -5.0..5.0f32), 0..4);
    (draw, penalties, bias, 0..8u8).prop_map(|(draw, penalties, logit_bias, off)| {
        let (temperature, top_k, top_p, min_p, seed) = draw;
        let (repetition_penalty, presence_penalty, frequency_penalty) = penalties;
        SamplingParams {
            temperature,
            top_k: if off & 1 == 0 { top_k } else { 0 },
            top_p: if off & 2 == 0 { top_p } else { 1.0 },
            min_p: if off & 4 == 0 { min_p } else { 0.0 },
            repetition_penalty,
            presence_penalty,
            frequency_penalty,
            logit_bias,
            seed,
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn draws_only_what_the_twin_allows(
        params in params(),
        logits in proptest::collection::vec(-20.0..20.0f32, 1..120),
        prompt in proptest::collection::vec(0..130u32, 0..10),
        output in proptest::collection::vec(0..130u32, 0..10),
        mask in proptest::option::of(proptest::collection::vec(any::<u32>(), 4)),
        forbidden in proptest::collection::vec(0..130u32, 0..3),
    ) {
        let case = Case {
            params, prompt: &prompt, output: &output, mask: mask.as_deref(), forbidden: &forbidden,
        };
        prop_assume!((0..logits.len()).any(|token| case.may(token)));
        let drawn = case.draw(&logits);
        prop_assert!(case.may(drawn.token as usize));
        // Rounding may move an edge by one token: the twin with edges a hair wider must allow the draw.
        let wider = SamplingParams {
            top_p: (case.params.top_p * (1.0 + 1e-5)).min(1.0),
            min_p: case.params.min_p * (1.0 - 1e-5),
            ..case.params.clone()
        };
        let wide = Case { params: wider, ..case }.distribution(&logits);
        let adjusted = case.adjusted(&logits);
        let near = |t: usize| wide[t] > 0.0 && (adjusted[t] - adjusted[drawn.token as usize]).abs() < 1e-4;
        prop_assert!(wide[drawn.token as usize] > 0.0 || (0..logits.len()).any(near));

        let greedy = SamplingParams { temperature: 0.0, ..case.params.clone() };
        let best = Case { params: greedy, ..case }.draw(&logits).token as usize;
        prop_assert!(adjusted.iter().all(|x| *x <= adjusted[best] + 1e-4));
    }
}
