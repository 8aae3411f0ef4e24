//! A model on disk in either form: a GGUF file, or a folder of the model hub.

use std::path::Path;

use crate::FormatError;
use crate::gguf::GgufFile;
use crate::hub::HubFolder;

/// A model's file or folder, checked.
#[derive(Debug)]
pub enum ModelFile {
    /// One GGUF file.
    Gguf(GgufFile),
    /// A folder with `config.json` and safetensors.
    Hub(HubFolder),
}

impl ModelFile {
    /// Opens what lies at `path`: a folder is one of the hub's, a file is GGUF.
    ///
    /// # Errors
    /// Those of [`HubFolder::open`] and [`GgufFile::open`].
    pub fn open(path: &Path) -> Result<Self, FormatError> {
        if path.is_dir() {
            HubFolder::open(path).map(Self::Hub)
        } else {
            GgufFile::open(path).map(Self::Gguf)
        }
    }
}
