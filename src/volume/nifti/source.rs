//! The bytes of a file, inflated where they are gzip, never more than asked for.

use std::io::{self, BufRead, BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::GzDecoder;

use super::super::error::VolumeError;
use super::super::open::open_ordinary;

/// Deflate cannot shrink more than this (RFC 1951: 258 bytes out of two bits), so the size of a
/// compressed file bounds what it can hold.
const MOST_INFLATION: u64 = 1032;

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// A file being read from front to back.
pub(super) struct Source {
    path: PathBuf,
    reader: Box<dyn Read>,
    compressed: bool,
    /// More bytes than this are not in the file.
    bound: u64,
    position: u64,
}

impl Source {
    pub(super) fn open(path: &Path) -> Result<Self, VolumeError> {
        let (file, length) = open_ordinary(path)?;
        let mut file = BufReader::with_capacity(1 << 16, file);
        let start = file
            .fill_buf()
            .map_err(|error| VolumeError::read(path, error))?;
        let compressed = start.starts_with(&GZIP_MAGIC);
        let (reader, bound): (Box<dyn Read>, u64) = if compressed {
            let members = Members {
                current: Some(GzDecoder::new(file)),
            };
            (Box::new(members), length.saturating_mul(MOST_INFLATION))
        } else {
            (Box::new(file), length)
        };
        Ok(Self {
            path: path.to_owned(),
            reader,
            compressed,
            bound,
            position: 0,
        })
    }

    /// The file, for messages.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Checks, before any memory is taken, that `bytes` more can be there.
    pub(super) fn expect(&self, part: &'static str, bytes: u64) -> Result<(), VolumeError> {
        let left = self.bound.saturating_sub(self.position);
        if bytes <= left {
            return Ok(());
        }
        Err(self.truncated(part, bytes, left))
    }

    /// Fills `buffer`, which is the bytes from `done` on of a `part` of `whole` bytes.
    pub(super) fn fill(
        &mut self,
        part: &'static str,
        done: u64,
        whole: u64,
        buffer: &mut [u8],
    ) -> Result<(), VolumeError> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.read_some(&mut buffer[filled..]) {
                Ok(0) => return Err(self.truncated(part, whole, done + filled as u64)),
                Ok(count) => filled += count,
                // A compressed file that is cut off.
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                    return Err(self.truncated(part, whole, done + filled as u64));
                }
                Err(error) => return Err(self.failed(error)),
            }
        }
        Ok(())
    }

    /// Goes forward to a byte offset.
    pub(super) fn skip_to(&mut self, offset: u64) -> Result<(), VolumeError> {
        let distance = offset.saturating_sub(self.position);
        let part = "the part before the voxels (vox_offset)";
        self.expect(part, distance)?;
        let mut done = 0;
        let mut buffer = [0; 4096];
        while done < distance {
            let count = (distance - done).min(buffer.len() as u64) as usize;
            self.fill(part, done, distance, &mut buffer[..count])?;
            done += count as u64;
        }
        Ok(())
    }

    /// Reads on to the end, which also checks a gzip file's checksum, but no further than `most`
    /// bytes. Returns whether the end was reached.
    pub(super) fn ends_within(&mut self, most: usize) -> Result<bool, VolumeError> {
        let mut buffer = vec![0; most + 1];
        let mut filled = 0;
        while filled < buffer.len() {
            match self
                .read_some(&mut buffer[filled..])
                .map_err(|error| self.failed(error))?
            {
                0 => return Ok(true),
                count => filled += count,
            }
        }
        Ok(false)
    }

    /// As [`Read::read`], counted and not to be interrupted.
    fn read_some(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.reader.read(buffer) {
                Ok(count) => {
                    self.position += count as u64;
                    return Ok(count);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn failed(&self, error: io::Error) -> VolumeError {
        let damaged = matches!(
            error.kind(),
            ErrorKind::InvalidInput | ErrorKind::InvalidData | ErrorKind::UnexpectedEof
        );
        if self.compressed && damaged {
            VolumeError::Gzip {
                path: self.path.clone(),
                source: error,
            }
        } else {
            VolumeError::read(&self.path, error)
        }
    }

    fn truncated(&self, part: &'static str, expected: u64, found: u64) -> VolumeError {
        VolumeError::Truncated {
            path: self.path.clone(),
            part,
            expected,
            found,
        }
    }
}

/// The members of a gzip file one after another, as `gzip -d` reads them: padding with zeros and
/// anything else that begins no further member is ignored. (flate2's `MultiGzDecoder` takes such
/// padding, which tape and cloud tools leave, for a damaged member.)
struct Members<R> {
    current: Option<GzDecoder<R>>,
}

impl<R: BufRead> Read for Members<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(member) = &mut self.current {
            let count = member.read(buffer)?;
            if count > 0 || buffer.is_empty() {
                return Ok(count);
            }
            let Some(mut rest) = self.current.take().map(GzDecoder::into_inner) else {
                break;
            };
            if another_member(&mut rest)? {
                self.current = Some(GzDecoder::new(rest));
            }
        }
        Ok(0)
    }
}

/// Skips zeros; whether a gzip member begins behind them.
fn another_member(reader: &mut impl BufRead) -> io::Result<bool> {
    loop {
        let buffer = reader.fill_buf()?;
        match buffer.iter().position(|&byte| byte != 0) {
            Some(start) => {
                let found = buffer[start] == GZIP_MAGIC[0];
                reader.consume(start);
                return Ok(found);
            }
            None if buffer.is_empty() => return Ok(false),
            None => {
                let zeros = buffer.len();
                reader.consume(zeros);
            }
        }
    }
}
