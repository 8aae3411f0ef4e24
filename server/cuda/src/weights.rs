//! A model's weights: packed in host memory, and the same on the device.

use std::sync::Arc;

use cudarc::driver::DriverError;
use cudarc::driver::sys::CUdeviceptr;
use quarry_cuda_layout::{Holding, Places};
use quarry_formats::quant::{TensorType, decode};
use quarry_model::backend::{BackendError, ModelFiles};
use quarry_model::spec::DecoderSpec;
use quarry_model::weights::WeightFile;

use crate::device::{Device, Memory};
use crate::host_bytes::HostBytes;
use crate::packing::{Form, HostMatrix};
use crate::upload::{Arrivals, Piece, Pieces, Upload};

/// One decoder layer; `M` is a matrix, `V` a vector of f32.
pub struct Layer<M, V> {
    pub attention_norm: V,
    /// Query, key and value, whose results lie one after another.
    pub qkv: [M; 3],
    /// As the results; none where the family has no biases.
    pub qkv_bias: Option<V>,
    pub query_norm: Option<V>,
    pub key_norm: Option<V>,
    pub output: M,
    pub mlp_norm: V,
    /// Gate and up, whose results lie one after another.
    pub gate_up: [M; 2],
    pub down: M,
}

/// Where a token's first hidden state comes from; `R` is a matrix of 16-bit rows as they are in the file.
pub enum Embedding<M, R> {
    Rows {
        form: Form,
        rows: R,
    },
    Packed(M),
    /// The head's rows, which are integers.
    Tied,
}

/// All of a model.
pub struct Weights<M, V, R> {
    pub embedding: Embedding<M, R>,
    pub layers: Vec<Layer<M, V>>,
    pub output_norm: V,
    pub head: M,
    /// RoPE: angle per position of each pair.
    pub frequencies: V,
    /// Factor on cos and sin.
    pub rope_factor: f32,
}

/// Packed, in host memory.
pub type HostWeights = Weights<HostMatrix, Vec<f32>, HostBytes>;

/// A matrix on the device.
#[derive(Clone, Copy, Debug)]
pub struct DeviceMatrix {
    pub form: Form,
    pub rows: usize,
    pub columns: usize,
    pub weights: CUdeviceptr,
    pub scales: CUdeviceptr,
}

/// Addresses within the memory that is held beside them.
pub struct DeviceWeights {
    pub all: Weights<DeviceMatrix, CUdeviceptr, CUdeviceptr>,
    _memory: Memory,
}

struct Loader<'a> {
    file: &'a WeightFile,
    /// Whose page-locked memory is taken.
    device: &'a Arc<Device>,
}

impl Loader<'_> {
    fn missing(name: &str) -> BackendError {
        BackendError::Tensor { tensor: name.to_owned(), what: "is missing".into() }
    }

    fn vector(&self, name: &str) -> Result<Vec<f32>, BackendError> {
        let (info, bytes) = self.file.tensor(name).ok_or_else(|| Self::missing(name))?;
        let mut out = vec![0.0; info.shape.iter().product()];
        decode(info.kind, &bytes, &mut out);
        Ok(out)
    }

    fn zeroed(&self, bytes: usize) -> HostBytes {
        HostBytes::zeroed(Some(self.device), bytes)
    }

    fn matrix(&self, name: &str) -> Result<HostMatrix, BackendError> {
        self.matrix_as(name, &Form::of)
    }

    /// In the form that `form_of` gives its type.
    fn matrix_as(
        &self,
        name: &str,
        form_of: &dyn Fn(TensorType) -> Form,
    ) -> Result<HostMatrix, BackendError> {
        let (info, bytes) = self.file.tensor(name).ok_or_else(|| Self::missing(name))?;
        let &[rows, columns] = &info.shape[..] else {
            let what = format!("has {} dimensions, a matrix has 2", info.shape.len());
            return Err(BackendError::Tensor { tensor: name.to_owned(), what });
        };
        let packed = HostMatrix::pack(info.kind, form_of(info.kind), rows, columns, &bytes, &|bytes| {
            self.zeroed(bytes)
        });
        drop(bytes);
        self.file.release(name); // the file's pages would else be there beside the packed form until the end
        Ok(packed)
    }
}

impl HostWeights {
    /// Packs every matrix; `progress` is told the share done.
    pub fn load(
        files: &ModelFiles,
        device: &Arc<Device>,
        holding: Holding,
        progress: &mut dyn FnMut(f32),
    ) -> Result<Self, BackendError> {
        let spec: &DecoderSpec = &files.spec;
        let load = Loader { file: &files.weights, device };
        let mut layers = Vec::with_capacity(spec.layers);
        for index in 0..spec.layers {
            let name = |part: &str| format!("blk.{index}.{part}");
            let matrix = |part: &str| load.matrix(&name(part));
            let vector = |part: &str| load.vector(&name(part));
            let mut bias = Vec::new();
            if spec.qkv_bias {
                for part in ["attn_q.bias", "attn_k.bias", "attn_v.bias"] {
                    bias.extend(vector(part)?);
                }
            }
            let norm = |part: &str| spec.qk_norm.then(|| vector(part)).transpose();
            layers.push(Layer {
                attention_norm: vector("attn_norm.weight")?,
                qkv: [matrix("attn_q.weight")?, matrix("attn_k.weight")?, matrix("attn_v.weight")?],
                qkv_bias: spec.qkv_bias.then_some(bias),
                query_norm: norm("attn_q_norm.weight")?,
                key_norm: norm("attn_k_norm.weight")?,
                output: matrix("attn_output.weight")?,
                mlp_norm: vector("ffn_norm.weight")?,
                gate_up: [matrix("ffn_gate.weight")?, matrix("ffn_up.weight")?],
                down: matrix("ffn_down.weight")?,
            });
            progress((index + 1) as f32 / (spec.layers + 1) as f32);
        }
        let name = "token_embd.weight";
        let kind = load.file.tensor(name).ok_or_else(|| Loader::missing(name))?.0.kind;
        let head =
            load.matrix_as(if spec.tied_head { name } else { "output.weight" }, &|kind| holding.head(kind))?;
        let embedding = match Form::of(kind) {
            Form::Awq => {
                let what = "is packed as AWQ, which has embeddings as they are".into();
                return Err(BackendError::Tensor { tensor: name.to_owned(), what });
            }
            form if !form.is_integer() => Embedding::Rows { form, rows: rows(&load, name)? },
            _ if spec.tied_head => Embedding::Tied,
            _ => Embedding::Packed(load.matrix(name)?),
        };
        let output_norm = load.vector("output_norm.weight")?;
        progress(1.0);
        let (frequencies, rope_factor) = quarry_model::rope::frequencies(&spec.rope);
        Ok(Self { embedding, layers, output_norm, head, frequencies, rope_factor })
    }

