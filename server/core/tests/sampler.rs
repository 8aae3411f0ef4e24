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

    fn row(&self) -> SampleRow<'_> {
        let Self { params, prompt, output, mask, forbidden } = self;
        SampleRow { params, prompt, output, mask: *mask, forbidden, logprobs: false }
    }

    fn draw(&self, logits: &[f32]) -> TokenId {
        let drawn = sample(&mut logits.to_vec(), &self.row(), &mut Scratch::default());
        assert_eq!(drawn.logprob, None, "not asked for");
        drawn.token
    }

    /// With the log-probability and memory that another draw has used, neither of which may change the token.
    fn draw_with_logprob(&self, logits: &[f32]) -> (TokenId, f32) {
        let mut scratch = Scratch::default();
        let unmasked = SampleRow { mask: None, ..self.row() };
        sample(&mut logits.to_vec(), &unmasked, &mut scratch);
        let row = SampleRow { logprobs: true, ..self.row() };
        let Sampled { token, logprob } = sample(&mut logits.to_vec(), &row, &mut scratch);
        assert_eq!(token, self.draw(logits));
        (token, logprob.expect("asked for"))
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
            counts[Case { params, ..*self }.draw(logits) as usize] += 1;
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
        Case { output, ..Case::new(params) }.draw(&logits)
    };
    let by_position: Vec<TokenId> = (0..40).map(|n| at(1, &vec![0; n])).collect();
    assert_eq!(by_position, (0..40).map(|n| at(1, &vec![7; n])).collect::<Vec<_>>());
    assert_ne!(by_position, (0..40).map(|n| at(2, &vec![0; n])).collect::<Vec<_>>());
    assert!(by_position.iter().any(|token| *token != by_position[0]), "positions differ");
}

#[test]
fn greedy_takes_the_lowest_of_equals() {
    let greedy = SamplingParams { temperature: 0.0, ..SamplingParams::default() };
    assert_eq!(Case::new(greedy.clone()).draw(&[1.0, 3.0, 3.0, 2.0]), 1);
    assert_eq!(Case { forbidden: &[1], ..Case::new(greedy) }.draw(&[1.0, 3.0, 3.0, 2.0]), 2);
}

#[test]
fn ties_at_the_edge_go_to_the_lowest_ids() {
    let logits = [1.0, 2.0, 2.0, 2.0, 2.0, 0.0];
    for seed in 0..200 {
        let top_k = SamplingParams { top_k: 2, seed, ..SamplingParams::default() };
        assert!([1, 2].contains(&Case::new(top_k).draw(&logits)));
        let top_p = SamplingParams { top_p: 0.2, seed, ..SamplingParams::default() };
        assert_eq!(Case::new(top_p).draw(&logits), 1);
    }
}

#[test]
fn logprob_is_of_the_raw_logits() {
    let logits = [0.0f32, 1.0, 2.0];
    let sum: f64 = logits.iter().map(|x| f64::from(*x).exp()).sum();
    let params =
        SamplingParams { temperature: 0.0, logit_bias: vec![(0, 50.0)], ..SamplingParams::default() };
    let (token, logprob) = Case::new(params).draw_with_logprob(&logits);
    assert_eq!(token, 0);
    assert!((f64::from(logprob) + sum.ln()).abs() < 1e-5);
}

