//! Weights in a file, whoever wrote it: names and shapes at once, numbers when they are asked for.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;

use super::archive::{Archive, LARGEST_PICKLE};
use super::element::StoredType;
use super::error::WeightsError;
use super::pickle::{self, Fault, MOST_VALUES};
use super::value::{Place, Storage, Value, Values, View};
use crate::run::RunFolder;

/// What torch.save wrote before version 1.6 begins with: protocol 2 and a number of PyTorch's.
const LEGACY: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19";

/// Keys under which trainers keep their state dict, nnU-Net's first.
const USUAL_KEYS: [&str; 7] = [
    "network_weights",
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "network",
    "net",
];

/// Dictionaries in dictionaries that are looked into.
const DEEPEST: usize = 4;

/// The tensors of a file by name.
#[derive(Debug)]
pub struct WeightsFile {
    path: PathBuf,
    tensors: BTreeMap<String, View>,
    source: Source,
    /// The storage that was read last: tensors often share one.
    last: Option<(Storage, Vec<u8>)>,
}

#[derive(Debug)]
enum Source {
    PyTorch {
        archive: Box<Archive>,
        values: Values,
        outermost: Place,
        /// The dictionary with the tensors.
        state: Place,
    },
    /// The whole file.
    Safetensors(Vec<u8>),
}

impl WeightsFile {
    /// Opens what torch.save wrote (zip form, PyTorch 1.6 and later) or a safetensors file; which of them the content
    /// tells. Nothing in the file is run.
    ///
    /// # Errors
    /// [`WeightsError`]: a file of another kind, a damaged one, one that asks for code to be run.
    pub fn open(path: &Path) -> Result<Self, WeightsError> {
        if path.is_dir() {
            return Err(WeightsError::input(path, folder_instead(path)));
        }
        let read = |source| WeightsError::read(path, source);
        let mut head = Vec::new();
        let file = File::open(path).map_err(read)?;
        file.take(16).read_to_end(&mut head).map_err(read)?;
        let unknown = |reason| WeightsError::Unknown {
            path: path.to_owned(),
            reason,
        };
        match head.as_slice() {
            [b'P', b'K', ..] => Self::pytorch(path),
            [_, _, _, _, _, _, _, _, b'{', ..] => Self::safetensors(path),
            head if head.starts_with(LEGACY) => {
                refuse_forbidden(path)?;
                Err(WeightsError::OtherForm {
                    path: path.to_owned(),
                    what: "in the form of PyTorch before 1.6",
                    expression: "torch.load(OLD, weights_only=True)",
                })
            }
            [0x80, 2..=5, ..] => {
                refuse_forbidden(path)?;
                Err(unknown("it is a bare pickle"))
            }
            [] => Err(unknown("it is empty")),
            head => {
                // Pickles of the first protocols have no header; `c` is a name that is called later.
                if head[0] == b'c' {
                    refuse_forbidden(path)?;
                }
                Err(unknown(
                    "it begins like neither a zip archive nor safetensors",
                ))
            }
        }
    }

    fn pytorch(path: &Path) -> Result<Self, WeightsError> {
        let archive = Archive::open(path)?;
        let (values, outermost) = pickle::read(&archive.pickle()?).map_err(|f| told(path, f))?;
        let inner = |place| {
            let keys = USUAL_KEYS.iter();
            let mut found = keys.filter_map(|key| values.get(place, key));
            found.find(|&at| matches!(values.at(at), Value::Dictionary(_)))
        };
        let mut state = outermost;
        for _ in 1..DEEPEST {
            state = inner(state).unwrap_or(state);
        }
        let tensors: BTreeMap<String, View> = tensors_of(&values, state)
            .map(|(name, view)| (name.to_owned(), view.clone()))
            .collect();
        if tensors.is_empty() {
            return Err(WeightsError::NoTensors {
                path: path.to_owned(),
                found: content(&values, outermost),
            });
        }
        let source = Source::PyTorch {
            archive: archive.into(),
            values,
            outermost,
            state,
        };
        Ok(Self::new(path, tensors, source))
    }

