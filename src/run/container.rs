//! The safetensors layout by hand: the crate keeps metadata in a hash map, whose order differs from run to run, and the same
//! content must be the same bytes.

use std::io;
use std::path::Path;

use crate::fsio::write_atomic;

/// One f32 tensor of a file.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its extents, in whatever number of axes it is to have.
    pub shape: &'a [usize],
    /// Its numbers, the last axis fastest.
    pub data: &'a [f32],
}

/// Writes `entries` in their order with `metadata`, an object of texts, whole or not at all.
///
/// # Errors
/// Those of [`write_atomic`].
pub fn write_safetensors(
    path: &Path,
    entries: &[Entry<'_>],
    metadata: serde_json::Value,
) -> io::Result<()> {
    let mut header = serde_json::Map::new();
    header.insert("__metadata__".into(), metadata);
    let mut end = 0;
    for entry in entries {
        let start = end;
        end += 4 * entry.data.len();
        header.insert(
            entry.name.to_owned(),
            serde_json::json!({"dtype": "F32", "shape": entry.shape, "data_offsets": [start, end]}),
        );
    }
    let mut text = serde_json::Value::Object(header).to_string().into_bytes();
    text.resize(text.len().next_multiple_of(8), b' ');
    write_atomic(path, |writer| {
        writer.write_all(&(text.len() as u64).to_le_bytes())?;
        writer.write_all(&text)?;
        for entry in entries {
            let bytes: Vec<u8> = entry.data.iter().flat_map(|v| v.to_le_bytes()).collect();
            writer.write_all(&bytes)?;
        }
        Ok(())
    })
}
