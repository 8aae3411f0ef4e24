//! Writes safetensors files, for tests and generated models.

use std::io::{self, Write};

use serde_json::{Map, Value, json};

use super::StoredType;

/// A tensor to write; `data` is as long as the shape says.
#[derive(Clone, Debug)]
pub struct Piece {
    /// Its name.
    pub name: String,
    /// Element type.
    pub kind: StoredType,
    /// Row-major, slowest first.
    pub shape: Vec<usize>,
    /// Elements, little-endian.
    pub data: Vec<u8>,
}

/// Writes a whole file.
///
/// # Errors
/// Those of `out`, and a piece whose data does not fit its shape.
pub fn write(out: &mut dyn Write, pieces: &[Piece]) -> io::Result<()> {
    let mut header = Map::new();
    header.insert("__metadata__".into(), json!({"format": "pt"}));
    let mut end = 0;
    for piece in pieces {
        let expected = piece.shape.iter().product::<usize>() * piece.kind.bytes();
        if piece.data.len() != expected {
            let what = format!("{}: {} bytes, its shape has {expected}", piece.name, piece.data.len());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        let begin = end;
        end += expected;
        let entry = json!({"dtype": piece.kind.name(), "shape": piece.shape, "data_offsets": [begin, end]});
        header.insert(piece.name.clone(), entry);
    }
    let mut header = Value::Object(header).to_string();
    // As the reference implementation does, so that the data is aligned to 8 bytes.
    header.extend(std::iter::repeat_n(' ', header.len().next_multiple_of(8) - header.len()));
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(header.as_bytes())?;
    pieces.iter().try_for_each(|piece| out.write_all(&piece.data))
}
