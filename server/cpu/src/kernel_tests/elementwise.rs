//! Norm, SiLU and rotation beside f64, and the same bits on every set that fuses.

use super::{Random, assert_close, assert_same_bits, fused, kernels};
use crate::isa::Kernels;

const LENGTHS: [usize; 7] = [1, 15, 16, 17, 64, 100, 896];

fn on_all(what: &str, expected: &[f32], bound: f32, run: impl Fn(&Kernels) -> Vec<f32>) {
    for kernels in kernels() {
        assert_close(&format!("{what} on {}", kernels.isa().name()), &run(&kernels), expected, bound);
    }
    for pair in fused().windows(2) {
        assert_same_bits(what, &run(&pair[0]), &run(&pair[1]));
    }
}

#[test]
fn norms() {
    let mut random = Random(11);
    for n in LENGTHS {
        let (x, weight) = (random.units(n), random.units(n));
        let mean = x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / n as f64;
        let scale = 1.0 / (mean + 1e-6).sqrt();
        let exact: Vec<f32> =
            x.iter().zip(&weight).map(|(x, w)| (f64::from(*x) * scale * f64::from(*w)) as f32).collect();
        on_all("norm", &exact, 1e-6, |kernels| {
            let mut out = vec![f32::NAN; n + 5];
            // SAFETY: the table exists, so its instructions do.
            unsafe { (kernels.norm)(&x, &weight, 1e-6, &mut out) };
            assert!(out[n..].iter().all(|x| *x == 0.0), "padding is zero");
            out.truncate(n);
            out
        });
    }
}

#[test]
fn silu() {
    let mut random = Random(12);
    let mut gate: Vec<f32> = random.units(96).iter().map(|x| x * 20.0).collect();
    gate[..6].copy_from_slice(&[0.0, -0.0, 100.0, -100.0, 1e-30, -87.5]);
    let up = random.units(96);
    let exact: Vec<f32> = gate
        .iter()
        .zip(&up)
        .map(|(g, u)| (f64::from(*g) / (1.0 + (-f64::from(*g)).exp()) * f64::from(*u)) as f32)
        .collect();
    on_all("silu", &exact, 1e-6, |kernels| {
        let mut out = vec![f32::NAN; 96];
        // SAFETY: the table exists, so its instructions do.
        unsafe { (kernels.silu)(&gate, &up, &mut out) };
        out
    });
}

#[test]
fn rotations() {
    let mut random = Random(13);
    for half in [4, 16, 20, 32, 64] {
        let head = random.units(2 * half);
        let angles = random.units(half);
        let (c, s): (Vec<f32>, Vec<f32>) = angles.iter().map(|a| (a.cos(), a.sin())).unzip();
        let exact: Vec<f32> = (0..2 * half)
            .map(|i| {
                let (a, b) = (f64::from(head[i % half]), f64::from(head[i % half + half]));
                let (c, s) = (f64::from(c[i % half]), f64::from(s[i % half]));
                (0.125 * if i < half { a * c - b * s } else { b * c + a * s }) as f32
            })
            .collect();
        on_all("rotation", &exact, 1e-6, |kernels| {
            let mut head = head.clone();
            // SAFETY: the table exists, so its instructions do.
            unsafe { (kernels.rotate)(&mut head, &c, &s, 0.125) };
            head
        });
    }
}
