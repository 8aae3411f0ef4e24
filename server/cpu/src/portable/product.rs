//! The product in plain loops that a compiler can vectorize: a group is unpacked once and met by each row.

use crate::kernels::product::{BLOCK_GROUPS, PANEL_ROWS, Panel, Rows, check};
use crate::packing::{GROUP, TILE, Tile};

/// A group's integers, `[4 columns][16 rows][4]`, its offset not subtracted.
type Group = [[[u8; 4]; TILE]; GROUP / 4];

/// See [`ProductFn`](crate::kernels::product::ProductFn).
///
/// # Safety
/// None needed; unsafe only to fit the table.
pub unsafe fn product(tiles: &[Tile<'_>], x: &Rows<'_>, _panel: &mut Panel, out: &mut [f32]) {
    check(tiles, x, out);
    for (t, tile) in tiles.iter().enumerate() {
        let fold = tile.form().fold_columns();
        let mut acc = vec![[0f32; TILE]; x.rows];
        for g in 0..x.groups {
            let weights = unpack(tile, g);
            let lanes = |of: &dyn Fn(usize) -> f32| -> [f32; TILE] { std::array::from_fn(of) };
            let scales = [0, GROUP - fold].map(|first| lanes(&|r| tile.scale(r, g * GROUP + first)));
            let part = |m: usize, first: usize| {
                let at = m * x.groups + g;
                let d = dot(&weights[first / 4..(first + fold) / 4], &x.q[at * GROUP + first..][..fold]);
                let minus_sum = match fold {
                    GROUP => x.minus_sums[at],
                    _ => x.minus_half_sums[at * 2 + first / fold],
                };
                d.map(|d| (d + tile.form().offset() * minus_sum) as f32)
            };
            for (m, acc) in acc.iter_mut().enumerate() {
                let xscale = x.scales[m * x.groups + g];
                let d = part(m, 0);
                if fold == GROUP {
                    for r in 0..TILE {
                        acc[r] = super::fma(scales[0][r] * xscale, d[r], acc[r]);
                    }
                    continue;
                }
                let second = part(m, fold);
                for r in 0..TILE {
                    let f = super::fma(scales[1][r], second[r], scales[0][r] * d[r]);
                    acc[r] = super::fma(f, xscale, acc[r]);
                }
            }
            if tile.form().has_min() {
                let mins = lanes(&|r| tile.min(r, g * GROUP));
                for (m, acc) in acc.iter_mut().enumerate() {
                    for r in 0..TILE {
                        acc[r] = super::fma(mins[r], x.scaled_sums[m * x.groups + g], acc[r]);
                    }
                }
            }
        }
        for (m, acc) in acc.iter().enumerate() {
            out[m * PANEL_ROWS + t * TILE..m * PANEL_ROWS + (t + 1) * TILE].copy_from_slice(acc);
        }
    }
}

fn unpack(tile: &Tile<'_>, g: usize) -> Group {
    let (form, parts, i) = (tile.form(), tile.layout().block(g / BLOCK_GROUPS), g % BLOCK_GROUPS);
    let low = &tile.bytes()[parts.low + i * form.low_bytes()..][..form.low_bytes()];
    let high = &tile.bytes()[parts.high + i * form.high_bytes()..][..form.high_bytes()];
    let lines = low.as_chunks::<64>().0;
    std::array::from_fn(|step| {
        let line = if form.bits() == 8 { &lines[step] } else { &lines[step % 4] };
        std::array::from_fn(|r| {
            std::array::from_fn(|k| {
                let place = r * 4 + k;
                let nibble = line[place] >> (step / 4 * 4) & 15;
                match form.bits() {
                    4 => nibble,
                    5 => nibble | (high[place] >> step & 1) << 4,
                    6 => nibble | (high[step / 4 * 64 + place] >> (step % 4 * 2) & 3) << 4,
                    _ => line[place],
                }
            })
        })
    })
}

fn dot(weights: &[[[u8; 4]; TILE]], x: &[i8]) -> [i32; TILE] {
    let mut d = [0i32; TILE];
    for (w, x) in weights.iter().zip(x.as_chunks::<4>().0) {
        for (d, w) in d.iter_mut().zip(w) {
            for k in 0..4 {
                *d += i32::from(w[k]) * i32::from(x[k]);
            }
        }
    }
    d
}
