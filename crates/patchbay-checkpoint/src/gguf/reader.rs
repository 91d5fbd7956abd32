//! The bytes of a GGUF header, taken one after the other, each only where it is there.

use std::fmt;
use std::ops::Range;
use std::path::Path;

use crate::CheckpointError;

/// The format's number of 32-bit floats.
const SINGLE: u32 = 6;
/// How deep a list may hold lists. Nothing known goes beyond one.
const DEEPEST: usize = 4;

/// A number of any of the format's types.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Number {
    /// Any whole number; unsigned 64-bit ones above `i64::MAX` appear as floats.
    Int(i64),
    /// A 32-bit float.
    Single(f32),
    /// Any other.
    Float(f64),
}

impl Number {
    pub(crate) fn as_f64(self) -> f64 {
        match self {
            Self::Int(number) => number as f64,
            Self::Single(number) => f64::from(number),
            Self::Float(number) => number,
        }
    }

    /// The number itself if it is whole by its type.
    pub(crate) fn as_int(self) -> Option<i64> {
        match self {
            Self::Int(number) => Some(number),
            Self::Single(_) | Self::Float(_) => None,
        }
    }

    /// The number with the fewest decimals that the file's type rounds to the same: 1e-5 where a 32-bit float was
    /// made of 1e-5, as the model's own configuration has it.
    pub(crate) fn shortest(self) -> f64 {
        match self {
            Self::Single(number) => number.to_string().parse().unwrap_or(f64::from(number)),
            _ => self.as_f64(),
        }
    }
}

/// One metadata value.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Number(Number),
    Bool(bool),
    Text(String),
    List(List),
}

impl Value {
    pub(crate) fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn as_uint(&self) -> Option<u64> {
        match self {
            Self::Number(Number::Int(number)) => u64::try_from(*number).ok(),
            _ => None,
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(Number::Int(number)) => number.fmt(f),
            Self::Number(Number::Single(number)) => number.fmt(f),
            Self::Number(Number::Float(number)) => number.fmt(f),
            Self::Bool(flag) => flag.fmt(f),
            Self::Text(text) => write!(f, "{:?}", text.chars().take(80).collect::<String>()),
            Self::List(list) => write!(f, "a list of {} items", list.count),
        }
    }
}

/// A list, left in the file until someone wants its elements.
#[derive(Clone, Debug)]
pub(crate) struct List {
    kind: u32,
    count: usize,
    bytes: Range<usize>,
    version: u32,
}

impl List {
    /// The elements of a list of text.
    pub(crate) fn texts(&self, file: &[u8]) -> Option<Vec<String>> {
        self.elements(file, |value| match value {
            Value::Text(text) => Some(text),
            _ => None,
        })
    }

    /// The elements of a list of numbers.
    pub(crate) fn numbers(&self, file: &[u8]) -> Option<Vec<Number>> {
        self.elements(file, |value| match value {
            Value::Number(number) => Some(number),
            _ => None,
        })
    }

    /// Where the elements of a list of 32-bit floats lie in the file.
    pub(crate) fn singles(&self) -> Option<Range<usize>> {
        (self.kind == SINGLE && self.count.checked_mul(4) == Some(self.bytes.len())).then(|| self.bytes.clone())
    }

    /// The elements of a list of true and false.
    pub(crate) fn flags(&self, file: &[u8]) -> Option<Vec<bool>> {
        self.elements(file, |value| match value {
            Value::Bool(flag) => Some(flag),
            _ => None,
        })
    }

    fn elements<T>(&self, file: &[u8], take: impl Fn(Value) -> Option<T>) -> Option<Vec<T>> {
        let mut reader = Reader::new(Path::new(""), file.get(..self.bytes.end)?);
        (reader.position, reader.version) = (self.bytes.start, self.version);
        (0..self.count).map(|_| take(reader.value(self.kind, 0).ok()?)).collect()
    }
}

