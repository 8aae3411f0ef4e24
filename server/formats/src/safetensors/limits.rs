//! Bounds on what a safetensors file may claim, far above the largest published models.

/// Bytes of the JSON header. Files of 1,000 tensors have about 100 KiB.
pub const HEADER_BYTES_MAX: usize = 16 << 20;
/// Tensors. A dense model of 100 layers has about 1,200, quantized with AWQ 2,700.
pub const TENSORS_MAX: usize = 65_536;
/// Bytes of a tensor name.
pub const TENSOR_NAME_BYTES_MAX: usize = 256;
/// Dimensions of a tensor.
pub const DIMENSIONS_MAX: usize = 8;
