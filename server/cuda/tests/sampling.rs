//! What the device draws is what the shared sampler draws, bit for bit, on the driver that is none.

mod support;

use quarry_cuda::CudaBackend;
use quarry_model::request::SamplingParams;
use quarry_model::sampler::{SampleRow, Sampled, Scratch, sample};

/// Splitmix64 (Steele et al. 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// In [0, 1).
    fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 24) as f32
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    fn tokens(&mut self, most: usize, vocab: usize) -> Vec<u32> {
        // Now and then outside the vocabulary.
        (0..self.below(most + 1)).map(|_| self.below(vocab + 2) as u32).collect()
    }

    fn logits(&mut self, vocab: usize) -> Vec<f32> {
        let kind = self.below(10);
        let width = self.pick(&[0.01, 1.0, 4.0, 12.0, 200.0]);
        let odd = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN, 0.0, -0.0, 1e-40];
        let mut number = || (0..6).map(|_| self.unit() - 0.5).sum::<f32>() * width;
        match kind {
            0 => (0..vocab).map(|_| number().round()).collect(),
            1 => vec![number(); vocab],
            2 => (0..vocab).map(|_| if self.one_in(3) { self.pick(&odd) } else { self.unit() }).collect(),
            3 => (0..vocab).map(|_| self.pick(&odd)).collect(),
            4 => vec![self.pick(&[f32::NAN, f32::NEG_INFINITY, f32::INFINITY]); vocab],
            5 => (0..vocab).map(|_| self.pick(&[0.0, -0.0, f32::NEG_INFINITY])).collect(),
            _ => (0..vocab).map(|_| number()).collect(),
        }
    }

    fn mask(&mut self, vocab: usize) -> Option<Vec<u32>> {
        let words = vocab.div_ceil(32);
        match self.below(8) {
            0 => Some(vec![0; words]),
            1 => Some((0..self.below(words + 3)).map(|_| self.next() as u32).collect()),
            2 => Some((0..words).map(|_| self.next() as u32).collect()),
            3 => Some((0..words).map(|_| if self.one_in(20) { 1 << self.below(32) } else { 0 }).collect()),
            _ => None,
        }
    }

    fn params(&mut self, vocab: usize) -> SamplingParams {
        let mut params = SamplingParams {
            temperature: self.pick(&[0.0, 0.0, 0.01, 0.3, 0.7, 1.0, 1.0, 2.0]),
            top_k: self.pick(&[0, 0, 0, 1, 5, 40, 300, vocab as u32, u32::MAX]),
            top_p: self.pick(&[1.0, 1.0, 1e-6, 0.5, 0.9, 0.95, 0.999, 0.999_999_94]),
            min_p: self.pick(&[0.0, 0.0, 0.05, 0.5, 1.0]),
            seed: self.next(),
            ..SamplingParams::default()
        };
        if self.one_in(3) {
            params.repetition_penalty = self.pick(&[0.5, 1.1, 1.3, 10.0]);
        }
        if self.one_in(3) {
            params.presence_penalty = self.pick(&[-2.0, 0.1, 0.5, 2.0]);
            params.frequency_penalty = self.pick(&[-0.7, 0.0, 0.3]);
        }
        if self.one_in(3) {
            let tokens = self.tokens(30, vocab);
            params.logit_bias =
                tokens.iter().map(|&token| (token, self.pick(&[-100.0, -1.0, 0.1, 3.0, 100.0]))).collect();
        }
        params
    }
}

/// A row of everything that a draw depends on.
#[derive(Debug)]
struct Case {
    params: SamplingParams,
    prompt: Vec<u32>,
    output: Vec<u32>,
    mask: Option<Vec<u32>>,
    forbidden: Vec<u32>,
    logprobs: bool,
}

impl Case {
    fn random(random: &mut Random, vocab: usize) -> Self {
        let forbidden = if random.one_in(4) { random.tokens(vocab.min(20), vocab) } else { Vec::new() };
        Self {
            params: random.params(vocab),
            prompt: random.tokens(100, vocab),
            output: random.tokens(40, vocab.min(60)),
            mask: random.mask(vocab),
            forbidden,
            logprobs: random.one_in(3),
        }
    }

