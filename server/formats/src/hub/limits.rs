//! Bounds on the files of a model folder.

/// Bytes of `config.json`, `tokenizer_config.json` or `generation_config.json`. Published ones have up to 60 KiB.
pub const CONFIG_BYTES_MAX: u64 = 4 << 20;
/// Bytes of `tokenizer.json`. Qwen3's has 11 MB.
pub const TOKENIZER_BYTES_MAX: u64 = 64 << 20;
/// Bytes of a chat template in a file of its own.
pub const TEMPLATE_BYTES_MAX: u64 = 1 << 20;
/// Bytes of `model.safetensors.index.json`. One of 1,000 tensors has about 80 KiB.
pub const INDEX_BYTES_MAX: u64 = 16 << 20;
/// Weight files of a folder. The largest published models have some hundred.
pub const SHARDS_MAX: usize = 1024;
