//! Which instructions this machine has, and the kernels made of them: chosen once, then called through a table.

use crate::activations::{Activations, RowMut};
use crate::kernels::attention::{self, AttentionFn, HeadLayout, Queries, Scratch, SpanFn};
use crate::kernels::elementwise::{self, AddFn, NormFn, QuantizeFn, RotateFn, RowsFn, SiluQuantizeFn};
use crate::kernels::fixed_point::{self, FixedPointFn, Word};
use crate::kernels::product::{Panel, ProductFn, Rows};
use crate::kernels::vector::{LANES, Vector};
use crate::packing::Tile;

/// An instruction set with its own kernels, in order of preference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isa {
    /// AVX-512 F/BW/VL/DQ with VNNI.
    Avx512Vnni,
    /// AVX2 with FMA, F16C and AVX-VNNI.
    AvxVnni,
    /// AVX-VNNI's kernels in the encoding that AVX-512 VNNI machines have. Never chosen; proves AVX-VNNI's results.
    AvxVnniEvex,
    /// AVX2 with FMA and F16C.
    Avx2,
    /// Whatever the target guarantees.
    Portable,
}

impl Isa {
    /// Best first.
    pub const ALL: [Self; 5] =
        [Self::Avx512Vnni, Self::AvxVnni, Self::AvxVnniEvex, Self::Avx2, Self::Portable];

    /// Whether this machine has it.
    pub fn is_available(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("fma")
                && is_x86_feature_detected!("f16c");
            let avx512 = avx2
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vnni");
            match self {
                Self::Avx512Vnni | Self::AvxVnniEvex => avx512,
                Self::AvxVnni => avx2 && is_x86_feature_detected!("avxvnni"),
                Self::Avx2 => avx2,
                Self::Portable => true,
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            self == Self::Portable
        }
    }

    /// The best this machine has.
    pub fn detect() -> Self {
        let chosen = |isa: &Self| *isa != Self::AvxVnniEvex && isa.is_available();
        Self::ALL.into_iter().find(chosen).unwrap_or(Self::Portable)
    }

    /// As in logs and in `server.isa`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Avx512Vnni => "avx512-vnni",
            Self::AvxVnni => "avx-vnni",
            Self::AvxVnniEvex => "avx-vnni-evex",
            Self::Avx2 => "avx2",
            Self::Portable => "portable",
        }
    }

    /// The set of a name, as [`Isa::name`] spells it.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|isa| isa.name() == name)
    }
}

/// One instruction set's kernels. Owning a table proves that its instructions exist here: [`Kernels::new`] is the
/// only way to one.
#[derive(Clone, Copy)]
pub struct Kernels {
    isa: Isa,
    pub(crate) product: ProductFn,
    pub(crate) attention: AttentionFn,
    pub(crate) span: SpanFn,
    pub(crate) merge: MergeFn,
    pub(crate) norm: NormFn,
    pub(crate) quantize: QuantizeFn,
    pub(crate) silu_quantize: SiluQuantizeFn,
    pub(crate) rotate: RotateFn,
    pub(crate) by_norm: FixedPointFn,
    pub(crate) by_power: FixedPointFn,
    pub(crate) add: AddFn,
    pub(crate) store_rows: RowsFn,
    pub(crate) add_rows: RowsFn,
}

/// Merges spans, in order, and divides into `out`.
///
/// # Safety
/// The instruction set exists; spans are of one query set of rows `width` wide.
pub type MergeFn = unsafe fn(spans: &[attention::Partial], width: usize, out: &mut [f32]);

unsafe fn merge_spans<V: Vector>(spans: &[attention::Partial], width: usize, out: &mut [f32]) {
    let mut total = attention::Partial::default();
    total.reset(out.len() / width, width);
    // SAFETY: the caller's promise.
    unsafe {
        V::call(|| {
            for span in spans {
                attention::merge::<V>(&mut total, span, width, 0);
            }
            attention::divide::<V>(&total, width, out);
        });
    }
}