    fn safetensors(path: &Path) -> Result<Self, WeightsError> {
        let bytes = std::fs::read(path).map_err(|e| WeightsError::read(path, e))?;
        let damaged = |e: safetensors::SafeTensorError| WeightsError::damaged(path, e.to_string());
        let (header, metadata) = SafeTensors::read_metadata(&bytes).map_err(damaged)?;
        // Checks that the tensors lie within the file.
        SafeTensors::deserialize(&bytes).map_err(damaged)?;
        let first = 8 + header;
        let mut tensors = BTreeMap::new();
        for (name, info) in metadata.tensors() {
            let Some(element) = StoredType::of_safetensors(info.dtype) else {
                return Err(WeightsError::Tensor {
                    path: path.to_owned(),
                    name,
                    reason: format!("its numbers are {:?}; save them as F32", info.dtype),
                });
            };
            let (from, to) = info.data_offsets;
            let storage = Storage {
                key: (first + from).to_string(),
                element,
                len: (to - from) / element.bytes(),
            };
            tensors.insert(name, View::contiguous(storage, info.shape.clone()));
        }
        Ok(Self::new(path, tensors, Source::Safetensors(bytes)))
    }

    fn new(path: &Path, tensors: BTreeMap<String, View>, source: Source) -> Self {
        Self {
            path: path.to_owned(),
            tensors,
            source,
            last: None,
        }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Name and shape of each tensor, in the order of the names.
    pub fn shapes(&self) -> impl Iterator<Item = (&str, &[usize])> {
        let tensors = self.tensors.iter();
        tensors.map(|(name, view)| (name.as_str(), view.shape.as_slice()))
    }

    /// The numbers of a tensor in the order of its axes, the last fastest, as f32. Those of 64 bits are rounded.
    ///
    /// # Errors
    /// [`WeightsError::Tensor`] where there is none of that name, where it reaches beyond its storage, or where a number of
    /// it is not finite; [`WeightsError::Damaged`] where its storage is cut off.
    pub fn read(&mut self, name: &str) -> Result<Vec<f32>, WeightsError> {
        let Some(view) = self.tensors.get(name).cloned() else {
            return Err(WeightsError::Tensor {
                path: self.path.clone(),
                name: name.to_owned(),
                reason: "there is no tensor of this name".into(),
            });
        };
        self.read_view(name, &view)
    }

    /// The numbers of `view`, which errors call `name`.
    pub(super) fn read_view(&mut self, name: &str, view: &View) -> Result<Vec<f32>, WeightsError> {
        let refused = |path: &Path, reason| WeightsError::Tensor {
            path: path.to_owned(),
            name: name.to_owned(),
            reason,
        };
        let len = view.checked_len().map_err(|r| refused(&self.path, r))?;
        let values = self.gather(view, len)?;
        match values.iter().position(|value| !value.is_finite()) {
            None => Ok(values),
            Some(at) => Err(refused(
                &self.path,
                format!(
                    "element {at} of {len} is {}, so that no result would be a number; give a checkpoint from before its training diverged",
                    values[at]
                ),
            )),
        }
    }

    fn gather(&mut self, view: &View, len: usize) -> Result<Vec<f32>, WeightsError> {
        match &self.source {
            Source::Safetensors(bytes) => {
                let from: usize = view.storage.key.parse().unwrap_or(usize::MAX);
                Ok(view.gather(bytes.get(from..).unwrap_or_default(), len, false))
            }
            Source::PyTorch { archive, .. } => {
                if !matches!(&self.last, Some((storage, _)) if *storage == view.storage) {
                    let storage = view.storage.clone();
                    let bytes = (storage.len * storage.element.bytes()) as u64;
                    let content = archive.storage(&storage.key, bytes)?;
                    self.last = Some((storage, content));
                }
                let bytes = self.last.as_ref().map_or(&[][..], |(_, bytes)| bytes);
                Ok(view.gather(bytes, len, archive.big_endian))
            }
        }
    }

    /// The text, or whole number in digits, at the end of a path of keys from the outermost dictionary of a checkpoint.
    pub fn entry(&self, keys: &[&str]) -> Option<String> {
        let (values, place) = self.at(keys)?;
        match values.at(place) {
            Value::Text(text) => Some(text.to_string()),
            Value::Int(number) => Some(number.to_string()),
            _ => None,
        }
    }

    /// The list of sizes at the end of a path of keys.
    pub fn sizes(&self, keys: &[&str]) -> Option<Vec<usize>> {
        let (values, place) = self.at(keys)?;
        let list = values.sequence(place)?.iter();
        list.map(|&at| values.size(at)).collect()
    }

    fn at(&self, keys: &[&str]) -> Option<(&Values, Place)> {
        let (values, outermost) = self.pickled()?;
        let find = |place, key: &&str| values.get(place, key);
        Some((values, keys.iter().try_fold(outermost, find)?))
    }

    /// All values of a PyTorch checkpoint, and the outermost.
    pub(super) fn pickled(&self) -> Option<(&Values, Place)> {
        match &self.source {
            Source::PyTorch {
                values, outermost, ..
            } => Some((values, *outermost)),
            Source::Safetensors(_) => None,
        }
    }

    /// Name and place of each tensor of a PyTorch checkpoint in the order of its state dict, which is that of
    /// the module; none of a safetensors file, which has no order.
    pub(super) fn in_order(&self) -> impl Iterator<Item = (&str, &View)> {
        let of_state = match &self.source {
            Source::PyTorch { values, state, .. } => Some(tensors_of(values, *state)),
            Source::Safetensors(_) => None,
        };
        of_state.into_iter().flatten()
    }

    /// Where the tensor `name` lies.
    pub(super) fn view(&self, name: &str) -> Option<&View> {
        self.tensors.get(name)
    }
}

/// What to give instead of a folder.
fn folder_instead(path: &Path) -> &'static str {
    match RunFolder::new(path).plan().is_file() {
        true => {
            "is the folder of a run; `voxseg train --from` begins with a run, and `voxseg export` writes its weights as a file"
        }
        false => "is a folder; give a file of weights (.pth, .pt, .safetensors)",
    }
}

