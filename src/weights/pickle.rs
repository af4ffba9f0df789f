//! A reader of pickles that runs nothing.
//!
//! A pickle is a program for a stack machine (protocols 2 to 5, Python's `pickletools` describes them). Ordinarily it may import and
//! call anything. Here a name stands for one of [`Known`], calls are done by the few rules of [`Machine::call`], and any
//! other name, opcode or call ends the reading with an error that names it.

use std::collections::HashMap;

use super::value::{Known, Place, Storage, Value, Values, View};

/// Most values of a pickle; nnU-Net's after 1000 epochs have about a tenth of a million.
pub(super) const MOST_VALUES: usize = 4 << 20;

/// Most axes of a tensor.
const MOST_AXES: usize = 8;

/// Longest name of a storage; PyTorch numbers them.
const LONGEST_KEY: usize = 64;

/// Why a pickle is not read to its end.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It is cut off or contradicts itself.
    Damaged(String),
    /// It mentions or does something else than tensors need.
    Forbidden(String),
    /// It has more than [`MOST_VALUES`].
    TooManyValues,
}

fn damaged<T>(reason: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::Damaged(reason.into()))
}

/// Reads a pickle: its values, and the place of the outermost one.
pub(super) fn read(pickle: &[u8]) -> Result<(Values, Place), Fault> {
    let mut machine = Machine::at_start_of(pickle);
    machine.run()?;
    let outermost = machine.pop()?;
    Ok((machine.values, outermost))
}

/// What one of several pickles, one after the other, does that tensors do not need; `None` where none is found to.
pub(super) fn forbidden(mut pickles: &[u8]) -> Option<String> {
    while !pickles.is_empty() {
        let mut machine = Machine::at_start_of(pickles);
        match machine.run() {
            Ok(()) => pickles = &pickles[machine.at..],
            Err(Fault::Forbidden(what)) => return Some(what),
            Err(Fault::Damaged(_) | Fault::TooManyValues) => return None,
        }
    }
    None
}

struct Machine<'a> {
    pickle: &'a [u8],
    at: usize,
    stack: Vec<Place>,
    /// Heights of the stack to which lists reach down.
    marks: Vec<usize>,
    memo: HashMap<u32, Place>,
    values: Values,
}

impl<'a> Machine<'a> {
    fn at_start_of(pickle: &'a [u8]) -> Self {
        Self {
            pickle,
            at: 0,
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
            values: Values::default(),
        }
    }

    /// To the last opcode.
    fn run(&mut self) -> Result<(), Fault> {
        while self.step()? {
            let held = self.stack.len() + self.marks.len() + self.memo.len();
            if self.values.len().max(held) > MOST_VALUES {
                return Err(Fault::TooManyValues);
            }
        }
        Ok(())
    }

    /// One opcode; false at the last.
    fn step(&mut self) -> Result<bool, Fault> {
        let opcode = self.bytes(1)?[0];
        match opcode {
            b'.' => return Ok(false),
            b'\x80' => self.protocol()?,
            b'\x95' => self.skip(8)?,
            b'(' => self.marks.push(self.stack.len()),
            b'0' => self.drop_top()?,
            b'1' => drop(self.since_mark()?),
            b'2' => self.duplicate()?,
            b'N' => self.push(Value::Inert),
            b'\x88' | b'\x89' => self.push(Value::Truth(opcode == b'\x88')),
            b'J' | b'K' | b'M' | b'\x8a' | b'\x8b' | b'G' => self.number(opcode)?,
            b'X' | b'\x8c' | b'\x8d' => self.text(opcode)?,
            b'T' | b'U' | b'B' | b'C' | b'\x8e' | b'\x96' => self.raw_bytes(opcode)?,
            b'l' | b't' | b']' | b')' | b'\x85' | b'\x86' | b'\x87' | b'\x8f' | b'\x91' => {
                self.sequence(opcode)?;
            }
            b'd' | b'}' => self.dictionary(opcode)?,
            b'a' | b'e' | b'\x90' => self.extend(opcode)?,
            b's' | b'u' => self.insert(opcode)?,
            b'c' | b'\x93' | b'i' => self.name(opcode)?,
            b'R' => self.call()?,
            b'b' => self.set_state()?,
            b'Q' => self.storage()?,
            b'q' | b'r' | b'\x94' => self.memorise(opcode)?,
            b'h' | b'j' => self.recall(opcode)?,
            other => {
                let what = unused_opcode(other);
                return Err(Fault::Forbidden(format!("the pickle opcode {what}")));
            }
        }
        Ok(true)
    }

