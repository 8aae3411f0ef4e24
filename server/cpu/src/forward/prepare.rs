//! Rows of activations made ready for the products: normed or copied, then quantized.
//!
//! For many tokens this is a parallel region of its own. For one or two each thread does it for itself at the start
//! of the product's region: a microsecond of equal work beside a meeting of all threads that costs as much.

use crate::activations::Activations;
use crate::isa::Kernels;
use crate::kernels::elementwise::padded;
use crate::kernels::product::Rows;
use crate::packing::GROUP;
use crate::threads::{Shares, Threads, Tiles, WorkerPanicked};

use super::Local;

/// Tokens that each thread quantizes for itself.
const OWN_ROWS_MAX: usize = 2;

/// Where a row comes from.
pub struct Input<'a> {
    x: &'a [f32],
    width: usize,
    norm: Option<(&'a [f32], f32, Kernels)>,
}

impl<'a> Input<'a> {
    /// Rows of `x`, as wide as `weight`, normed by it.
    pub fn norm(x: &'a [f32], weight: &'a [f32], epsilon: f32, kernels: Kernels) -> Self {
        Self { x, width: weight.len(), norm: Some((weight, epsilon, kernels)) }
    }

    /// Rows of `x` as they are.
    pub fn copy(x: &'a [f32], width: usize) -> Self {
        Self { x, width, norm: None }
    }

    /// Row `index`, padded with zeros to whole groups.
    fn row<'b>(&'b self, index: usize, buffer: &'b mut Vec<f32>) -> &'b [f32] {
        let x = &self.x[index * self.width..(index + 1) * self.width];
        if self.norm.is_none() && x.len().is_multiple_of(GROUP) {
            return x;
        }
        buffer.resize(padded(self.width), 0.0);
        match self.norm {
            // SAFETY: the table proves the instruction set.
            Some((weight, epsilon, kernels)) => unsafe { (kernels.norm)(x, weight, epsilon, buffer) },
            None => {
                buffer[..x.len()].copy_from_slice(x);
                buffer[x.len()..].fill(0.0);
            }
        }
        buffer
    }
}

/// Quantized rows, or how a thread gets its own.
pub enum Quantized<'a> {
    /// Made in a region.
    Shared(&'a Activations),
    /// To be made by each thread.
    Own(&'a Input<'a>),
}

impl Quantized<'_> {
    /// The rows, for one thread within a region.
    pub fn rows<'b>(
        &'b self,
        count: usize,
        kernels: Kernels,
        own: &'b mut Activations,
        buffer: &mut Vec<f32>,
    ) -> Rows<'b> {
        match self {
            Quantized::Shared(activations) => activations.rows(),
            Quantized::Own(input) => {
                own.reset(count, input.width);
                for row in 0..count {
                    // SAFETY: the table proves the instruction set.
                    unsafe { (kernels.quantize)(input.row(row, buffer), own.row_mut(row)) };
                }
                own.rows()
            }
        }
    }
}

/// Quantizes `count` rows in parallel, or says that each thread shall.
pub fn quantize<'a>(
    threads: &mut Threads,
    kernels: Kernels,
    locals: &mut [Local],
    shared: &'a mut Activations,
    input: &'a Input<'a>,
    count: usize,
) -> Result<Quantized<'a>, WorkerPanicked> {
    if count <= OWN_ROWS_MAX {
        return Ok(Quantized::Own(input));
    }
    shared.reset(count, input.width);
    let out = shared.shares();
    let locals = Shares::new(locals);
    let work = Tiles::split(count, 8, threads.count());
    threads.run(&|thread| {
        // SAFETY: no two threads have the same index.
        let buffer = unsafe { &mut locals.slice(thread, 1)[0].row };
        while let Some(run) = work.take(thread) {
            for row in run {
                // SAFETY: each row is handed to one thread; the table proves the instruction set.
                unsafe { (kernels.quantize)(input.row(row, buffer), out.row(row)) };
            }
        }
    })?;
    Ok(Quantized::Shared(shared))
}
