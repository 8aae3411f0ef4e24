//! Drawing on the device (`kernels/sample.cu`): what the host sends for it, the launch, the tokens that come back.
//!
//! The kernel draws what [`sampler::sample`] draws, bit for bit. A row that it cannot draw (see [`Draws::is_for_device`];
//! also one with too many candidates, which the kernel finds out) is drawn here, from its logits as they were.

use std::sync::Arc;

use cudarc::driver::{CudaEvent, DriverError};
pub use quarry_cuda_layout::DrawRoom;
use quarry_cuda_layout::{LOGPROB_WORDS, ROW_WORDS};
use quarry_model::ids::TokenId;
use quarry_model::sampler::{self, Change, SampleRow, Sampled};

use crate::device::{Argument, Device, Memory};
use crate::kernels::Shape;
use crate::pinned::Pinned;

/// As in `kernels/draw.cuh`: threads, the largest vocabulary whose weights are summed, candidates.
const THREADS: u32 = 1024;
const VOCAB_MAX: usize = 1 << 18;
const CANDIDATES_MAX: u32 = 4096;
/// A drawn token that is none.
const HOST_DRAWS: u32 = u32::MAX;
/// Flags of a row.
const ON_DEVICE: u32 = 1;
const MASKED: u32 = 2;
const LOGPROB: u32 = 4;

/// Where a draw works: offsets in a piece of memory of the logits (f32 `rows × vocab`) and of the room.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    pub device: &'a Device,
    pub memory: &'a Memory,
    pub logits: usize,
    pub room: usize,
}

/// Draws some rows at a time: [`Draws::send`], then [`Draws::queue`] once the logits are queued, then [`Draws::collect`].
pub struct Draws {
    room: DrawRoom,
    /// What is sent: orders of rows, changes, masks, one after another.
    sent: Vec<u32>,
    /// The same where the device reads it.
    sending: Pinned,
    /// What comes back, and when it has.
    coming: Pinned,
    drawn_by: Option<CudaEvent>,
    changes_begin: usize,
    masks_begin: usize,
    changes: Vec<(TokenId, Change)>,
    row_changes: Vec<(TokenId, Change)>,
    seen: Vec<TokenId>,
    logits: Vec<f32>,
    scratch: sampler::Scratch,
    /// Rows that the host drew so far.
    pub host_rows: usize,
}

impl Draws {
    pub fn new(room: DrawRoom, device: &Arc<Device>) -> Result<Self, DriverError> {
        Ok(Self {
            room,
            sent: Vec::new(),
            sending: Pinned::new(device, room.bytes - room.sent)?,
            coming: Pinned::new(device, room.sent)?,
            drawn_by: None,
            changes_begin: 0,
            masks_begin: 0,
            changes: Vec::new(),
            row_changes: Vec::new(),
            seen: Vec::new(),
            logits: Vec::new(),
            scratch: sampler::Scratch::default(),
            host_rows: 0,
        })
    }

    /// Sums need a vocabulary of at most [`VOCAB_MAX`], a sorted draw at most [`CANDIDATES_MAX`] candidates.
    fn is_for_device(&self, row: &SampleRow<'_>) -> bool {
        let params = row.params;
        let sums = row.logprobs || params.temperature != 0.0;
        let too_many = params.top_k > CANDIDATES_MAX && (params.top_k as usize) < self.room.vocab;
        let is_greedy = params.temperature == 0.0;
        let is_usual = is_greedy || (params.temperature > 0.0 && params.temperature.is_finite() && !too_many);
        is_usual && (!sums || self.room.vocab <= VOCAB_MAX)
    }