    fn of(params: SamplingParams) -> Self {
        let (prompt, output, forbidden) = (vec![1, 2, 3], vec![4, 4, 5], Vec::new());
        Self { params, prompt, output, mask: None, forbidden, logprobs: true }
    }

    fn row(&self) -> SampleRow<'_> {
        SampleRow {
            params: &self.params,
            prompt: &self.prompt,
            output: &self.output,
            mask: self.mask.as_deref(),
            forbidden: &self.forbidden,
            logprobs: self.logprobs,
        }
    }
}

/// Draws all cases at once and compares; gives how many rows the host drew.
fn check(device: &CudaBackend, vocab: usize, logits: &[Vec<f32>], cases: &[Case]) -> usize {
    let rows: Vec<SampleRow<'_>> = cases.iter().map(Case::row).collect();
    let (drawn, host_rows) = device.draw(&logits.concat(), vocab, &rows).expect("the device draws");
    assert_eq!(drawn.len(), rows.len());
    let mut scratch = Scratch::default();
    for ((row, logits), drawn) in rows.iter().zip(logits).zip(drawn) {
        let expected = sample(&mut logits.clone(), row, &mut scratch);
        let bits = |s: Sampled| (s.token, s.logprob.map(f32::to_bits));
        assert_eq!(
            bits(drawn),
            bits(expected),
            "vocabulary {vocab}, {row:?}, {:?}",
            &logits[..vocab.min(64)]
        );
    }
    host_rows
}

#[test]
fn random_rows_are_drawn_as_the_host_draws_them() {
    let device = support::backend();
    let mut random = Random(1);
    let (mut rows, mut host_rows) = (0, 0);
    for round in 0..1500 {
        let most = [3, 40, 300, 1500, 5000][round % 5];
        let vocab = 1 + random.below(most);
        let count = 1 + random.below(4);
        let logits: Vec<Vec<f32>> = (0..count).map(|_| random.logits(vocab)).collect();
        let cases: Vec<Case> = (0..count).map(|_| Case::random(&mut random, vocab)).collect();
        rows += count;
        host_rows += check(&device, vocab, &logits, &cases);
    }
    assert!(rows > 3000 && host_rows < rows / 20, "the host drew {host_rows} of {rows}");
}

#[test]
fn a_large_vocabulary_is_drawn_from_as_the_host_draws() {
    let device = support::backend();
    let mut random = Random(2);
    let vocab = 152_000;
    let mut cases = Vec::new();
    for temperature in [0.0, 0.8, 1.5] {
        for (top_k, top_p, min_p) in
            [(0, 1.0, 0.0), (0, 1.0, 0.01), (0, 0.9, 0.0), (50, 1.0, 0.0), (40, 0.95, 0.05)]
        {
            let seed = random.next();
            let params =
                SamplingParams { temperature, top_k, top_p, min_p, seed, ..SamplingParams::default() };
            cases.push(Case { mask: random.mask(vocab), ..Case::of(params) });
        }
    }
    let width = |n: usize| [6.0, 12.0, 20.0][n % 3];
    let logits: Vec<Vec<f32>> = (0..cases.len())
        .map(|n| (0..vocab).map(|_| (0..6).map(|_| random.unit() - 0.5).sum::<f32>() * width(n)).collect())
        .collect();
    let host_rows = check(&device, vocab, &logits, &cases);
    assert!(host_rows <= 3, "the host drew {host_rows} of {}", cases.len());
}

