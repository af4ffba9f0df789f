//! NIfTI files laid down byte by byte from the standard, independent of the crate's own writer.

use std::path::Path;

/// The fields of a header and the voxels behind it; change what the test is about.
#[derive(Debug, Clone)]
pub struct Raw {
    pub two: bool,
    pub big_endian: bool,
    pub size: i32,
    pub magic: Vec<u8>,
    pub dim: [i64; 8],
    pub datatype: i16,
    pub bitpix: i16,
    pub pixdim: [f64; 8],
    pub vox_offset: f64,
    pub slope: f64,
    pub inter: f64,
    pub units: i32,
    pub qform_code: i32,
    pub sform_code: i32,
    pub quaternion: [f64; 3],
    pub qoffset: [f64; 3],
    pub srow: [[f64; 4]; 3],
    /// Between the header and the voxels: the extension flag and whatever `vox_offset` skips.
    pub between: Vec<u8>,
    pub voxels: Vec<u8>,
}

impl Raw {
    /// 2 x 3 x 4 (x, y, z) voxels of `u8`, counting from 0, spacing 0.5 x 0.75 x 3 mm.
    pub fn version(two: bool) -> Self {
        let size = if two { 540 } else { 348 };
        Self {
            two,
            big_endian: false,
            size,
            magic: if two {
                b"n+2\0\r\n\x1a\n".to_vec()
            } else {
                b"n+1\0".to_vec()
            },
            dim: [3, 2, 3, 4, 1, 1, 1, 1],
            datatype: 2,
            bitpix: 8,
            pixdim: [1.0, 0.5, 0.75, 3.0, 1.0, 1.0, 1.0, 1.0],
            vox_offset: f64::from(size + 4),
            slope: 1.0,
            inter: 0.0,
            units: 2,
            qform_code: 0,
            sform_code: 1,
            quaternion: [0.0; 3],
            qoffset: [0.0; 3],
            srow: [
                [0.5, 0.0, 0.0, -8.0],
                [0.0, 0.75, 0.0, 4.0],
                [0.0, 0.0, 3.0, 16.0],
            ],
            between: vec![0; 4],
            voxels: (0..24).collect(),
        }
    }

    pub fn one() -> Self {
        Self::version(false)
    }

    /// Replaces the voxels; `bitpix` follows from their length, the shape stays.
    pub fn with_voxels(mut self, datatype: i16, voxels: Vec<u8>) -> Self {
        let count: i64 = self.dim[1..4].iter().product();
        self.bitpix = (8 * voxels.len() as i64 / count) as i16;
        self.datatype = datatype;
        self.voxels = voxels;
        self
    }

    pub fn header(&self) -> Vec<u8> {
        let mut bytes = vec![0; if self.two { 540 } else { 348 }];
        self.put(&mut bytes, 0, self.size.to_le_bytes());
        if self.two {
            bytes[4..4 + self.magic.len()].copy_from_slice(&self.magic);
            self.put(&mut bytes, 12, self.datatype.to_le_bytes());
            self.put(&mut bytes, 14, self.bitpix.to_le_bytes());
            for (i, extent) in self.dim.iter().enumerate() {
                self.put(&mut bytes, 16 + 8 * i, extent.to_le_bytes());
            }
            self.put(&mut bytes, 168, (self.vox_offset as i64).to_le_bytes());
            self.put(&mut bytes, 344, self.qform_code.to_le_bytes());
            self.put(&mut bytes, 348, self.sform_code.to_le_bytes());
            self.put(&mut bytes, 500, self.units.to_le_bytes());
            self.reals(&mut bytes, 104, &self.pixdim);
            self.reals(&mut bytes, 176, &[self.slope, self.inter]);
            self.reals(&mut bytes, 352, &self.quaternion);
            self.reals(&mut bytes, 376, &self.qoffset);
            self.reals(&mut bytes, 400, self.srow.as_flattened());
        } else {
            bytes[344..344 + self.magic.len()].copy_from_slice(&self.magic);
            for (i, &extent) in self.dim.iter().enumerate() {
                self.put(&mut bytes, 40 + 2 * i, (extent as i16).to_le_bytes());
            }
            self.put(&mut bytes, 70, self.datatype.to_le_bytes());
            self.put(&mut bytes, 72, self.bitpix.to_le_bytes());
            bytes[123] = self.units as u8;
            self.put(&mut bytes, 252, (self.qform_code as i16).to_le_bytes());
            self.put(&mut bytes, 254, (self.sform_code as i16).to_le_bytes());
            self.reals(&mut bytes, 76, &self.pixdim);
            self.reals(&mut bytes, 108, &[self.vox_offset, self.slope, self.inter]);
            self.reals(&mut bytes, 256, &self.quaternion);
            self.reals(&mut bytes, 268, &self.qoffset);
            self.reals(&mut bytes, 280, self.srow.as_flattened());
        }
        bytes
    }

    /// The whole `.nii` file.
    pub fn bytes(&self) -> Vec<u8> {
        [&self.header()[..], &self.between, &self.voxels].concat()
    }

    /// Writes the `.nii` file and gives its path back.
    pub fn save<'a>(&self, path: &'a Path) -> &'a Path {
        std::fs::write(path, self.bytes()).unwrap();
        path
    }

    fn put<const N: usize>(&self, bytes: &mut [u8], at: usize, mut number: [u8; N]) {
        if self.big_endian {
            number.reverse();
        }
        bytes[at..at + N].copy_from_slice(&number);
    }

    fn reals(&self, bytes: &mut [u8], at: usize, values: &[f64]) {
        for (i, &value) in values.iter().enumerate() {
            if self.two {
                self.put(bytes, at + 8 * i, value.to_le_bytes());
            } else {
                self.put(bytes, at + 4 * i, (value as f32).to_le_bytes());
            }
        }
    }
}
