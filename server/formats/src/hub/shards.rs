//! The weight files of a folder: one, or those that its index names.

use std::collections::HashMap;
use std::path::Path;

use serde_json::Value;

use super::folder;
use super::limits::{INDEX_BYTES_MAX, SHARDS_MAX};
use crate::FormatError;
use crate::safetensors::SafetensorsFile;

/// Where a model that is one file lies.
const SINGLE: &str = "model.safetensors";
/// Says which file each tensor is in.
const INDEX: &str = "model.safetensors.index.json";

/// The files, and which of them each tensor is in.
type Shards = (Vec<SafetensorsFile>, HashMap<String, usize>);

pub(super) fn open(path: &Path) -> Result<Shards, FormatError> {
    let (names, map) = match folder::json_within(path, INDEX, INDEX_BYTES_MAX)? {
        Some(index) => {
            let map = weight_map(path, index)?;
            let mut names: Vec<String> = map.values().cloned().collect();
            names.sort();
            names.dedup();
            (names, Some(map))
        }
        None if path.join(SINGLE).exists() => (vec![SINGLE.to_owned()], None),
        None => return Err(folder::problem(path, format!("neither {SINGLE} nor {INDEX} is there"))),
    };
    if names.len() > SHARDS_MAX {
        let found = names.len();
        return Err(folder::problem(
            path,
            format!("{found} weight files are over SHARDS_MAX = {SHARDS_MAX}"),
        ));
    }
    let mut shards = Vec::new();
    let mut by_name = HashMap::new();
    for (index, name) in names.iter().enumerate() {
        let file = SafetensorsFile::open(&path.join(name))?;
        for tensor in file.tensors() {
            if map.as_ref().is_some_and(|map| map.get(&tensor.name) != Some(name)) {
                let what = format!("{name} has tensor {}, which {INDEX} does not place there", tensor.name);
                return Err(folder::problem(path, what));
            }
            if by_name.insert(tensor.name.clone(), index).is_some() {
                return Err(FormatError::Duplicate { what: "tensor", name: tensor.name.clone() }.within(path));
            }
        }
        shards.push(file);
    }
    let absent = map.iter().flatten().find(|(tensor, _)| !by_name.contains_key(*tensor));
    if let Some((tensor, file)) = absent {
        return Err(folder::problem(
            path,
            format!("{INDEX} places tensor {tensor} in {file}, where it is not"),
        ));
    }
    Ok((shards, by_name))
}

/// Tensor → file. A file is a plain name with the right ending, so that nothing outside the folder is opened.
fn weight_map(path: &Path, mut index: Value) -> Result<HashMap<String, String>, FormatError> {
    let bad = |problem: String| FormatError::Json { what: INDEX.to_owned(), problem }.within(path);
    let Value::Object(map) = index["weight_map"].take() else {
        return Err(bad("weight_map is missing or no object".to_owned()));
    };
    let mut files = HashMap::new();
    for (tensor, file) in map {
        let is_plain = |name: &str| {
            name.ends_with(".safetensors")
                && !name.starts_with('.')
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        };
        match file {
            Value::String(file) if is_plain(&file) => files.insert(tensor, file),
            other => {
                let found: String = other.to_string().chars().take(80).collect();
                return Err(bad(format!("{tensor} is in {found}, which is no name of a weight file")));
            }
        };
    }
    if files.is_empty() {
        return Err(bad("weight_map is empty".to_owned()));
    }
    Ok(files)
}
