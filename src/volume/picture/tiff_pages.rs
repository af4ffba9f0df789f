//! Whether a TIFF file holds more than the first page, which is all its decoder reads.

use std::io::{self, Read, Seek, SeekFrom};

/// Follows the file header to the first directory and looks whether that names a second one.
///
/// Layout: TIFF 6.0, section 2, and BigTIFF (offsets and counts of eight bytes). A file that is
/// neither, or is cut off here, has one page for us; its decoder says what is wrong with it.
pub(super) fn has_further_page(file: &mut (impl Read + Seek)) -> io::Result<bool> {
    match next_directory(file) {
        Ok(next) => Ok(next.is_some_and(|offset| offset != 0)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// The offset behind the first directory's entries, or `None` where this is no TIFF.
fn next_directory(file: &mut (impl Read + Seek)) -> io::Result<Option<u64>> {
    file.rewind()?;
    let mut magic = [0; 4];
    file.read_exact(&mut magic)?;
    let (big_endian, big_tiff) = match &magic {
        b"II*\0" => (false, false),
        b"MM\0*" => (true, false),
        b"II+\0" => (false, true),
        b"MM\0+" => (true, true),
        _ => return Ok(None),
    };
    let mut number = |at: u64, bytes: usize| -> io::Result<u64> {
        file.seek(SeekFrom::Start(at))?;
        let mut field = [0; 8];
        let field = &mut field[..bytes];
        file.read_exact(field)?;
        if !big_endian {
            field.reverse();
        }
        Ok(field
            .iter()
            .fold(0, |number, &byte| number << 8 | u64::from(byte)))
    };
    let (offset_bytes, count_bytes, entry_bytes) = if big_tiff { (8, 8, 20) } else { (4, 2, 12) };
    let first = number(offset_bytes as u64, offset_bytes)?;
    let entries = number(first, count_bytes)?;
    let next = entries
        .checked_mul(entry_bytes)
        .and_then(|size| size.checked_add(count_bytes as u64))
        .and_then(|size| size.checked_add(first))
        .ok_or(io::ErrorKind::UnexpectedEof)?;
    number(next, offset_bytes).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    /// A file of one directory with one entry, followed by `next`.
    fn classic(next: u32) -> Vec<u8> {
        let mut bytes = b"MM\0*".to_vec();
        bytes.extend(8_u32.to_be_bytes());
        bytes.extend(1_u16.to_be_bytes());
        bytes.extend([0; 12]);
        bytes.extend(next.to_be_bytes());
        bytes
    }

    fn big(next: u64) -> Vec<u8> {
        let mut bytes = b"II+\0\x08\0\0\0".to_vec();
        bytes.extend(16_u64.to_le_bytes());
        bytes.extend(2_u64.to_le_bytes());
        bytes.extend([0; 40]);
        bytes.extend(next.to_le_bytes());
        bytes
    }

    #[test]
    fn further_pages_are_seen() {
        let further = |bytes: Vec<u8>| has_further_page(&mut Cursor::new(bytes)).unwrap();
        assert!(further(classic(26)));
        assert!(!further(classic(0)));
        assert!(further(big(99)));
        assert!(!further(big(0)));
    }

    #[test]
    fn nonsense_is_left_to_the_decoder() {
        for bytes in [
            vec![],
            b"II*\0\xff\xff\xff\xff".to_vec(),
            [b"MM\0+\0\x08\0\0".to_vec(), vec![0xff; 30]].concat(),
            b"a text".to_vec(),
        ] {
            assert!(!has_further_page(&mut Cursor::new(bytes)).unwrap());
        }
    }
}
