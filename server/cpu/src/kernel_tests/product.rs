//! Packing and products.

use quarry_formats::quant::{TensorType, decode, encode};

use super::{Random, assert_close, assert_same_bits, fused, kernels};
use crate::activations::Activations;
use crate::isa::Kernels;
use crate::kernels::elementwise::padded;
use crate::kernels::product::{DIRECT_ROWS_MAX, PANEL_ROWS, Panel, naive};
use crate::packing::{Arena, PackedMatrix, TILE, Tile};
use crate::threads::Threads;

/// Rows of one call: both ways, every strip, and one more.
const ROWS: usize = DIRECT_ROWS_MAX + 7;

fn quantized(kernels: &Kernels, x: &[f32], columns: usize) -> Activations {
    let mut out = Activations::default();
    out.reset(x.len() / columns, columns);
    for (m, row) in x.chunks(columns).enumerate() {
        let mut whole = row.to_vec();
        whole.resize(padded(columns), 0.0);
        // SAFETY: the table exists, so its instructions do.
        unsafe { (kernels.quantize)(&whole, out.row_mut(m)) };
    }
    out
}

/// `count × 32` for each pair of tiles, one after another; lanes past the last tile are not compared.
fn product(
    kernels: Option<&Kernels>,
    matrix: &PackedMatrix,
    x: &Activations,
    first: usize,
    count: usize,
) -> Vec<f32> {
    let rows = x.rows().part(first, count);
    let mut panel = Panel::new();
    let mut all = Vec::new();
    for pair in 0..matrix.tiles().div_ceil(2) {
        let tiles: Vec<Tile<'_>> =
            (2 * pair..(2 * pair + 2).min(matrix.tiles())).map(|tile| matrix.tile(tile)).collect();
        let mut out = vec![f32::NAN; count * PANEL_ROWS];
        match kernels {
            // SAFETY: the table exists, so its instructions do.
            Some(kernels) => unsafe { (kernels.product)(&tiles, &rows, &mut panel, &mut out) },
            None => naive(&tiles, &rows, &mut out, f32::mul_add),
        }
        for row in out.chunks(PANEL_ROWS) {
            all.extend_from_slice(&row[..tiles.len() * TILE]);
        }
    }
    all
}

fn columns_of(kind: TensorType) -> &'static [usize] {
    match kind.block_elements() {
        1 => &[32, 96, 100, 640],
        32 => &[32, 96, 288, 640],
        128 => &[128, 384, 640, 768],
        _ => &[256, 768],
    }
}

/// Every type of GGUF files, and AWQ's.
fn kinds() -> impl Iterator<Item = TensorType> {
    TensorType::ALL.into_iter().chain([TensorType::AWQ4])
}

fn packed(kind: TensorType, rows: usize, columns: usize, values: &[f32]) -> (PackedMatrix, Vec<f32>) {
    let mut threads = Threads::new(2);
    let bytes: Vec<u8> = values.chunks(columns).flat_map(|row| encode(kind, row)).collect();
    let mut weights = vec![0.0; rows * columns];
    for (out, row) in weights.chunks_mut(columns).zip(bytes.chunks(kind.row_bytes(columns))) {
        decode(kind, row, out);
    }
    (PackedMatrix::pack(kind, rows, columns, &bytes, &mut threads, &mut Arena::default()).unwrap(), weights)
}

#[test]
fn packing_keeps_the_files_weights() {
    let mut random = Random(7);
    for kind in kinds() {
        for (&columns, rows) in columns_of(kind).iter().zip([1, 17, 33, 16]) {
            let (matrix, weights) = packed(kind, rows, columns, &random.units(rows * columns));
            // Forms that keep the file's integers lose the rounding of one product; 8-bit rounding half a step of 127.
            let kept = matrix.form().bits() < 8 || kind == TensorType::Q8_0;
            let bound = match kind {
                // The minimum is the product of scale and zero point, rounded to f16.
                TensorType::AWQ4 => 1.0 / 2048.0,
                _ if kept => 2e-7,
                _ => 0.51 / 127.0,
            };
            let mut row = vec![0f32; columns];
            for (r, expected) in weights.chunks(columns).enumerate() {
                matrix.row(r, &mut row);
                assert_close(kind.name(), &row, expected, bound);
            }
        }
    }
}

