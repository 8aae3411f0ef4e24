//! Matrix product of weight tiles with rows of activations: what every instruction set computes, bit for bit.
//!
//! ```text
//! for each activation row m, each of a tile's 16 output rows r:
//!   acc = 0
//!   for each group g of 32 columns, in order:
//!     d   = Σ q[r][k] · x[m][k]  −  offset · Σ x[m][k]                            (exact, int32)
//!     acc = fma(scale[r][g] · xscale[m][g], d, acc)
//!     acc = fma(min[r][g], xscale[m][g] · −Σ x[m][k], acc)                         (forms with minimums)
//!   out[m][r] = acc
//! 6-bit forms, d0 and d1 of a group's halves: acc = fma(fma(scale[1], d1, scale[0] · d0), xscale[m][g], acc)
//! ```
//! Few rows take weights from the packed bits, many unpack a panel of two tiles × 512 columns once: the same bits, for
//! integers are exact and folds have one order. A tile costs 16 K multiply-adds a row, and its bytes once a call.

use crate::packing::{GROUP, TILE, Tile};

pub use crate::packing::BLOCK_GROUPS;

/// Tiles of one call at most.
pub const PANEL_TILES: usize = 2;
/// Output rows of one call at most; the stride of its output.
pub const PANEL_ROWS: usize = PANEL_TILES * TILE;
/// Activation rows that read packed bits directly.
pub const DIRECT_ROWS_MAX: usize = 8;
/// Groups that are unpacked at a time: two tiles of them fit the first-level cache beside some activations.
pub const PANEL_GROUPS: usize = 16;
const _: () = assert!(PANEL_GROUPS.is_multiple_of(BLOCK_GROUPS), "a panel ends where a block ends");

/// Bytes that a product of few rows asks the second-level cache for before it needs them. Hardware prefetchers stay
/// too near when a line takes as much arithmetic as here: measured on Zen 4, 16 KiB ahead reads Q6_K 2.2 times and
/// Q5_0 1.3 times as fast, while prefetching into the first level is slower than none. Past a tile's end lies the
/// next tile; an address past the matrix is only a hint.
pub const AHEAD: usize = 16 << 10;
/// Bytes of a cache line.
pub const LINE: usize = 64;

/// Asks the second-level cache for `bytes` from here on; past a matrix's end that is only a hint.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub fn prefetch(from: *const u8, bytes: usize) {
    use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
    for line in (0..bytes).step_by(LINE) {
        // SAFETY: a prefetch reads nothing, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(from.wrapping_add(line).cast()) };
    }
}

/// Asks the second-level cache for what the next panel needs in the place of this block, which is being unpacked: it
/// comes while the rows run over this panel. After a tile's last panel the slot has the tile behind the other slots'.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub fn prefetch_panel_ahead(tile: &Tile<'_>, block: usize) {
    let blocks = tile.groups().div_ceil(BLOCK_GROUPS);
    let share = tile.layout().bytes / blocks;
    let next = block + PANEL_GROUPS / BLOCK_GROUPS;
    let skipped = if next < blocks { 0 } else { (PANEL_TILES - 1) * tile.layout().bytes };
    prefetch(tile.bytes().as_ptr().wrapping_add(next * share + skipped), share);
}

/// Rows of quantized activations; see [`crate::quantize::Activations`].
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    /// How many.
    pub rows: usize,
    /// Groups of a row.
    pub groups: usize,
    /// `rows × groups × 32`.
    pub q: &'a [i8],
    /// `rows × groups`.
    pub scales: &'a [f32],
    /// `rows × groups`: scale times minus the sum.
    pub scaled_sums: &'a [f32],
    /// `rows × groups`: minus the sum of each 32.
    pub minus_sums: &'a [i32],
    /// `rows × groups × 2`: minus the sum of each 16.
    pub minus_half_sums: &'a [i32],
}

impl<'a> Rows<'a> {
    /// Blocks of 128 columns of a row.
    pub fn blocks(&self) -> usize {
        self.groups.div_ceil(BLOCK_GROUPS)
    }

    /// `count` rows from `first`.
    pub fn part(&self, first: usize, count: usize) -> Self {
        let of = |each: usize| first * each..(first + count) * each;
        Self {
            rows: count,
            groups: self.groups,
            q: &self.q[of(self.groups * GROUP)],
            scales: &self.scales[of(self.groups)],
            scaled_sums: &self.scaled_sums[of(self.groups)],
            minus_sums: &self.minus_sums[of(self.groups)],
            minus_half_sums: &self.minus_half_sums[of(2 * self.groups)],
        }
    }
}

