//! What a checkpoint's pickle may hold, as plain data.

use super::element::StoredType;

/// The place of a value in [`Values`]. Values refer to each other by place, so that neither a cycle nor a deep nesting
/// in a file makes anything recursive here.
pub(super) type Place = u32;

/// A value.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Int(i64),
    Float(f64),
    Truth(bool),
    Text(Box<str>),
    /// A list, tuple or set.
    Sequence(Vec<Place>),
    Dictionary(Vec<(Place, Place)>),
    /// A class or function that the reader knows.
    Name(Known),
    Storage(Box<Storage>),
    Tensor(Box<View>),
    /// None, bytes, a number of numpy's, a device: nothing that weights need.
    Inert,
}

/// What stands behind the names that a checkpoint may mention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// `torch._utils._rebuild_tensor` and `_v2`: storage, offset, size, stride, ...
    RebuildTensor,
    /// `_v3`: the same with the type of the elements, of which the storage knows nothing.
    RebuildTypedTensor,
    /// `_rebuild_parameter`: its first argument is the tensor.
    RebuildParameter,
    OrderedDict,
    /// `torch.Size`: its argument, a tuple.
    Size,
    /// A storage class, and the type of its elements.
    Storage(StoredType),
    /// `torch.float32` and the like.
    Type(StoredType),
    /// What makes [`Value::Inert`] of whatever it is called with.
    Inert,
}

impl Known {
    /// What `module.name` stands for; nothing else may be mentioned.
    pub(super) fn of(module: &str, name: &str) -> Option<Self> {
        Some(match (module, name) {
            ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2") => Self::RebuildTensor,
            ("torch._utils", "_rebuild_tensor_v3") => Self::RebuildTypedTensor,
            ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => {
                Self::RebuildParameter
            }
            ("collections", "OrderedDict") => Self::OrderedDict,
            ("torch", "Size") => Self::Size,
            ("torch" | "torch.storage", "UntypedStorage") => Self::Storage(StoredType::U8),
            ("torch", name) if name.ends_with("Storage") => {
                Self::Storage(StoredType::of_storage(name)?)
            }
            ("torch", "device") => Self::Inert,
            ("torch", name) => Self::Type(StoredType::of_torch(name)?),
            ("numpy.core.multiarray" | "numpy._core.multiarray", "scalar" | "_reconstruct") => {
                Self::Inert
            }
            ("numpy", "dtype" | "ndarray") | ("_codecs", "encode") => Self::Inert,
            ("__builtin__" | "builtins", "set" | "frozenset" | "bytes" | "bytearray") => {
                Self::Inert
            }
            _ => return None,
        })
    }
}

/// A file of numbers in the archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Storage {
    /// The name of the entry below `data/`.
    pub(super) key: String,
    pub(super) element: StoredType,
    /// Elements.
    pub(super) len: usize,
}

/// A tensor: how elements of a storage are walked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct View {
    pub(super) storage: Storage,
    /// Elements before the first.
    pub(super) offset: usize,
    pub(super) shape: Vec<usize>,
    /// Elements from one to the next along each axis.
    pub(super) stride: Vec<usize>,
}

/// All values of a pickle.
#[derive(Debug, Default)]
pub(super) struct Values(Vec<Value>);

impl Values {
    pub(super) fn push(&mut self, value: Value) -> Place {
        self.0.push(value);
        (self.0.len() - 1) as Place
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn at(&self, place: Place) -> &Value {
        &self.0[place as usize]
    }

    pub(super) fn at_mut(&mut self, place: Place) -> &mut Value {
        &mut self.0[place as usize]
    }

    pub(super) fn text(&self, place: Place) -> Option<&str> {
        match self.at(place) {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn size(&self, place: Place) -> Option<usize> {
        match *self.at(place) {
            Value::Int(n) => usize::try_from(n).ok(),
            _ => None,
        }
    }

    /// A number, whole or not.
    pub(super) fn number(&self, place: Place) -> Option<f64> {
        match *self.at(place) {
            Value::Int(n) => Some(n as f64),
            Value::Float(n) => Some(n),
            _ => None,
        }
    }

    pub(super) fn truth(&self, place: Place) -> Option<bool> {
        match *self.at(place) {
            Value::Truth(truth) => Some(truth),
            _ => None,
        }
    }

    pub(super) fn tensor(&self, place: Place) -> Option<&View> {
        match self.at(place) {
            Value::Tensor(view) => Some(view),
            _ => None,
        }
    }

    pub(super) fn sequence(&self, place: Place) -> Option<&[Place]> {
        match self.at(place) {
            Value::Sequence(list) => Some(list),
            _ => None,
        }
    }

    fn pairs(&self, place: Place) -> impl Iterator<Item = &(Place, Place)> {
        let pairs = match self.at(place) {
            Value::Dictionary(pairs) => pairs.as_slice(),
            _ => &[],
        };
        pairs.iter()
    }

    /// Key and value of each text key of a dictionary.
    pub(super) fn entries(&self, place: Place) -> impl Iterator<Item = (&str, Place)> {
        let pairs = self.pairs(place);
        pairs.filter_map(|&(key, value)| Some((self.text(key)?, value)))
    }

    /// Key and value of each key of a dictionary that is a number from 0 on.
    pub(super) fn numbered(&self, place: Place) -> impl Iterator<Item = (usize, Place)> {
        let pairs = self.pairs(place);
        pairs.filter_map(|&(key, value)| Some((self.size(key)?, value)))
    }

    /// The entry `key` of a dictionary; of several the last, as in Python.
    pub(super) fn get(&self, dictionary: Place, key: &str) -> Option<Place> {
        let found = self.entries(dictionary).filter(|(name, _)| *name == key);
        found.last().map(|(_, value)| value)
    }
}
