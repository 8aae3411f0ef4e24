//! Seeded numbers: the same benchmark asks the same of everybody, today and later.
//!
//! SplitMix64 (Steele et al. 2014): a counter and a finaliser, quick enough to make gigabytes of weights.

/// A stream of numbers.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The stream of a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// In `0.0..1.0`.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// In `0..below`, which is small beside 2^32: the bias is not worth a loop.
    pub fn below(&mut self, below: usize) -> usize {
        ((u128::from(self.bits()) * below as u128) >> 64) as usize
    }

    /// Of mean 0 and deviation 1 (Box and Muller).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (2.0 * std::f64::consts::PI * self.unit()).cos()
    }

    /// Of mean 1, exponential: the pause between two arrivals that know nothing of each other.
    pub fn exponential(&mut self) -> f64 {
        -(1.0 - self.unit()).ln()
    }

    /// `count` token ids below `vocab`.
    pub fn tokens(&mut self, vocab: usize, count: usize) -> Vec<u32> {
        (0..count).map(|_| self.below(vocab) as u32).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::Random;

    #[test]
    fn the_distributions_are_what_they_say() {
        let mut random = Random::new(7);
        let count = 20_000;
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        let normal: Vec<f64> = (0..count).map(|_| random.normal()).collect();
        let squares: Vec<f64> = normal.iter().map(|x| x * x).collect();
        assert!(mean(&normal).abs() < 0.03 && (mean(&squares) - 1.0).abs() < 0.05);
        let pauses: Vec<f64> = (0..count).map(|_| random.exponential()).collect();
        assert!((mean(&pauses) - 1.0).abs() < 0.05 && pauses.iter().all(|&p| p >= 0.0));
        let tokens = random.tokens(10, count);
        assert!((0..10).all(|token| tokens.contains(&token)) && tokens.iter().all(|&token| token < 10));
        assert_eq!(Random::new(7).tokens(1000, 9), Random::new(7).tokens(1000, 9));
    }
}