/// Names what the pickles of a file without an archive would do, if that is more than tensors need.
fn refuse_forbidden(path: &Path) -> Result<(), WeightsError> {
    let mut pickles = Vec::new();
    let file = File::open(path).map_err(|e| WeightsError::read(path, e))?;
    file.take(LARGEST_PICKLE)
        .read_to_end(&mut pickles)
        .map_err(|e| WeightsError::read(path, e))?;
    match pickle::forbidden(&pickles) {
        Some(name) => Err(told(path, Fault::Forbidden(name))),
        None => Ok(()),
    }
}

fn told(path: &Path, fault: Fault) -> WeightsError {
    let path = path.to_owned();
    match fault {
        Fault::Damaged(reason) => WeightsError::Damaged { path, reason },
        Fault::Forbidden(name) => WeightsError::Forbidden { path, name },
        Fault::TooManyValues => WeightsError::TooLarge {
            path,
            what: "values in its pickle",
            limit: MOST_VALUES as u64,
        },
    }
}

/// The tensors of a dictionary in its order.
fn tensors_of(values: &Values, place: Place) -> impl Iterator<Item = (&str, &View)> {
    let entries = values.entries(place);
    entries.filter_map(|(name, at)| Some((name, values.tensor(at)?)))
}

/// What a pickle holds instead of tensors, in words.
fn content(values: &Values, place: Place) -> String {
    let keys: Vec<&str> = values.entries(place).map(|(key, _)| key).take(12).collect();
    match (values.at(place), keys.as_slice()) {
        (Value::Tensor(_), _) => "a single tensor".into(),
        (Value::Sequence(_), _) => "a list".into(),
        (_, []) => "none".into(),
        (_, keys) => format!("the keys {}", keys.join(", ")),
    }
}

