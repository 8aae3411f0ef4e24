//! Norm, SiLU and rotation beside f64, and the same bits on every set that fuses.

use super::{Random, assert_close, assert_same_bits, fused, kernels};
use crate::activations::Activations;
use crate::isa::Kernels;
use crate::packing::GROUP;

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
fn silu_quantized() {
    let (rows, groups, first) = (5, 3, 2);
    let mut random = Random(12);
    let mut gate: Vec<f32> = random.units(rows * GROUP).iter().map(|x| x * 20.0).collect();
    gate[..6].copy_from_slice(&[0.0, -0.0, 100.0, -100.0, 1e-30, -87.5]);
    gate[GROUP..2 * GROUP].fill(0.0);
    let up = random.units(rows * GROUP);
    let exact: Vec<f32> = gate
        .iter()
        .zip(&up)
        .map(|(g, u)| (f64::from(*g) / (1.0 + (-f64::from(*g)).exp()) * f64::from(*u)) as f32)
        .collect();
    let run = |kernels: &Kernels| {
        let mut out = Activations::default();
        out.reset(first + rows, groups * GROUP);
        // SAFETY: the table exists, so its instructions do; `out` is this thread's.
        unsafe { (kernels.silu_quantize)(&gate, &up, &out.shares(), first, 1) };
        out
    };
    for kernels in kernels() {
        let out = run(&kernels);
        for (m, exact) in exact.chunks(GROUP).enumerate() {
            let at = (first + m) * groups + 1;
            let largest = exact.iter().fold(0f32, |max, x| max.max(x.abs()));
            assert_close("scale", &[out.scales[at]], &[largest / 127.0], 1e-6);
            let q = &out.q[at * GROUP..][..GROUP];
            for (q, exact) in q.iter().zip(exact) {
                let back = out.scales[at] * f32::from(*q);
                assert!((back - exact).abs() <= out.scales[at] * 0.5001, "{exact} came back as {back}");
            }
            let sums =
                [&q[..GROUP / 2], &q[GROUP / 2..]].map(|q| -q.iter().map(|q| i32::from(*q)).sum::<i32>());
            assert_eq!(out.minus_half_sums[2 * at..2 * at + 2], sums);
            assert_eq!(out.minus_sums[at], sums[0] + sums[1]);
            assert_eq!(out.scaled_sums[at], out.scales[at] * out.minus_sums[at] as f32);
        }
        let others =
            out.q.chunks(GROUP).enumerate().filter(|(at, _)| at % groups != 1 || at / groups < first);
        assert!(others.flat_map(|(_, q)| q).all(|q| *q == 0), "other groups are untouched");
    }
    for pair in fused().windows(2) {
        let (a, b) = (run(&pair[0]), run(&pair[1]));
        assert_eq!(a.q, b.q);
        assert_same_bits("scales", &a.scales, &b.scales);
        assert_same_bits("scaled sums", &a.scaled_sums, &b.scaled_sums);
    }
}

#[test]
fn rows_are_stored_and_added_where_they_belong() {
    let mut random = Random(15);
    let (rows, stride) = (7, GROUP + 9);
    let values = random.units(rows * GROUP);
    let before = random.units(rows * stride);
    for kernels in kernels() {
        for is_added in [false, true] {
            let mut found = before.clone();
            let kernel = if is_added { kernels.add_rows } else { kernels.store_rows };
            // SAFETY: the table exists, so its instructions do; every row has 32 values from the fourth.
            unsafe { kernel(&values, found.as_mut_ptr().add(4), stride) };
            let mut expected = before.clone();
            for (row, values) in expected.chunks_mut(stride).zip(values.chunks(GROUP)) {
                for (to, value) in row[4..].iter_mut().zip(values) {
                    *to = if is_added { *to + value } else { *value };
                }
            }
            assert_same_bits(kernels.isa().name(), &found, &expected);
        }
    }
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
