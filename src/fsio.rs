//! Files written whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// How the names of temporary files begin; a killed process leaves them behind.
const TEMPORARY: &str = ".voxseg-";

/// Links in a row that are followed; as many as Linux follows.
const MOST_LINKS: usize = 40;

/// Writes a file so that a reader sees either the old content or all of the new one.
///
/// The content goes to a temporary file in the same folder, is flushed and fsynced, renamed over
/// `path`, and the folder is fsynced. Missing parent folders are created. Symbolic links stay: what they point to is
/// written. What is no regular file, such as a pipe or `/dev/stdout`, has no old content to keep and takes the new one
/// as it comes.
///
/// # Errors
/// Any I/O error of `fill` or of the file system (a full disk among them); `path` is then untouched
/// and the temporary file removed.
pub fn write_atomic(
    path: &Path,
    fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    if let Ok(metadata) = fs::metadata(path)
        && !metadata.is_file()
        && !metadata.is_dir()
    {
        let mut writer = BufWriter::new(OpenOptions::new().write(true).open(path)?);
        fill(&mut writer)?;
        return writer.flush();
    }
    let path = &linked(path)?;
    let folder = match path.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        _ => Path::new("."),
    };
    fs::create_dir_all(folder)?;
    // Not `tempfile_in`, whose errors name the temporary file and whose files are private to the user.
    let create = |path: &Path| OpenOptions::new().write(true).create_new(true).open(path);
    let mut temporary = tempfile::Builder::new()
        .prefix(TEMPORARY)
        .make_in(folder, create)?;
    let mut writer = BufWriter::new(temporary.as_file_mut());
    fill(&mut writer)?;
    writer.flush()?;
    drop(writer);
    temporary.as_file().sync_all()?;
    temporary.persist(path).map_err(|e| e.error)?;
    sync_folder(folder)
}

/// The file that `path` means once symbolic links are followed, whether it is there or not.
fn linked(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..MOST_LINKS {
        let Ok(target) = fs::read_link(&path) else {
            return Ok(path);
        };
        path = path.parent().unwrap_or(Path::new("")).join(target);
    }
    let why = "symbolic links that lead nowhere";
    Err(io::Error::new(io::ErrorKind::InvalidInput, why))
}

/// Whether `name` is that of a temporary file of [`write_atomic`].
pub fn is_temporary(name: &std::ffi::OsStr) -> bool {
    name.as_encoded_bytes().starts_with(TEMPORARY.as_bytes())
}

/// Removes the temporary files that a killed process left in `folder`, as far as possible. Nobody else may be writing
/// there.
pub fn remove_temporaries(folder: &Path) {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| is_temporary(&entry.file_name())) {
        // What cannot be removed only takes up space.
        let _ = fs::remove_file(entry.path());
    }
}

/// Whether the user can mend what the system said by giving another path or other files. A full or failing disk is the
/// machine's.
pub fn is_users_fault(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound
            | io::ErrorKind::PermissionDenied
            | io::ErrorKind::IsADirectory
            | io::ErrorKind::NotADirectory
            | io::ErrorKind::AlreadyExists
            | io::ErrorKind::InvalidData
            | io::ErrorKind::InvalidFilename
            | io::ErrorKind::InvalidInput
            | io::ErrorKind::ReadOnlyFilesystem
    )
}

/// A rename is durable only once the folder that holds the name is on disk.
#[cfg(unix)]
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(not(unix))]
fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_file_and_no_temporary() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        write_atomic(&path, |w| w.write_all(b"old")).unwrap();
        let failed = write_atomic(&path, |w| {
            w.write_all(b"half of the new")?;
            Err(io::Error::other("disk full"))
        });
        assert!(failed.is_err());
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn links_and_pipes_stay_what_they_are() {
        use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};

        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("data")).unwrap();
        // To a file that is not there yet, then to one that is.
        symlink("data/real.txt", at("near")).unwrap();
        symlink("near", at("far")).unwrap();
        for content in [&b"first"[..], b"second"] {
            write_atomic(&at("far"), |w| w.write_all(content)).unwrap();
            assert_eq!(fs::read(at("data/real.txt")).unwrap(), content);
        }
        assert!(at("far").is_symlink() && at("near").is_symlink());
        symlink("round", at("round")).unwrap();
        let failed = write_atomic(&at("round"), |w| w.write_all(b"x")).unwrap_err();
        assert!(is_users_fault(&failed), "{failed}");

        let made = std::process::Command::new("mkfifo")
            .arg(at("pipe"))
            .status();
        assert!(made.unwrap().success());
        let reader = std::thread::spawn({
            let pipe = at("pipe");
            move || fs::read(pipe).unwrap()
        });
        write_atomic(&at("pipe"), |w| w.write_all(b"through")).unwrap();
        assert_eq!(reader.join().unwrap(), b"through");
        assert!(fs::metadata(at("pipe")).unwrap().file_type().is_fifo());

        let mode = fs::metadata(at("data/real.txt")).unwrap().permissions();
        assert_eq!(mode.mode() & 0o600, 0o600);
    }

    #[test]
    fn errors_do_not_name_the_temporary_file() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("file"), b"").unwrap();
        let path = folder.path().join("file/a.txt");
        let error = write_atomic(&path, |w| w.write_all(b"x")).unwrap_err();
        assert!(!error.to_string().contains(TEMPORARY), "{error}");
    }
}