impl View {
    fn contiguous(storage: Storage, shape: Vec<usize>) -> Self {
        let mut stride = vec![1usize; shape.len()];
        for axis in (1..shape.len()).rev() {
            stride[axis - 1] = stride[axis].saturating_mul(shape[axis].max(1));
        }
        Self {
            storage,
            offset: 0,
            shape,
            stride,
        }
    }

    /// The number of elements, where all of them lie within the storage and none is there many times over.
    fn checked_len(&self) -> Result<usize, String> {
        let mut sizes = self.shape.iter();
        let len = sizes.try_fold(1usize, |len, &n| len.checked_mul(n));
        let mut steps = self.shape.iter().zip(&self.stride);
        let last = steps.try_fold(self.offset, |at, (&n, &stride)| {
            at.checked_add(n.saturating_sub(1).checked_mul(stride)?)
        });
        let of = self.storage.len;
        match (len, last) {
            (Some(0), _) => Ok(0),
            (Some(len), Some(last)) if last < of && len <= of => Ok(len),
            (Some(len), Some(last)) if last < of => Err(format!(
                "it repeats the {of} elements of its storage to {len}; save it with .contiguous()"
            )),
            _ => Err(format!(
                "it reaches beyond the {of} elements of its storage (offset {}, shape {:?}, stride {:?}); the file is damaged",
                self.offset, self.shape, self.stride
            )),
        }
    }

    /// The `len` elements out of the bytes of the storage, which [`View::checked_len`] has found to be enough.
    fn gather(&self, storage: &[u8], len: usize, big_endian: bool) -> Vec<f32> {
        let (element, width) = (self.storage.element, self.storage.element.bytes());
        let mut values = Vec::with_capacity(len);
        let mut index = vec![0; self.shape.len()];
        for _ in 0..len {
            let steps = index.iter().zip(&self.stride);
            let at: usize = self.offset + steps.map(|(i, stride)| i * stride).sum::<usize>();
            let bytes = storage.get(at * width..).filter(|b| b.len() >= width);
            values.push(bytes.map_or(f32::NAN, |b| element.read(b, big_endian)));
            for axis in (0..index.len()).rev() {
                index[axis] += 1;
                if index[axis] < self.shape[axis] {
                    break;
                }
                index[axis] = 0;
            }
        }
        values
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(offset: usize, shape: &[usize], stride: &[usize], len: usize) -> View {
        View {
            storage: Storage {
                key: "0".into(),
                element: StoredType::U8,
                len,
            },
            offset,
            shape: shape.to_vec(),
            stride: stride.to_vec(),
        }
    }

    #[test]
    fn views_walk_their_storage() {
        let storage: Vec<u8> = (0..12).collect();
        for (view, expected) in [
            (view(0, &[2, 3], &[3, 1], 12), vec![0, 1, 2, 3, 4, 5]),
            (view(1, &[3, 2], &[1, 3], 12), vec![1, 4, 2, 5, 3, 6]),
            (view(5, &[], &[], 12), vec![5]),
            (view(0, &[2, 0], &[0, 1], 12), vec![]),
            (view(10, &[2], &[1], 12), vec![10, 11]),
            (view(3, &[3], &[0], 12), vec![3, 3, 3]),
        ] {
            let len = view.checked_len().unwrap();
            let expected: Vec<f32> = expected.into_iter().map(|v: u8| v.into()).collect();
            assert_eq!(view.gather(&storage, len, false), expected, "{view:?}");
        }
    }

    #[test]
    fn views_beyond_their_storage_are_refused() {
        let most = usize::MAX;
        for (view, word) in [
            (view(12, &[1], &[1], 12), "beyond"),
            (view(0, &[13], &[1], 12), "beyond"),
            (view(0, &[2, 2], &[11, 1], 12), "beyond"),
            (view(most, &[2], &[1], 12), "beyond"),
            (view(0, &[most, most], &[0, 0], 12), "beyond"),
            (view(0, &[2], &[most], 12), "beyond"),
            (view(0, &[1 << 40], &[0], 12), "contiguous"),
        ] {
            let reason = view.checked_len().unwrap_err();
            assert!(reason.contains(word), "{view:?}: {reason}");
        }
    }
}
