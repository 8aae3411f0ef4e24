//! Queries, keys and values as integers: within half a step, within the bounds that exact sums need, on any input.

use super::{Random, kernels};
use crate::kernels::fixed_point::{VALUE_MAX, Word};

fn integers(words: &[Word]) -> Vec<i64> {
    words.iter().flat_map(|w| [i64::from(*w as i16), i64::from(w >> 16)]).collect()
}

/// Rows of odd lengths and sizes, some with what no model should give.
fn rows() -> Vec<Vec<f32>> {
    let mut random = Random(14);
    let mut rows = Vec::new();
    for (length, size) in [(64, 1.0), (128, 300.0), (80, 1e-4), (24, 1e20), (17, 3.0), (1, 5.0), (64, 1e-19)]
    {
        rows.push(random.units(length).iter().map(|x| x * size).collect());
    }
    let mut odd: Vec<f32> = random.units(21);
    odd[..4].copy_from_slice(&[1e9, f32::NEG_INFINITY, f32::NAN, 1e-9]);
    rows.extend([odd, vec![0.0; 64], vec![f32::NAN; 30], vec![4.5e-23; 40], vec![-8192.0; 33]]);
    let mut outlier = random.units(128);
    outlier[77] = 400.0;
    rows.push(outlier);
    rows
}

#[test]
fn by_norm_is_within_half_a_step_and_no_longer_than_a_sum_may_be() {
    for (kernels, x) in kernels().iter().flat_map(|k| rows().into_iter().map(move |x| (k, x))) {
        let mut words = vec![-1; x.len().div_ceil(2) + 3];
        let scale = kernels.by_norm(&x, &mut words);
        assert!(scale.is_finite() && scale >= 0.0);
        let q = integers(&words);
        assert!(q[x.len()..].iter().all(|q| *q == 0), "padding is zero");
        let squares: i64 = q.iter().map(|q| q * q).sum();
        assert!(
            squares < i64::from(i32::MAX),
            "{}: a product of two such may overflow",
            kernels.isa().name()
        );
        for (x, q) in x.iter().zip(&q).filter(|(x, _)| x.abs() < 1e15) {
            let error = (f64::from(*x) - *q as f64 * f64::from(scale)).abs();
            assert!(error <= f64::from(scale) * 0.51 || error < 1e-14, "{x} is {q} times {scale}");
        }
    }
}

#[test]
fn by_power_is_within_half_a_step_and_within_its_bound() {
    for (kernels, x) in kernels().iter().flat_map(|k| rows().into_iter().map(move |x| (k, x))) {
        let mut words = vec![-1; x.len().next_multiple_of(16) / 2];
        // SAFETY: the table exists, so its instructions do.
        let exponent = unsafe { (kernels.by_power)(&x, &mut words) };
        assert!(exponent == exponent.trunc() && exponent.abs() <= 60.0, "{exponent}");
        let step = f64::from(exponent).exp2();
        let q = integers(&words);
        assert!(q[x.len()..].iter().all(|q| *q == 0), "padding is zero");
        assert!(q.iter().all(|q| q.abs() <= i64::from(VALUE_MAX)), "{}", kernels.isa().name());
        let largest = x.iter().fold(0f64, |m, x| m.max(f64::from(x.abs()).min(1e15)));
        assert!(step * 4096.0 <= largest || exponent == -60.0, "bits are wasted");
        for (x, q) in x.iter().zip(&q).filter(|(x, _)| x.abs() < 1e15) {
            assert!((f64::from(*x) - *q as f64 * step).abs() <= step * 0.5, "{x} is {q} times {step}");
        }
    }
}

#[test]
fn all_sets_that_fuse_give_the_same_integers() {
    let all = super::fused();
    for x in rows() {
        let of = |k: &crate::isa::Kernels| {
            let mut words = [vec![0; x.len().div_ceil(2)], vec![0; x.len().next_multiple_of(16) / 2]];
            let scale = k.by_norm(&x, &mut words[0]);
            // SAFETY: the table exists, so its instructions do.
            let exponent = unsafe { (k.by_power)(&x, &mut words[1]) };
            (words, scale.to_bits(), exponent.to_bits())
        };
        for k in &all[1..] {
            assert_eq!(of(k), of(&all[0]), "{}", k.isa().name());
        }
    }
}