/// Unpacked weights of a panel: one a thread, reused.
#[repr(C, align(64))]
pub struct Panel {
    /// Per tile and group, as in an 8-bit low plane.
    pub q: [[[u8; TILE * GROUP]; PANEL_GROUPS]; PANEL_TILES],
    /// Per tile, group and half of it.
    pub scales: [[[[f32; TILE]; 2]; PANEL_GROUPS]; PANEL_TILES],
    /// Per tile and group.
    pub mins: [[[f32; TILE]; PANEL_GROUPS]; PANEL_TILES],
}

impl Panel {
    /// Zeros.
    pub fn new() -> Box<Self> {
        Box::new(Self {
            q: [[[0; TILE * GROUP]; PANEL_GROUPS]; PANEL_TILES],
            scales: [[[[0.0; TILE]; 2]; PANEL_GROUPS]; PANEL_TILES],
            mins: [[[0.0; TILE]; PANEL_GROUPS]; PANEL_TILES],
        })
    }
}

/// Writes `out[m · 32 + 16 t + r]` for each row m of `x`, each tile t and its row r. One or two tiles of one matrix.
///
/// # Safety
/// The instruction set the function was compiled for exists (it comes from [`crate::isa::Kernels`]).
pub type ProductFn = unsafe fn(tiles: &[Tile<'_>], x: &Rows<'_>, panel: &mut Panel, out: &mut [f32]);

/// What every form relies on: slices as long as tiles and rows say. One check a call.
#[inline(always)]
pub fn check(tiles: &[Tile<'_>], x: &Rows<'_>, out: &[f32]) {
    assert!((1..=PANEL_TILES).contains(&tiles.len()), "{} tiles", tiles.len());
    for tile in tiles {
        assert_eq!(tile.groups(), x.groups, "columns of weights and activations");
        assert!(tile.form() == tiles[0].form() && tile.bytes().len() == tile.layout().bytes, "a tile");
    }
    assert_eq!(x.q.len(), x.rows * x.groups * GROUP, "activations");
    assert_eq!(x.scales.len(), x.rows * x.groups, "activation scales");
    assert_eq!(x.scaled_sums.len(), x.rows * x.groups, "scaled sums of activations");
    assert_eq!(x.minus_sums.len(), x.rows * x.groups, "activation sums");
    assert_eq!(x.minus_half_sums.len(), x.rows * x.groups * 2, "activation half sums");
    assert_eq!(out.len(), x.rows * PANEL_ROWS, "output");
}

/// The naive twin: the pseudo code, one multiplication at a time; with a fused `fma` it has the vector forms' bits.
#[cfg(test)]
pub fn naive(tiles: &[Tile<'_>], x: &Rows<'_>, out: &mut [f32], fma: impl Fn(f32, f32, f32) -> f32) {
    check(tiles, x, out);
    let columns = x.groups * GROUP;
    for (t, tile) in tiles.iter().enumerate() {
        let offset = tile.form().offset();
        for m in 0..x.rows {
            for r in 0..TILE {
                let dot = |start: usize, count: usize| -> f32 {
                    let products = (start..start + count)
                        .map(|k| (tile.integer(r, k) - offset) * i32::from(x.q[m * columns + k]));
                    products.sum::<i32>() as f32
                };
                let mut acc = 0f32;
                for g in 0..x.groups {
                    let (start, at) = (g * GROUP, m * x.groups + g);
                    if tile.form().fold_columns() < GROUP {
                        let second = start + GROUP / 2;
                        let f = tile.scale(r, start) * dot(start, GROUP / 2);
                        let f = fma(tile.scale(r, second), dot(second, GROUP / 2), f);
                        acc = fma(f, x.scales[at], acc);
                        continue;
                    }
                    acc = fma(tile.scale(r, start) * x.scales[at], dot(start, GROUP), acc);
                    if tile.form().has_min() {
                        acc = fma(tile.min(r, start), x.scaled_sums[at], acc);
                    }
                }
                out[m * PANEL_ROWS + t * TILE + r] = acc;
            }
        }
    }
}

/// Calls `$f::<BITS, SUPER, MIN>($args)` for a form, with a type before the constants where one is given.
macro_rules! for_form {
    ($form:expr, $f:ident $([$type:ident])? ($($args:expr),*)) => {
        match $form {
            $crate::packing::Form::Q4 => $f::<$($type,)? 4, false, false>($($args),*),
            $crate::packing::Form::Q4Min => $f::<$($type,)? 4, false, true>($($args),*),
            $crate::packing::Form::Q5 => $f::<$($type,)? 5, false, false>($($args),*),
            $crate::packing::Form::Q5Min => $f::<$($type,)? 5, false, true>($($args),*),
            $crate::packing::Form::Q8 => $f::<$($type,)? 8, false, false>($($args),*),
            $crate::packing::Form::K4 => $f::<$($type,)? 4, true, true>($($args),*),
            $crate::packing::Form::K5 => $f::<$($type,)? 5, true, true>($($args),*),
            $crate::packing::Form::K6 => $f::<$($type,)? 6, true, false>($($args),*),
        }
    };
}
pub(crate) use for_form;
