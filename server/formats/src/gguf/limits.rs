//! Bounds on what a file may claim. All are far above the largest published models; a file over one is refused.

/// Bytes from the start of the file to the tensor data: header, metadata, tensor descriptions. Vocabulary and
/// merges of 256k entries take about 10 MiB.
pub const HEADER_BYTES_MAX: usize = 64 << 20;
/// Metadata entries. Published files have about 40.
pub const METADATA_ENTRIES_MAX: usize = 4096;
/// Elements of all arrays together. The worst case, empty strings, costs 24 bytes of memory each.
pub const ARRAY_ELEMENTS_MAX: usize = 4 << 20;
/// Bytes of one string (chat templates, embedded tokenizer files).
pub const STRING_BYTES_MAX: usize = 16 << 20;
/// Bytes of a metadata key, as the format's description says.
pub const KEY_BYTES_MAX: usize = 65_535;
/// Tensors. A dense model of 100 layers has about 1,200.
pub const TENSORS_MAX: usize = 65_536;
/// Bytes of a tensor name, as the format's description says.
pub const TENSOR_NAME_BYTES_MAX: usize = 64;
/// Dimensions of a tensor, as the format's description says.
pub const DIMENSIONS_MAX: usize = 4;
/// Alignment of the tensor data where the file does not say.
pub const ALIGNMENT_DEFAULT: usize = 32;
/// Largest alignment a file may ask for.
pub const ALIGNMENT_MAX: usize = 65_536;