    fn bytes(&mut self, len: usize) -> Result<&'a [u8], Fault> {
        let end = self.at.checked_add(len);
        let found = end.and_then(|end| self.pickle.get(self.at..end));
        let Some(found) = found else {
            return damaged(format!(
                "its pickle ends within {len} bytes that it promises"
            ));
        };
        self.at += len;
        Ok(found)
    }

    fn skip(&mut self, len: usize) -> Result<(), Fault> {
        self.bytes(len).map(drop)
    }

    /// An unsigned number of `width` bytes, at most 8.
    fn unsigned(&mut self, width: usize) -> Result<u64, Fault> {
        let mut bytes = [0; 8];
        bytes[..width].copy_from_slice(self.bytes(width)?);
        Ok(u64::from_le_bytes(bytes))
    }

    /// As many bytes as the number of `width` bytes before them says.
    fn counted(&mut self, width: usize) -> Result<&'a [u8], Fault> {
        let len = self.unsigned(width)?;
        self.bytes(usize::try_from(len).unwrap_or(usize::MAX))
    }

    fn line(&mut self) -> Result<String, Fault> {
        let rest = &self.pickle[self.at..];
        let Some(len) = rest.iter().position(|&b| b == b'\n') else {
            return damaged("its pickle ends within a name");
        };
        let line = self.bytes(len)?;
        self.skip(1)?;
        Ok(String::from_utf8_lossy(line).into_owned())
    }

    fn push(&mut self, value: Value) {
        let place = self.values.push(value);
        self.stack.push(place);
    }

    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn pop(&mut self) -> Result<Place, Fault> {
        match self.stack.len() > self.floor() {
            true => self.stack.pop().map_or_else(empty, Ok),
            false => empty(),
        }
    }

    fn top(&self) -> Result<Place, Fault> {
        match self.stack.len() > self.floor() {
            true => self.stack.last().copied().map_or_else(empty, Ok),
            false => empty(),
        }
    }

    fn since_mark(&mut self) -> Result<Vec<Place>, Fault> {
        match self.marks.pop() {
            Some(mark) => Ok(self.stack.split_off(mark)),
            None => damaged("its pickle closes a list that it never opened"),
        }
    }

    fn protocol(&mut self) -> Result<(), Fault> {
        match self.bytes(1)?[0] {
            2..=5 => Ok(()),
            other => damaged(format!("it has pickle protocol {other}, not 2 to 5")),
        }
    }

    fn drop_top(&mut self) -> Result<(), Fault> {
        self.pop().map(drop)
    }

    fn duplicate(&mut self) -> Result<(), Fault> {
        let top = self.top()?;
        self.stack.push(top);
        Ok(())
    }

    fn number(&mut self, opcode: u8) -> Result<(), Fault> {
        let value = match opcode {
            b'J' => Value::Int(i64::from(self.unsigned(4)? as u32 as i32)),
            b'K' => Value::Int(self.unsigned(1)? as i64),
            b'M' => Value::Int(self.unsigned(2)? as i64),
            b'\x8a' => long(self.counted(1)?),
            b'\x8b' => long(self.counted(4)?),
            // The only number of a pickle that begins with its highest byte.
            _ => Value::Float(f64::from_bits(self.unsigned(8)?.swap_bytes())),
        };
        self.push(value);
        Ok(())
    }

    fn text(&mut self, opcode: u8) -> Result<(), Fault> {
        let bytes = match opcode {
            b'\x8c' => self.counted(1)?,
            b'X' => self.counted(4)?,
            _ => self.counted(8)?,
        };
        match std::str::from_utf8(bytes) {
            Ok(text) => self.push(Value::Text(text.into())),
            Err(_) => return damaged("its pickle has a text that is no UTF-8"),
        }
        Ok(())
    }

    fn raw_bytes(&mut self, opcode: u8) -> Result<(), Fault> {
        match opcode {
            b'U' | b'C' => self.counted(1)?,
            b'T' | b'B' => self.counted(4)?,
            _ => self.counted(8)?,
        };
        self.push(Value::Inert);
        Ok(())
    }

    fn sequence(&mut self, opcode: u8) -> Result<(), Fault> {
        let members = match opcode {
            b'l' | b't' | b'\x91' => self.since_mark()?,
            b'\x85'..=b'\x87' => {
                let mut members = Vec::new();
                for _ in 0..=opcode - b'\x85' {
                    members.push(self.pop()?);
                }
                members.reverse();
                members
            }
            _ => Vec::new(),
        };
        self.push(Value::Sequence(members));
        Ok(())
    }

    fn dictionary(&mut self, opcode: u8) -> Result<(), Fault> {
        let pairs = match opcode {
            b'd' => pairs(&self.since_mark()?)?,
            _ => Vec::new(),
        };
        self.push(Value::Dictionary(pairs));
        Ok(())
    }

    fn extend(&mut self, opcode: u8) -> Result<(), Fault> {
        let more = match opcode {
            b'a' => vec![self.pop()?],
            _ => self.since_mark()?,
        };
        let top = self.top()?;
        match self.values.at_mut(top) {
            Value::Sequence(members) => members.extend(more),
            _ => return damaged("its pickle appends to what is no list"),
        }
        Ok(())
    }

    fn insert(&mut self, opcode: u8) -> Result<(), Fault> {
        let more = match opcode {
            b's' => {
                let value = self.pop()?;
                vec![(self.pop()?, value)]
            }
            _ => pairs(&self.since_mark()?)?,
        };
        let top = self.top()?;
        match self.values.at_mut(top) {
            Value::Dictionary(pairs) => pairs.extend(more),
            _ => return damaged("its pickle sets a key of what is no dictionary"),
        }
        Ok(())
    }

    fn name(&mut self, opcode: u8) -> Result<(), Fault> {
        let (module, name) = if opcode == b'\x93' {
            let (name, module) = (self.pop()?, self.pop()?);
            match (self.values.text(module), self.values.text(name)) {
                (Some(module), Some(name)) => (module.to_owned(), name.to_owned()),
                _ => return damaged("its pickle names something without a text"),
            }
        } else {
            (self.line()?, self.line()?)
        };
        match Known::of(&module, &name) {
            // An instance of a class, the old way: no checkpoint has it.
            Some(known) if opcode != b'i' => self.push(Value::Name(known)),
            _ => return Err(Fault::Forbidden(format!("`{module}.{name}`"))),
        }
        Ok(())
    }

    /// REDUCE: calls a known name.
    fn call(&mut self) -> Result<(), Fault> {
        let (arguments, function) = (self.pop()?, self.pop()?);
        let Value::Name(function) = *self.values.at(function) else {
            return Err(Fault::Forbidden("a call of what is no function".into()));
        };
        let Some(arguments) = self.values.sequence(arguments) else {
            return damaged("its pickle calls a function without a tuple of arguments");
        };
        let value = match (function, arguments) {
            (Known::RebuildTensor, _) => self.tensor(arguments, None)?,
            (Known::RebuildTypedTensor, _) => {
                let element = arguments.get(6).map(|&place| self.values.at(place));
                let Some(&Value::Name(Known::Type(_))) = element else {
                    return damaged("a tensor has no type of elements");
                };
                self.tensor(arguments, element)?
            }
            (Known::RebuildParameter | Known::Size, &[first, ..]) => {
                self.stack.push(first);
                return Ok(());
            }
            (Known::Size, []) => Value::Sequence(Vec::new()),
            (Known::OrderedDict, []) => Value::Dictionary(Vec::new()),
            (Known::Inert, _) => Value::Inert,
            _ => {
                return Err(Fault::Forbidden(format!(
                    "a call of {function:?} with {} arguments",
                    arguments.len()
                )));
            }
        };
        self.push(value);
        Ok(())
    }

    /// A tensor of `arguments`: storage, offset, shape, stride. An untyped storage counts bytes, and `element` says of how many.
    fn tensor(&self, arguments: &[Place], element: Option<&Value>) -> Result<Value, Fault> {
        let &[storage, offset, shape, stride, ..] = arguments else {
            return damaged("a tensor has fewer than four arguments");
        };
        let Value::Storage(storage) = self.values.at(storage) else {
            return damaged("a tensor has no storage");
        };
        let mut storage = Storage::clone(storage);
        if let Some(&Value::Name(Known::Type(element))) = element {
            storage.len = storage.len * storage.element.bytes() / element.bytes();
            storage.element = element;
        }
        let sizes = |place| {
            let list = self.values.sequence(place)?;
            let numbers = list.iter().map(|&n| self.values.size(n));
            (list.len() <= MOST_AXES).then(|| numbers.collect::<Option<Vec<_>>>())?
        };
        let found = (self.values.size(offset), sizes(shape), sizes(stride));
        let (Some(offset), Some(shape), Some(stride)) = found else {
            return damaged("a tensor has an offset, shape or stride that is no size");
        };
        if shape.len() != stride.len() {
            return damaged("a tensor has another number of strides than of axes");
        }
        Ok(Value::Tensor(Box::new(View {
            storage,
            offset,
            shape,
            stride,
        })))
    }

    /// BUILD: the attributes of an object. Those of dictionaries and of what is inert say nothing of weights.
    fn set_state(&mut self) -> Result<(), Fault> {
        self.pop()?;
        let object = self.top()?;
        match self.values.at(object) {
            Value::Dictionary(_) | Value::Inert | Value::Tensor(_) => Ok(()),
            _ => damaged("its pickle sets attributes of what has none"),
        }
    }

    /// BINPERSID: a storage, `("storage", class, key, device, elements)`.
    fn storage(&mut self) -> Result<(), Fault> {
        let id = self.pop()?;
        let parts = self.values.sequence(id).unwrap_or_default();
        // Before PyTorch 1.6 there was a view at the end.
        let (&[kind, class, key, _device, len] | &[kind, class, key, _device, len, _]) = parts
        else {
            return damaged("its pickle has a persistent id that is no storage");
        };
        let parts = (
            self.values.text(kind),
            self.values.at(class),
            self.values.text(key),
            self.values.size(len),
        );
        let (Some("storage"), &Value::Name(Known::Storage(element)), Some(key), Some(len)) = parts
        else {
            return damaged("its pickle has a persistent id that is no storage");
        };
        if key.len() > LONGEST_KEY || len.checked_mul(element.bytes()).is_none() {
            return damaged("its pickle has a storage beyond any size");
        }
        let key = key.to_owned();
        self.push(Value::Storage(Box::new(Storage { key, element, len })));
        Ok(())
    }

    fn memorise(&mut self, opcode: u8) -> Result<(), Fault> {
        let at = match opcode {
            b'q' => self.unsigned(1)? as u32,
            b'r' => self.unsigned(4)? as u32,
            _ => self.memo.len() as u32,
        };
        let top = self.top()?;
        self.memo.insert(at, top);
        Ok(())
    }

    fn recall(&mut self, opcode: u8) -> Result<(), Fault> {
        let at = self.unsigned(if opcode == b'h' { 1 } else { 4 })? as u32;
        match self.memo.get(&at) {
            Some(&place) => self.stack.push(place),
            None => {
                return damaged(format!(
                    "its pickle recalls entry {at}, which it never made"
                ));
            }
        }
        Ok(())
    }
}

