//! Opening a file so that reading it ends.

use std::fs::File;
use std::io;
use std::path::Path;

use super::error::VolumeError;

/// Opens an ordinary file and says how many bytes it has.
///
/// Folders and devices are refused, and so are pipes: opening one waits for a writer for ever.
pub(super) fn open_ordinary(path: &Path) -> Result<(File, u64), VolumeError> {
    let open = || {
        let metadata = std::fs::metadata(path)?;
        if !metadata.is_file() {
            let why = "it is a folder, pipe or device";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        Ok((File::open(path)?, metadata.len()))
    };
    open().map_err(|error| VolumeError::read(path, error))
}
