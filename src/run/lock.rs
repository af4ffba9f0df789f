//! One training at a time in a folder.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::PathBuf;

use super::RunFolder;

/// A run folder taken for this process, until it is dropped or the process ends, in whichever way: the lock is one of
/// the operating system, and the empty file that bears it says nothing by being there.
#[derive(Debug)]
pub struct RunLock {
    /// Closing it gives the lock back.
    _file: File,
    path: PathBuf,
    made_file: bool,
    made_folder: bool,
}

impl RunFolder {
    /// Takes the folder, which is made where it is missing; `None` where another process has it. A file system without
    /// locks refuses nobody.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn lock(&self) -> io::Result<Option<RunLock>> {
        let made_folder = !self.root().exists();
        fs::create_dir_all(self.root())?;
        let path = self.lock_file();
        let made_file = !path.exists();
        let mut options = OpenOptions::new();
        let file = options.create(true).append(true).open(&path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(e)) if e.kind() == io::ErrorKind::Unsupported => {}
            Err(TryLockError::Error(e)) => return Err(e),
        }
        Ok(Some(RunLock {
            _file: file,
            path,
            made_file,
            made_folder,
        }))
    }
}

impl RunLock {
    /// Gives the folder back as it was found, for a run that could not begin.
    pub fn withdraw(self) {
        // What stays is an empty file, which matters less than the error that ends the run.
        if self.made_file {
            let _ = fs::remove_file(&self.path);
        }
        if self.made_folder
            && let Some(folder) = self.path.parent()
        {
            let _ = fs::remove_dir(folder);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_taken_once_and_given_back_as_it_was() {
        let root = tempfile::tempdir().unwrap();
        let folder = RunFolder::new(root.path().join("run"));
        let lock = folder.lock().unwrap().expect("nobody has it");
        assert!(folder.lock().unwrap().is_none());
        lock.withdraw();
        assert!(!folder.root().exists());

        drop(folder.lock().unwrap().expect("it was given back"));
        assert!(folder.lock_file().exists(), "the file of a run stays");
        let lock = folder.lock().unwrap().expect("a file alone locks nothing");
        lock.withdraw();
        assert!(folder.lock_file().exists(), "it was there before");
    }
}
