//! A model's tensors under one set of names, whatever file or folder they are in.
//!
//! The names are those of GGUF files (`blk.0.attn_q.weight`). A GGUF file's tensors are lent as they lie there; a hub
//! folder's are found by the hub's names (`model.layers.0.self_attn.q_proj.weight`), and AWQ's three tensors of a matrix
//! are gathered into rows each time they are asked for, so that only one matrix is in memory twice.

use std::borrow::Cow;
use std::collections::HashMap;

use quarry_formats::quant::{self, TensorType};
use quarry_formats::safetensors::StoredType;
use quarry_formats::{ModelFile, awq};

/// A tensor's description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeightInfo {
    /// Its name, as GGUF files have it.
    pub name: String,
    /// Element type.
    pub kind: TensorType,
    /// Row-major, slowest first: `[rows, columns]` for a matrix.
    pub shape: Vec<usize>,
    /// Bytes as [`WeightFile::tensor`] gives them.
    pub bytes: usize,
}

/// Where a tensor's bytes come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// The file's tensor of this name, as it is.
    Stored(String),
    /// The file's `NAME.qweight`, `NAME.qzeros` and `NAME.scales`.
    Awq(String),
}

/// A model's tensors.
#[derive(Debug)]
pub struct WeightFile {
    file: ModelFile,
    tensors: Vec<WeightInfo>,
    places: Vec<Place>,
    by_name: HashMap<String, usize>,
}

impl WeightFile {
    /// `tensors` of `file`, with the place of each.
    pub(crate) fn new(file: ModelFile, tensors: Vec<(WeightInfo, Place)>) -> Self {
        let by_name = tensors.iter().enumerate().map(|(i, (info, _))| (info.name.clone(), i)).collect();
        let (tensors, places) = tensors.into_iter().unzip();
        Self { file, tensors, places, by_name }
    }

    /// The file or folder: for what is not a tensor.
    pub fn file(&self) -> &ModelFile {
        &self.file
    }

    /// All tensors.
    pub fn tensors(&self) -> &[WeightInfo] {
        &self.tensors
    }

    /// A tensor's description and bytes: rows of blocks of its type, one after another.
    pub fn tensor(&self, name: &str) -> Option<(&WeightInfo, Cow<'_, [u8]>)> {
        let index = *self.by_name.get(name)?;
        let info = &self.tensors[index];
        let bytes = match (&self.file, &self.places[index]) {
            (ModelFile::Gguf(file), Place::Stored(name)) => Cow::Borrowed(file.tensor(name)?.1),
            (ModelFile::Hub(folder), Place::Stored(name)) => Cow::Borrowed(folder.tensor(name)?.1),
            (ModelFile::Hub(folder), Place::Awq(name)) => {
                let part = |kind: &str| folder.tensor(&format!("{name}.{kind}"));
                let (scales, halves) = part("scales")?;
                let halves = match scales.kind {
                    // Eight bits of mantissa fit; what is too small for a normal half is no weight of any weight.
                    StoredType::BF16 => {
                        let mut values = vec![0.0; halves.len() / 2];
                        quant::decode(TensorType::BF16, halves, &mut values);
                        Cow::Owned(quant::encode(TensorType::F16, &values))
                    }
                    _ => Cow::Borrowed(halves),
                };
                let size = (info.shape[1], info.shape[0]);
                // Its parts were checked when the folder was described.
                let matrix = awq::Matrix::new(size, part("qweight")?.1, part("qzeros")?.1, &halves).ok()?;
                Cow::Owned(matrix.rows())
            }
            (ModelFile::Gguf(_), Place::Awq(_)) => return None,
        };
        Some((info, bytes))
    }

    /// Lets a tensor's memory go until it is read again: a loader that has packed it needs it no more.
    pub fn release(&self, name: &str) {
        let Some(&index) = self.by_name.get(name) else { return };
        match (&self.file, &self.places[index]) {
            (ModelFile::Gguf(file), Place::Stored(name)) => file.release(name),
            (ModelFile::Hub(folder), Place::Stored(name)) => folder.release(name),
            (ModelFile::Hub(folder), Place::Awq(name)) => {
                for kind in ["qweight", "qzeros", "scales"] {
                    folder.release(&format!("{name}.{kind}"));
                }
            }
            (ModelFile::Gguf(_), Place::Awq(_)) => {}
        }
    }
}