#[test]
fn odd_logits_and_empty_masks_have_an_answer() {
    let odd = [f32::NAN, f32::NEG_INFINITY, f32::INFINITY, 0.0, -0.0, f32::MAX, f32::MIN, 1e-40];
    for temperature in [0.0, 1e-30, 1.0, 2.0] {
        for (top_k, top_p, min_p) in [(0, 1.0, 0.0), (3, 0.5, 0.0), (0, 1e-20, 1.0), (0, 0.99, 0.5)] {
            let params = SamplingParams { temperature, top_k, top_p, min_p, ..SamplingParams::default() };
            let case = Case::new(params);
            let (token, logprob) = case.draw_with_logprob(&odd);
            assert!(token == 2 || token == 5, "plus infinity counts as the largest number");
            assert!(!logprob.is_nan());
            assert_eq!(case.draw_with_logprob(&[f32::NAN; 4]), (0, f32::NEG_INFINITY));
            assert_eq!(case.draw_with_logprob(&[]), (0, f32::NEG_INFINITY));
            assert_eq!(Case { mask: Some(&[0]), ..case.clone() }.draw(&odd), 0);
            assert_eq!(Case { mask: Some(&[]), ..case.clone() }.draw(&odd), 0);
            assert_eq!(Case { mask: Some(&[0b1000]), forbidden: &[3], ..case.clone() }.draw(&odd), 3);
            assert_eq!(Case { mask: Some(&[0b11]), ..case.clone() }.draw(&odd), 0);
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

/// Logits with many ties and everything that is no ordinary number.
fn odd_logits() -> impl Strategy<Value = Vec<f32>> {
    const ODD: [f32; 7] = [f32::NAN, f32::INFINITY, f32::MAX, f32::NEG_INFINITY, f32::MIN, -0.0, 1e-40];
    // Lengths around words, and around chunks.
    fn many(of: impl Strategy<Value = f32> + Clone) -> impl Strategy<Value = Vec<f32>> {
        prop_oneof![proptest::collection::vec(of.clone(), 1..70), proptest::collection::vec(of, 240..530)]
    }
    let tied = (-6..6i8).prop_map(f32::from);
    let odd = proptest::sample::select(&ODD[..]);
    let hopeless = proptest::sample::select(&[f32::NAN, f32::NEG_INFINITY][..]);
    prop_oneof![
        many(tied.clone()),
        many(prop_oneof![40 => tied, 1 => odd.clone()]),
        many(odd),
        many(prop_oneof![60 => hopeless, 1 => Just(1.0)]),
    ]
}

/// Masks of whole, empty and mixed words, shorter and longer than the logits.
fn mask() -> impl Strategy<Value = Option<Vec<u32>>> {
    let word = prop_oneof![4 => Just(0), 2 => Just(u32::MAX), 1 => any::<u32>(), 1 => Just(1 << 31)];
    proptest::option::of(proptest::collection::vec(word, 0..20))
}

/// The documented order in plain passes over all: clean, adjust, forbid, mask.
fn plainly_adjusted(case: &Case<'_>, logits: &[f32]) -> Vec<f32> {
    let p = &case.params;
    let allowed = |t: usize| {
        case.mask.is_none_or(|mask| mask.get(t / 32).is_some_and(|word| word & (1 << (t % 32)) != 0))
    };
    let mut all: Vec<f32> =
        logits.iter().map(|x| if x.is_nan() { f32::NEG_INFINITY } else { x.min(f32::MAX) }).collect();
    for (t, x) in all.iter_mut().enumerate() {
        let times = case.output.iter().filter(|o| **o as usize == t).count();
        for (_, bias) in p.logit_bias.iter().filter(|(b, _)| *b as usize == t) {
            *x = (*x + bias).min(f32::MAX);
        }
        if p.repetition_penalty != 1.0 && (times > 0 || case.prompt.contains(&(t as TokenId))) {
            *x = if *x > 0.0 { *x / p.repetition_penalty } else { *x * p.repetition_penalty }.min(f32::MAX);
        }
        if times > 0 && (p.presence_penalty != 0.0 || p.frequency_penalty != 0.0) {
            *x = (*x - (p.presence_penalty + p.frequency_penalty * times as f32)).min(f32::MAX);
        }
        if !allowed(t) || case.forbidden.contains(&(t as TokenId)) {
            *x = f32::NEG_INFINITY;
        }
    }
    all
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
        prop_assert!(case.may(drawn as usize));
        // Rounding may move an edge by one token: the twin with edges a hair wider must allow the draw.
        let wider = SamplingParams {
            top_p: (case.params.top_p * (1.0 + 1e-5)).min(1.0),
            min_p: case.params.min_p * (1.0 - 1e-5),
            ..case.params.clone()
        };
        let wide = Case { params: wider, ..case }.distribution(&logits);
        let adjusted = case.adjusted(&logits);
        let near = |t: usize| wide[t] > 0.0 && (adjusted[t] - adjusted[drawn as usize]).abs() < 1e-4;
        prop_assert!(wide[drawn as usize] > 0.0 || (0..logits.len()).any(near));

        let greedy = SamplingParams { temperature: 0.0, ..case.params.clone() };
        let best = Case { params: greedy, ..case }.draw(&logits) as usize;
        prop_assert!(adjusted.iter().all(|x| *x <= adjusted[best] + 1e-4));
    }
    #[test]
    fn quick_passes_equal_plain_ones(
        params in params(),
        plain in any::<bool>(),
        logits in odd_logits(),
        prompt in proptest::collection::vec(0..530u32, 0..5),
        output in proptest::collection::vec(0..530u32, 0..5),
        mask in mask(),
        forbidden in proptest::collection::vec(0..530u32, 0..3),
    ) {
        let params = if plain { SamplingParams { seed: params.seed, ..SamplingParams::default() } } else { params };
        let hot = Case { params, prompt: &prompt, output: &output, mask: mask.as_deref(), forbidden: &forbidden };
        let greedy = SamplingParams { temperature: 0.0, ..hot.params.clone() };
        let greedy = Case { params: greedy, ..hot };
        let adjusted = plainly_adjusted(&hot, &logits);
        let max = adjusted.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        if max == f32::NEG_INFINITY {
            let bits = |mask: &[u32]| {
                (0..logits.len()).find(|t| mask.get(t / 32).is_some_and(|word| word & (1 << (t % 32)) != 0))
            };
            let lowest = mask.as_deref().and_then(bits).unwrap_or(0) as TokenId;
            prop_assert_eq!(greedy.draw_with_logprob(&logits).0, lowest);
            prop_assert_eq!(hot.draw_with_logprob(&logits).0, lowest);
        } else {
            let first = adjusted.iter().position(|x| *x == max).expect("it is one of them") as TokenId;
            prop_assert_eq!(greedy.draw_with_logprob(&logits).0, first);
            // A draw from logits that are already adjusted, nothing masked: the same weights in the same places.
            let neutral = SamplingParams {
                repetition_penalty: 1.0,
                presence_penalty: 0.0,
                frequency_penalty: 0.0,
                logit_bias: Vec::new(),
                ..hot.params.clone()
            };
            let ready = Case { params: neutral, prompt: &[], output: &output, mask: None, forbidden: &[] };
            prop_assert_eq!(hot.draw_with_logprob(&logits).0, ready.draw(&adjusted));
        }
    }
}