/// A place in the header.
pub(crate) struct Reader<'a> {
    path: &'a Path,
    bytes: &'a [u8],
    position: usize,
    version: u32,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(path: &'a Path, bytes: &'a [u8]) -> Self {
        Self { path, bytes, position: 0, version: 3 }
    }

    pub(crate) fn path(&self) -> &Path {
        self.path
    }

    pub(crate) fn position(&self) -> usize {
        self.position
    }

    /// An error at the present byte.
    pub(crate) fn wrong(&self, what: &str) -> CheckpointError {
        CheckpointError::malformed(self.path, format!("GGUF header, before byte {}: {what}", self.position))
    }

    /// Magic and version; then the numbers of tensors and metadata entries.
    pub(crate) fn counts(&mut self) -> Result<(usize, usize), CheckpointError> {
        if self.take(4)? != b"GGUF" {
            return Err(self.wrong("the file does not begin with \"GGUF\""));
        }
        self.version = self.u32()?;
        if !(1..=3).contains(&self.version) {
            let version = self.version;
            return Err(self.wrong(&format!("version {version} (byte-swapped files are not read) instead of 1 to 3")));
        }
        // A tensor's description takes at least 20 bytes and an entry 9 (with version 1's shorter lengths).
        let (tensors, entries) = (self.length()?, self.length()?);
        if tensors > self.left() / 20 || entries > self.left() / 9 {
            let left = self.left();
            let what = format!("{tensors} tensors and {entries} entries cannot fit into the {left} bytes that follow");
            return Err(self.wrong(&what));
        }
        Ok((tensors, entries))
    }

    /// One metadata entry.
    pub(crate) fn entry(&mut self) -> Result<(String, Value), CheckpointError> {
        let key = self.text()?;
        let kind = self.u32()?;
        Ok((key, self.value(kind, 0)?))
    }

    fn value(&mut self, kind: u32, depth: usize) -> Result<Value, CheckpointError> {
        let int = |number: i64| Ok(Value::Number(Number::Int(number)));
        match kind {
            0 => int(i64::from(u8::from_le_bytes(self.array()?))),
            1 => int(i64::from(i8::from_le_bytes(self.array()?))),
            2 => int(i64::from(u16::from_le_bytes(self.array()?))),
            3 => int(i64::from(i16::from_le_bytes(self.array()?))),
            4 => int(i64::from(self.u32()?)),
            5 => int(i64::from(i32::from_le_bytes(self.array()?))),
            6 => Ok(Value::Number(Number::Single(f32::from_le_bytes(self.array()?)))),
            7 => Ok(Value::Bool(self.take(1)? != [0])),
            8 => self.text().map(Value::Text),
            9 => self.list(depth).map(Value::List),
            10 => {
                let number = self.u64()?;
                Ok(Value::Number(i64::try_from(number).map_or(Number::Float(number as f64), Number::Int)))
            }
            11 => int(i64::from_le_bytes(self.array()?)),
            12 => Ok(Value::Number(Number::Float(f64::from_le_bytes(self.array()?)))),
            _ => Err(self.wrong(&format!("value type {kind} instead of 0 to 12"))),
        }
    }

    /// Walks over a list, and keeps where it lies.
    fn list(&mut self, depth: usize) -> Result<List, CheckpointError> {
        if depth == DEEPEST {
            return Err(self.wrong("lists within lists, deeper than any model needs"));
        }
        let (kind, count) = (self.u32()?, self.length()?);
        let smallest = match kind {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            10..=12 => 8,
            _ => 4,
        };
        if count > self.left() / smallest {
            let left = self.left();
            return Err(self.wrong(&format!("a list of {count} elements cannot fit into the {left} bytes that follow")));
        }
        let start = self.position;
        match kind {
            8 => (0..count).try_for_each(|_| self.text_bytes().map(drop))?,
            9 => (0..count).try_for_each(|_| self.list(depth + 1).map(drop))?,
            _ => drop(self.take(count * smallest)?),
        }
        Ok(List { kind, count, bytes: start..self.position, version: self.version })
    }

    /// A string. Bytes that are no UTF-8 become replacement characters, as in llama.cpp's and candle's readers.
    pub(crate) fn text(&mut self) -> Result<String, CheckpointError> {
        self.text_bytes().map(|bytes| String::from_utf8_lossy(bytes).into_owned())
    }

    fn text_bytes(&mut self) -> Result<&'a [u8], CheckpointError> {
        let length = self.length()?;
        self.take(length)
    }

    /// A length or a count: 32 bits wide in version 1, 64 in the others.
    pub(crate) fn length(&mut self) -> Result<usize, CheckpointError> {
        let length = if self.version == 1 { u64::from(self.u32()?) } else { self.u64()? };
        usize::try_from(length).map_err(|_| self.wrong(&format!("the length {length}")))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, CheckpointError> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, CheckpointError> {
        self.array().map(u64::from_le_bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], CheckpointError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], CheckpointError> {
        let taken = self.position.checked_add(count).and_then(|end| self.bytes.get(self.position..end));
        let Some(taken) = taken else {
            let left = self.left();
            return Err(self.wrong(&format!("{count} bytes are announced and {left} left: the file is cut off")));
        };
        self.position += count;
        Ok(taken)
    }

    fn left(&self) -> usize {
        self.bytes.len().saturating_sub(self.position)
    }
}
