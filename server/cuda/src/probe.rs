//! What the device does at most, measured: what speeds are told as shares of (`quarry bench gpu`).

use std::sync::Arc;
use std::time::Instant;

use cudarc::driver::DriverError;

use crate::device::{Argument, Device};
use crate::kernels::Shape;
use crate::pinned::Pinned;

/// As in `kernels/probe.cu`.
const THREADS: usize = 256;
const CHAINS: usize = 8;
const WARP: usize = 32;
/// Blocks for each multiprocessor: as many as its threads can be, at most.
const BLOCKS_PER_PROCESSOR: usize = 8;
/// The best of so many.
const REPEATS: usize = 4;

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct ProbePlan {
    /// Bytes of a copy within the device.
    pub device_bytes: usize,
    /// Bytes of a copy between host and device.
    pub host_bytes: usize,
    /// Rounds of products.
    pub rounds: usize,
}

/// Rates a second, each the best of a few.
#[derive(Clone, Copy, Debug)]
pub struct Probe {
    /// Bytes read and written by a copy within the device's memory.
    pub memory_bytes: f64,
    /// Bytes to the device from page-locked memory.
    pub to_device_bytes: f64,
    /// Bytes back.
    pub to_host_bytes: f64,
    /// Multiplications and additions of int8 on the tensor cores.
    pub int8_operations: f64,
    /// The same of bf16.
    pub bf16_operations: f64,
}

pub fn probe(device: &Arc<Device>, plan: ProbePlan) -> Result<Probe, DriverError> {
    device.bind()?;
    let stream = &device.compute;
    let blocks = device.multiprocessors()? * BLOCKS_PER_PROCESSOR;
    let memory = device.allocate((2 * plan.device_bytes).max(plan.host_bytes).max(blocks * THREADS * 4))?;
    let mut host = Pinned::new(device, plan.host_bytes)?;
    let copy = best(device, &mut || memory.copy_within(0, plan.device_bytes, plan.device_bytes, stream))?;
    let range = 0..plan.host_bytes;
    let to_device = best(device, &mut || memory.write_late(0, &host, range.clone(), stream))?;
    let to_host = best(device, &mut || memory.read_late(range.clone(), &mut host, stream))?;
    let products = |name: &'static str| {
        best(device, &mut || {
            let shape = Shape { grid: (blocks as u32, 1, 1), block: THREADS as u32, shared_bytes: 0 };
            let mut arguments =
                [Argument::Address(memory.at(0, blocks * THREADS * 4)), Argument::Int(plan.rounds as i32)];
            // SAFETY: the kernel's own arguments; it writes one number for each of its threads.
            unsafe { device.kernels.launch(name, shape, &mut arguments, stream) }
        })
    };
    let warps = (blocks * THREADS / WARP) as f64;
    let operations = |depth: usize| warps * (plan.rounds * CHAINS * 16 * 8 * depth * 2) as f64;
    Ok(Probe {
        memory_bytes: 2.0 * plan.device_bytes as f64 / copy,
        to_device_bytes: plan.host_bytes as f64 / to_device,
        to_host_bytes: plan.host_bytes as f64 / to_host,
        int8_operations: operations(32) / products("probe_s8")?,
        bf16_operations: operations(16) / products("probe_bf16")?,
    })
}

/// Seconds of the fastest run after one that does not count.
fn best(device: &Device, run: &mut dyn FnMut() -> Result<(), DriverError>) -> Result<f64, DriverError> {
    let mut seconds = f64::INFINITY;
    for repeat in 0..=REPEATS {
        let begun = Instant::now();
        run()?;
        device.synchronize()?;
        if repeat > 0 {
            seconds = seconds.min(begun.elapsed().as_secs_f64());
        }
    }
    Ok(seconds)
}