/// Nothing of a row's changes is left in logits that the host draws from.
#[test]
fn what_does_not_fit_is_drawn_by_the_host() {
    let device = support::backend();
    let mut random = Random(3);
    let vocab = 5000;
    let flat: Vec<f32> = (0..vocab).map(|_| random.unit() * 0.01).collect();
    let penalties = SamplingParams {
        repetition_penalty: 1.2,
        presence_penalty: 0.5,
        logit_bias: vec![(1, 5.0), (9, -3.0), (1, 0.25)],
        ..SamplingParams::default()
    };
    let too_many_candidates = SamplingParams { top_p: 0.99, ..penalties.clone() };
    let too_large_top_k = SamplingParams { top_k: 4500, ..penalties.clone() };
    let too_many_changes =
        SamplingParams { logit_bias: (0..60_000).map(|n| (n % 4000, 0.1)).collect(), ..penalties.clone() };
    let strange_temperature = SamplingParams { temperature: f32::INFINITY, ..penalties.clone() };
    let fits = SamplingParams { temperature: 0.0, ..penalties };
    let all = [too_many_candidates, fits, too_large_top_k, too_many_changes, strange_temperature];
    let cases = all.map(Case::of);
    assert_eq!(check(&device, vocab, &vec![flat; cases.len()], &cases), 4);
    // Weights are summed for 262,144 tokens at most; the largest is found among any number.
    let vocab = 262_145;
    let logits: Vec<f32> = (0..vocab).map(|_| random.unit()).collect();
    let draws = [0.0, 1.0].map(|temperature| SamplingParams { temperature, ..SamplingParams::default() });
    let cases = draws.map(|params| Case { logprobs: false, ..Case::of(params) });
    assert_eq!(check(&device, vocab, &vec![logits; cases.len()], &cases), 1);
}

/// min-p at a weight, and a few bits beside it: whether all tokens but the first may be drawn hangs on its last bit.
#[test]
fn weights_are_the_hosts_to_the_last_bit() {
    let device = support::backend();
    let mut random = Random(4);
    let vocab = 600;
    for _ in 0..40 {
        let (mut logits, mut cases) = (Vec::new(), Vec::new());
        for _ in 0..40 {
            let x = 3.0 * random.unit();
            let mut params = random.params(vocab);
            params.temperature = random.pick(&[0.7, 1.0, 1.3]);
            let weight = (-f64::from(x) / f64::from(params.temperature)).exp() as f32;
            params.min_p = f32::from_bits(weight.to_bits() + 2 - random.below(5) as u32).min(1.0);
            (params.top_p, params.top_k) = random.pick(&[(1.0, 0), (1.0, 599), (0.999, 0)]);
            (params.repetition_penalty, params.presence_penalty, params.frequency_penalty) = (1.0, 0.0, 0.0);
            params.logit_bias.clear();
            logits.push((0..vocab).map(|t| if t == 0 { 0.0 } else { -x }).collect::<Vec<f32>>());
            cases.push(Case::of(params));
        }
        assert_eq!(check(&device, vocab, &logits, &cases), 0);
    }
}

/// The first and the last sliver of all that may be drawn, where rounding leaves more or less than there is.
#[test]
fn the_ends_of_a_draw_are_the_hosts() {
    let device = support::backend();
    let mut random = Random(5);
    // With no output so far, their uniform numbers are within 1e-8 of 0 or 1.
    let seeds = [584_198_681, 744_067_034, 1_298_955_803, 477_644_333, 642_411_535, 1_403_766_156];
    for round in 0..100 {
        let vocab = 1 + random.below([20, 300, 2000][round % 3]);
        let (mut logits, mut cases) = (Vec::new(), Vec::new());
        for seed in seeds {
            let mut params = SamplingParams { seed, ..SamplingParams::default() };
            (params.top_p, params.top_k) = random.pick(&[(1.0, 0), (1.0, 0), (0.9, 0), (1.0, 30)]);
            let mut row: Vec<f32> = (0..vocab).map(|_| random.unit()).collect();
            // Nothing of the ends may be drawn.
            let (first, last) = (random.below(vocab), random.below(vocab));
            row[..first.min(last)].fill(f32::NEG_INFINITY);
            row[first.max(last) + 1..].fill(-100.0);
            logits.push(row);
            cases.push(Case { output: Vec::new(), ..Case::of(params) });
        }
        assert_eq!(check(&device, vocab, &logits, &cases), 0);
    }
}