    /// Bytes on the device.
    pub fn bytes(&self) -> usize {
        let mut places = Places::default();
        self.place(&mut places);
        places.end
    }

    /// Queues the way to the device: page-locked parts are read until [`Arrivals`] says that the last one has come.
    pub fn upload(&self, device: &Arc<Device>) -> Result<(DeviceWeights, Arrivals), DriverError> {
        let memory = device.allocate(self.bytes())?;
        let mut upload = Upload::new(device, &memory);
        let all = self.place(&mut upload);
        let arrivals = upload.finish();
        if arrivals.is_err() {
            device.uploads.synchronize()?;
        }
        Ok((DeviceWeights { all, _memory: memory }, arrivals?))
    }

    /// Gives every piece to `to`, always in the same order, and keeps what it returns as the piece's address.
    fn place(&self, to: &mut dyn Pieces) -> Weights<DeviceMatrix, CUdeviceptr, CUdeviceptr> {
        let embedding = match &self.embedding {
            Embedding::Rows { form, rows } => {
                Embedding::Rows { form: *form, rows: to.put(Piece::Large(rows)) }
            }
            Embedding::Packed(matrix) => Embedding::Packed(place_matrix(matrix, to)),
            Embedding::Tied => Embedding::Tied,
        };
        // A tied embedding is the head, which the first layer would else not wait for.
        let tied = matches!(embedding, Embedding::Tied).then(|| place_matrix(&self.head, to));
        let frequencies = place_vector(&self.frequencies, to);
        to.end_part();
        let layers = self.layers.iter().map(|layer| {
            let placed = place_layer(layer, to);
            to.end_part();
            placed
        });
        let layers = layers.collect();
        let output_norm = place_vector(&self.output_norm, to);
        let head = tied.unwrap_or_else(|| place_matrix(&self.head, to));
        to.end_part();
        Weights { embedding, layers, output_norm, head, frequencies, rope_factor: self.rope_factor }
    }
}

fn place_layer(layer: &Layer<HostMatrix, Vec<f32>>, to: &mut dyn Pieces) -> Layer<DeviceMatrix, CUdeviceptr> {
    let mut vector = |v: &Vec<f32>| place_vector(v, to);
    let attention_norm = vector(&layer.attention_norm);
    let qkv_bias = layer.qkv_bias.as_ref().map(&mut vector);
    let query_norm = layer.query_norm.as_ref().map(&mut vector);
    let key_norm = layer.key_norm.as_ref().map(&mut vector);
    let mlp_norm = vector(&layer.mlp_norm);
    Layer {
        attention_norm,
        qkv: layer.qkv.each_ref().map(|m| place_matrix(m, to)),
        qkv_bias,
        query_norm,
        key_norm,
        output: place_matrix(&layer.output, to),
        mlp_norm,
        gate_up: layer.gate_up.each_ref().map(|m| place_matrix(m, to)),
        down: place_matrix(&layer.down, to),
    }
}

fn place_vector(vector: &[f32], to: &mut dyn Pieces) -> CUdeviceptr {
    to.put(Piece::Small(bytemuck::cast_slice(vector)))
}

fn place_matrix(matrix: &HostMatrix, to: &mut dyn Pieces) -> DeviceMatrix {
    let HostMatrix { form, rows, columns, ref weights, ref scales } = *matrix;
    let (weights, scales) = (to.put(Piece::Large(weights)), to.put(Piece::Large(scales)));
    DeviceMatrix { form, rows, columns, weights, scales }
}

/// Rows as 16-bit numbers.
fn rows(load: &Loader<'_>, name: &str) -> Result<HostBytes, BackendError> {
    let (info, bytes) = load.file.tensor(name).ok_or_else(|| Loader::missing(name))?;
    let count: usize = info.shape.iter().product();
    let mut rows = load.zeroed(2 * count);
    match info.kind {
        TensorType::F16 | TensorType::BF16 => rows.copy_from_slice(&bytes),
        kind => {
            let mut values = vec![0.0; count];
            decode(kind, &bytes, &mut values);
            for (to, value) in rows.as_chunks_mut::<2>().0.iter_mut().zip(values) {
                *to = half::bf16::from_f32(value).to_le_bytes();
            }
        }
    }
    Ok(rows)
}