fn empty<T>() -> Result<T, Fault> {
    damaged("its pickle takes a value from an empty stack")
}

fn pairs(list: &[Place]) -> Result<Vec<(Place, Place)>, Fault> {
    match list.as_chunks::<2>() {
        (pairs, []) => Ok(pairs.iter().map(|&[key, value]| (key, value)).collect()),
        _ => damaged("its pickle has a key without a value"),
    }
}

/// A number in as many bytes as it needs, two's complement; what 64 bits cannot hold is no size of anything.
fn long(bytes: &[u8]) -> Value {
    let negative = bytes.last().is_some_and(|b| b & 0x80 != 0);
    let mut wide = [if negative { 0xff } else { 0 }; 8];
    match wide.get_mut(..bytes.len()) {
        Some(part) => part.copy_from_slice(bytes),
        None => return Value::Inert,
    }
    Value::Int(i64::from_le_bytes(wide))
}

/// An opcode that checkpoints do not have, in words.
fn unused_opcode(opcode: u8) -> String {
    let name = match opcode {
        b'o' => "OBJ",
        b'\x81' => "NEWOBJ",
        b'\x92' => "NEWOBJ_EX",
        b'\x82'..=b'\x84' => "EXT",
        b'P' => "PERSID",
        b'\x97' | b'\x98' => "BUFFER",
        b'I' | b'L' | b'F' | b'S' | b'V' | b'p' | b'g' => "of protocol 0",
        _ => "unknown",
    };
    format!("{opcode:#04x} ({name})")
}