#[test]
fn products_have_the_bits_of_the_naive_one_in_every_format_and_shape() {
    let mut random = Random(1);
    for kind in kinds() {
        for (&columns, rows) in columns_of(kind).iter().zip([1, 17, 33, 16]) {
            let (matrix, _) = packed(kind, rows, columns, &random.units(rows * columns));
            let mut x = random.units(ROWS * columns);
            x[3] = 40.0; // one outlier, as real activations have
            x[columns..2 * columns].fill(0.0);
            x[2 * columns..3 * columns].fill(-1.0); // the largest sums an integer kernel can meet
            for kernels in kernels() {
                let activations = quantized(&kernels, &x, columns);
                for count in 1..=ROWS {
                    let what =
                        format!("{} {} {rows}x{columns} of {count}", kind.name(), kernels.isa().name());
                    let found = product(Some(&kernels), &matrix, &activations, 0, count);
                    let expected = product(None, &matrix, &activations, 0, count);
                    if kernels.isa() == crate::isa::Isa::Portable {
                        assert_close(&what, &found, &expected, 1e-5);
                    } else {
                        assert_same_bits(&what, &found, &expected);
                    }
                }
            }
        }
    }
}

#[test]
fn the_naive_product_is_the_product_of_what_was_quantized() {
    let mut random = Random(8);
    for kind in kinds() {
        let (rows, columns) = (20, 768);
        let (matrix, _) = packed(kind, rows, columns, &random.units(rows * columns));
        let x = random.units(2 * columns);
        let activations = quantized(&kernels()[0], &x, columns);
        let found = product(None, &matrix, &activations, 0, 2);
        let mut weights = vec![0f32; columns];
        for r in 0..rows {
            matrix.row(r, &mut weights);
            for m in 0..2 {
                let view = activations.rows();
                let value = |k: usize| {
                    f64::from(view.scales[m * view.groups + k / 32]) * f64::from(view.q[m * columns + k])
                };
                let exact: f64 = (0..columns).map(|k| value(k) * f64::from(weights[k])).sum();
                // Tiles of a pair lie beside each other: `count × 16` or `count × 32` at a time.
                let at = m * PANEL_ROWS + r;
                assert!((f64::from(found[at]) - exact).abs() < 1e-3, "{} {r} {m}", kind.name());
            }
        }
    }
}

#[test]
fn a_row_has_the_same_bits_alone_and_among_others() {
    let mut random = Random(2);
    let (rows, columns) = (32, 640);
    for kind in [TensorType::Q5_0, TensorType::Q4_1, TensorType::Q8_0] {
        let (matrix, _) = packed(kind, rows, columns, &random.units(rows * columns));
        let x = random.units(ROWS * columns);
        for kernels in kernels() {
            let activations = quantized(&kernels, &x, columns);
            let together = product(Some(&kernels), &matrix, &activations, 0, ROWS);
            for m in 0..ROWS {
                let alone = product(Some(&kernels), &matrix, &activations, m, 1);
                assert_same_bits(kernels.isa().name(), &alone, &together[m * rows..(m + 1) * rows]);
            }
        }
    }
}

#[test]
fn quantizing_loses_half_a_step_at_most_and_is_alike_everywhere() {
    let mut random = Random(3);
    for columns in [1, 31, 32, 33, 100, 128, 300] {
        let mut x = random.units(columns);
        x[0] = -7.5;
        let all: Vec<Activations> = kernels().iter().map(|kernels| quantized(kernels, &x, columns)).collect();
        for out in &all {
            assert_eq!(out.q, all[0].q);
            assert_eq!(out.scales, all[0].scales);
            assert_eq!(out.scaled_sums, all[0].scaled_sums);
            assert_eq!(
                (&out.minus_sums, &out.minus_half_sums),
                (&all[0].minus_sums, &all[0].minus_half_sums)
            );
            for (k, &value) in x.iter().enumerate() {
                let scale = out.scales[k / 32];
                let back = scale * f32::from(out.q[k]);
                assert!((back - value).abs() <= scale * 0.5001, "{value} came back as {back}");
            }
            assert!(out.q[columns..].iter().all(|&q| q == 0), "padding is zero");
            let sum: i32 = out.q.iter().map(|&q| i32::from(q)).sum();
            assert_eq!(out.minus_sums.iter().sum::<i32>(), -sum);
            assert_eq!(out.minus_half_sums.iter().sum::<i32>(), -sum);
        }
        let zeros =
            quantized(&fused().first().copied().unwrap_or(kernels()[0]), &vec![0.0; columns], columns);
        assert!(zeros.scales.iter().all(|&s| s == 0.0) && zeros.q.iter().all(|&q| q == 0));
    }
}
