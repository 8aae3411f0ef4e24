//! What can be wrong with a weight file. Each variant says what was found and where.

use std::path::PathBuf;

/// Why a weight file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// The file could not be opened or mapped.
    #[error("cannot open {}: {source}", .path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// The file was opened; its content is bad.
    #[error("{}: {error}", .path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: Box<FormatError>,
    },
    /// Not a regular file (a folder, a pipe, a device).
    #[error("not a regular file")]
    NotAFile,
    /// The first four bytes are not `GGUF`.
    #[error("not a GGUF file: it starts with {found:02x?}, not \"GGUF\"")]
    Magic {
        /// The first bytes.
        found: [u8; 4],
    },
    /// A version other than 2 and 3.
    #[error("GGUF version {version} is not supported (2 and 3 are){}", byte_order_note(.big_endian))]
    Version {
        /// As read in little-endian order.
        version: u32,
        /// It would be a supported version in big-endian order.
        big_endian: bool,
    },
    /// The file ends inside something.
    #[error("truncated: {what} at byte {at} needs {needed} bytes, {left} are left")]
    Truncated {
        /// What was being read.
        what: String,
        /// Where it starts.
        at: usize,
        /// Its length.
        needed: u64,
        /// Bytes to the end of the file.
        left: usize,
    },
    /// A named limit is exceeded.
    #[error("{what} at byte {at}: {found} is over the limit {limit_name} = {limit}")]
    Limit {
        /// What was being read.
        what: String,
        /// Where.
        at: usize,
        /// The file's number.
        found: u64,
        /// The constant in the format's `limits`.
        limit_name: &'static str,
        /// Its value.
        limit: u64,
    },
    /// Text that is not UTF-8, or a name that is empty or has control characters.
    #[error("{what} at byte {at} is not {expected}")]
    Text {
        /// What was being read.
        what: String,
        /// Where.
        at: usize,
        /// What it should be.
        expected: &'static str,
    },
    /// An unknown metadata type, an array of arrays, or a bool that is neither 0 nor 1.
    #[error("{key} at byte {at}: {problem} ({found})")]
    Metadata {
        /// The metadata key.
        key: String,
        /// Where.
        at: usize,
        /// What is wrong.
        problem: &'static str,
        /// The file's number.
        found: u64,
    },
    /// A metadata key or a tensor name occurs twice.
    #[error("{what} {name:?} occurs twice")]
    Duplicate {
        /// `metadata key` or `tensor`.
        what: &'static str,
        /// Which.
        name: String,
    },
    /// A tensor's element type is not one of [`crate::quant::TensorType::ALL`].
    #[error("tensor {tensor}: element type {type_name} (id {id}) is not supported; supported: {supported}")]
    TensorType {
        /// Which tensor.
        tensor: String,
        /// The id in the file.
        id: u32,
        /// The format's name where it is known.
        type_name: &'static str,
        /// What would do.
        supported: String,
    },
    /// A tensor's shape, offset or size is impossible.
    #[error("tensor {tensor}: {problem}")]
    Tensor {
        /// Which tensor.
        tensor: String,
        /// What is wrong, with the numbers.
        problem: String,
    },
    /// JSON that is malformed, or does not say what it must.
    #[error("{what}: {problem}")]
    Json {
        /// Which JSON text: a file's name, or `header`.
        what: String,
        /// What is wrong with it, with the place where that is known.
        problem: String,
    },
    /// A model folder that lacks a file, or has more than can be.
    #[error("{}: {problem}", .folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A metadata key is absent.
    #[error("metadata key {key} is missing")]
    MissingKey {
        /// Which.
        key: String,
    },
    /// A metadata value has another type or range than its reader needs.
    #[error("metadata key {key} should be {expected} but is {found}")]
    ValueType {
        /// Which.
        key: String,
        /// The type wanted.
        expected: &'static str,
        /// The type or value found.
        found: String,
    },
}

impl FormatError {
    /// Adds the file's path.
    pub(crate) fn within(self, path: &std::path::Path) -> Self {
        FormatError::Content { path: path.to_owned(), error: Box::new(self) }
    }
}

fn byte_order_note(big_endian: &bool) -> &'static str {
    if *big_endian { "; the file is big-endian" } else { "" }
}