impl Kernels {
    /// The kernels of an instruction set, if this machine has it.
    pub fn new(isa: Isa) -> Option<Self> {
        if !isa.is_available() {
            return None;
        }
        #[cfg(target_arch = "x86_64")]
        use crate::{avx_vnni, avx2, avx512};
        Some(match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Vnni => Self::over::<avx512::vector::V>(isa, avx512::product::product),
            #[cfg(target_arch = "x86_64")]
            Isa::AvxVnni => Self::over::<avx2::vector::V>(isa, avx_vnni::product),
            #[cfg(target_arch = "x86_64")]
            Isa::AvxVnniEvex => Self::over::<avx2::vector::V>(isa, avx_vnni::product_evex),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => Self::over::<avx2::vector::V>(isa, avx2::product::product),
            _ => Self::over::<crate::portable::vector::V>(isa, crate::portable::product::product),
        })
    }

    fn over<V: Vector>(isa: Isa, product: ProductFn) -> Self {
        Self {
            isa,
            product,
            attention: attention::attend::<V>,
            span: attention::attend_span::<V>,
            merge: merge_spans::<V>,
            norm: elementwise::norm::<V>,
            quantize: elementwise::quantize::<V>,
            silu_quantize: elementwise::silu_quantize::<V>,
            rotate: elementwise::rotate::<V>,
            by_norm: fixed_point::by_norm::<V>,
            by_power: fixed_point::by_power::<V>,
            add: elementwise::add::<V>,
            store_rows: elementwise::rows::<V, false>,
            add_rows: elementwise::rows::<V, true>,
        }
    }

    /// Which set.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// One or two tiles times some rows of activations; see [`crate::kernels::product`].
    pub fn product(&self, tiles: &[Tile<'_>], x: &Rows<'_>, panel: &mut Panel, out: &mut [f32]) {
        // SAFETY: owning the table proves the instruction set; the kernel checks all lengths.
        unsafe { (self.product)(tiles, x, panel, out) }
    }

    /// Quantizes a row of whole groups.
    pub fn quantize(&self, x: &[f32], out: RowMut<'_>) {
        // SAFETY: as above.
        unsafe { (self.quantize)(x, out) }
    }

    /// Writes a head of a query or a key as integers, two a word, and returns their scale; see
    /// [`crate::kernels::fixed_point`].
    pub fn by_norm(&self, x: &[f32], out: &mut [Word]) -> f32 {
        // SAFETY: as above.
        unsafe { (self.by_norm)(x, out) }
    }

    /// Attention of one KV head: queries as [`Queries`] has them, but over the keys and values in `blocks`; `out` gets
    /// `count × width`. See [`crate::kernels::attention`].
    ///
    /// # Panics
    /// Where lengths do not fit each other, or a position lies past the blocks.
    pub fn attention(
        &self,
        queries: &Queries<'_>,
        blocks: &[&[Word]],
        scratch: &mut Scratch,
        out: &mut [f32],
    ) {
        let HeadLayout { block_tokens, .. } = queries.layout;
        assert!(queries.positions.is_sorted(), "positions ascend");
        assert!(block_tokens > 0 && block_tokens.is_multiple_of(LANES), "blocks of {block_tokens}");
        let covered = blocks.len() * block_tokens;
        assert!(
            queries.positions.last().is_none_or(|&last| last < covered),
            "{covered} positions are covered"
        );
        let words = queries.layout.words();
        assert!(blocks.iter().all(|block| block.len() == words), "a block has {words} words");
        let blocks: Vec<*const Word> = blocks.iter().map(|block| block.as_ptr()).collect();
        let queries = Queries { blocks: &blocks, ..*queries };
        // SAFETY: owning the table proves the instruction set. The slices behind the pointers are as long as the
        // kernel reads, cover the largest position (both asserted), and are borrowed, so nobody writes them. The
        // kernel checks all other lengths.
        unsafe { (self.attention)(&queries, scratch, out) }
    }

    /// `x · weight / rms(x)` into `out`, zeros behind it.
    pub fn norm(&self, x: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) {
        // SAFETY: owning the table proves the instruction set; the kernel checks all lengths.
        unsafe { (self.norm)(x, weight, epsilon, out) }
    }

    /// `silu(gate) · up` of rows of 32, quantized: group `group` of the rows of `out`.
    pub fn silu_quantize(&self, gate: &[f32], up: &[f32], out: &mut Activations, group: usize) {
        // SAFETY: as above; `out` is borrowed alone, and the kernel checks that it has these groups.
        unsafe { (self.silu_quantize)(gate, up, &out.shares(), 0, group) }
    }
}