    /// Queues the way of everything but logits that the draw of `samples` needs to the device.
    pub fn send(&mut self, place: Place<'_>, samples: &[SampleRow<'_>]) -> Result<(), DriverError> {
        let words = self.room.vocab.div_ceil(32);
        self.sent.clear();
        self.changes.clear();
        let mut mask_begin = 0;
        for row in samples {
            let changes_begin = self.changes.len();
            let is_for_device = self.is_for_device(row) && self.add_changes(row);
            let mask_words = row.mask.map_or(0, |mask| mask.len().min(words));
            let mut flags = 0;
            flags |= if is_for_device { ON_DEVICE } else { 0 };
            flags |= if row.mask.is_some() { MASKED } else { 0 };
            flags |= if row.logprobs { LOGPROB } else { 0 };
            let params = row.params;
            let uniform = sampler::uniform(params.seed, row.output.len() as u64).to_bits();
            let orders: [u32; ROW_WORDS] = [
                uniform as u32,
                (uniform >> 32) as u32,
                flags,
                params.temperature.to_bits(),
                params.top_p.to_bits(),
                params.min_p.to_bits(),
                params.top_k.min(self.room.vocab as u32),
                changes_begin as u32,
                (self.changes.len() - changes_begin) as u32,
                mask_begin,
                mask_words as u32,
                0,
            ];
            self.sent.extend(orders);
            mask_begin += mask_words as u32;
        }
        self.changes_begin = self.sent.len();
        self.sent.extend(self.changes.iter().flat_map(|&(token, change)| {
            let (kind, value) = match change {
                Change::Add(bias) => (0, bias),
                Change::Scale(by) => (1, by),
                Change::Subtract(penalty) => (2, penalty),
                Change::Forbid => (3, 0.0),
            };
            [token, kind, value.to_bits(), 0]
        }));
        self.masks_begin = self.sent.len();
        for mask in samples.iter().filter_map(|row| row.mask) {
            self.sent.extend_from_slice(&mask[..mask.len().min(words)]);
        }
        // What was sent before has been read: its draw was waited for.
        let bytes: &[u8] = bytemuck::cast_slice(&self.sent);
        self.sending.bytes_mut()[..bytes.len()].copy_from_slice(bytes);
        let to = place.room + self.room.sent;
        place.memory.write_late(to, &self.sending, 0..bytes.len(), &place.device.compute)
    }

    /// Adds a row's changes, those of a token beside each other and in order. False where there is no room for them.
    fn add_changes(&mut self, row: &SampleRow<'_>) -> bool {
        let Self { room, changes, row_changes, seen, .. } = self;
        row_changes.clear();
        sampler::changes(row, seen, |token, change| {
            if (token as usize) < room.vocab {
                row_changes.push((token, change));
            }
        });
        if changes.len() + row_changes.len() > room.changes_max {
            return false;
        }
        row_changes.sort_by_key(|(token, _)| *token);
        changes.append(row_changes);
        true
    }

    /// Queues the draw from logits that are queued, for the same samples as [`Draws::send`], and the way back of what is
    /// drawn. The logits are changed.
    pub fn queue(&mut self, place: Place<'_>, samples: &[SampleRow<'_>]) -> Result<(), DriverError> {
        self.launch(place, samples.len())?;
        let bytes = match samples.iter().any(|row| row.logprobs) {
            true => self.room.logprobs + samples.len() * LOGPROB_WORDS * 4,
            false => samples.len() * 4,
        };
        let range = place.room..place.room + bytes;
        place.memory.read_late(range, &mut self.coming, &place.device.compute)?;
        self.drawn_by = Some(place.device.mark()?);
        Ok(())
    }

    /// Waits for what was queued, and for nothing behind it, and appends to `out`. Whether the host had to draw.
    pub fn collect(
        &mut self,
        place: Place<'_>,
        samples: &[SampleRow<'_>],
        out: &mut Vec<Sampled>,
    ) -> Result<bool, DriverError> {
        let DrawRoom { vocab, logprobs, .. } = self.room;
        if let Some(drawn_by) = self.drawn_by.take() {
            drawn_by.synchronize()?;
        }
        let drawn: &[u32] = bytemuck::cast_slice(self.coming.bytes());
        let host_rows = self.host_rows;
        for (index, row) in samples.iter().enumerate() {
            let token = drawn[index];
            if token == HOST_DRAWS {
                self.host_rows += 1;
                self.logits.resize(vocab, 0.0);
                let (from, stream) = (place.logits + index * vocab * 4, &place.device.compute);
                place.memory.read(from, bytemuck::cast_slice_mut(&mut self.logits), stream)?;
                out.push(sampler::sample(&mut self.logits, row, &mut self.scratch));
                continue;
            }
            let logprob = row.logprobs.then(|| {
                let at = logprobs / 4 + index * LOGPROB_WORDS;
                let [raw, max] = [drawn[at], drawn[at + 1]].map(f32::from_bits);
                let sum = u64::from(drawn[at + 2]) | u64::from(drawn[at + 3]) << 32;
                sampler::logprob(raw, max, f64::from_bits(sum))
            });
            out.push(Sampled { token, logprob });
        }
        Ok(self.host_rows > host_rows)
    }

    fn launch(&self, place: Place<'_>, rows: usize) -> Result<(), DriverError> {
        let DrawRoom { vocab, logprobs, sent, .. } = self.room;
        let at = |offset: usize| Argument::Address(place.memory.at(place.room + offset, 0));
        let arguments = &mut [
            at(0),
            at(logprobs),
            Argument::Address(place.memory.at(place.logits, rows * vocab * 4)),
            at(sent),
            at(sent + self.changes_begin * 4),
            at(sent + self.masks_begin * 4),
            Argument::Int(vocab as i32),
        ];
        let shape = Shape { grid: (rows as u32, 1, 1), block: THREADS, shared_bytes: 0 };
        // SAFETY: the kernel's own arguments: the room was planned for as many rows, the logits are rows × vocab, and the
        // orders name only changes, masks and tokens that are there.
        unsafe { place.device.kernels.launch("sample", shape, arguments, &place.device.compute) }
    }
}
