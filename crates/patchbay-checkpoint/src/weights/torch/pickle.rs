//! The part of Python's pickle format that a PyTorch state dict is written in, read as data: no name in it is ever looked
//! up or called.
//!
//! candle has a reader too; this one differs in that it trusts no byte. Values lie in one list and refer to each other by
//! place, so that neither a value memoised and doubled again and again nor one nested without end costs more than the
//! file is long, and a length is held against what is left before anything is made of it. Opcodes are those of
//! `pickletools` that `torch.save` writes (protocol 2).

use std::collections::HashMap;

/// A value's place in [`Values`].
pub(super) type Id = usize;

/// One value.
#[derive(Debug)]
pub(super) enum Value<'a> {
    /// A name of a Python module: module and name.
    Global(&'a str, &'a str),
    Int(i64),
    Text(&'a str),
    Tuple(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    /// What a call would make; it is not made.
    Call(Id, Id),
    /// A reference to something outside of the pickle, which in PyTorch's files is a storage.
    Persistent(Id),
    /// Anything that no tensor is described with: lists, floats, flags.
    Other,
}

/// All values of a pickle, and which one it is about.
pub(super) struct Values<'a> {
    values: Vec<Value<'a>>,
    root: Id,
}

impl<'a> Values<'a> {
    /// Reads a pickle.
    ///
    /// # Errors
    /// What is wrong with it, and at which byte.
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, String> {
        let mut machine =
            Machine { bytes, at: 0, values: Vec::new(), stack: Vec::new(), marks: Vec::new(), memo: HashMap::new() };
        loop {
            let at = machine.at;
            let result = machine.step();
            if let Some(root) = result.map_err(|what| format!("byte {at} of its pickle: {what}"))? {
                return Ok(Self { values: machine.values, root });
            }
        }
    }

    /// The value the pickle is about.
    pub(super) fn root(&self) -> &Value<'a> {
        self.at(self.root)
    }

    pub(super) fn at(&self, id: Id) -> &Value<'a> {
        &self.values[id]
    }

    pub(super) fn text(&self, id: Id) -> Option<&'a str> {
        if let Value::Text(text) = self.at(id) { Some(text) } else { None }
    }

    /// A whole number of at least 0.
    pub(super) fn size(&self, id: Id) -> Option<usize> {
        if let Value::Int(number) = self.at(id) { usize::try_from(*number).ok() } else { None }
    }

    pub(super) fn tuple(&self, id: Id) -> Option<&[Id]> {
        if let Value::Tuple(items) = self.at(id) { Some(items) } else { None }
    }

    /// Module, name and arguments of a call.
    pub(super) fn call(&self, id: Id) -> Option<(&'a str, &'a str, &[Id])> {
        match self.at(id) {
            Value::Call(callee, args) => match self.at(*callee) {
                Value::Global(module, name) => Some((module, name, self.tuple(*args)?)),
                _ => None,
            },
            _ => None,
        }
    }
}

/// The names that a state dict is written with.
fn is_known(module: &str, name: &str) -> bool {
    match module {
        "collections" => name == "OrderedDict",
        "torch._utils" => matches!(name, "_rebuild_tensor_v2" | "_rebuild_parameter"),
        "torch" => name.ends_with("Storage"),
        _ => false,
    }
}

/// The stack machine that a pickle is a program of.
struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    values: Vec<Value<'a>>,
    stack: Vec<Id>,
    /// Heights of the stack.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
}

type Step<T> = Result<T, String>;

impl<'a> Machine<'a> {
    /// Runs one opcode; the last one gives the result.
    fn step(&mut self) -> Step<Option<Id>> {
        let [opcode] = self.array()?;
        match opcode {
            b'.' => return self.pop().map(Some),
            0x80 => drop(self.array::<1>()?),
            b'(' => self.marks.push(self.stack.len()),
            b'c' => self.global()?,
            b'q' | b'r' => {
                let key = self.key(opcode == b'r')?;
                self.put(key)?;
            }
            b'h' | b'j' => {
                let key = self.key(opcode == b'j')?;
                self.get(key)?;
            }
            b'K' | b'M' | b'J' | 0x8a => self.int(opcode)?,
            b'X' => {
                let length = u32::from_le_bytes(self.array()?);
                let text = std::str::from_utf8(self.take(length as usize)?).map_err(|_| "a text is not UTF-8")?;
                self.push(Value::Text(text));
            }
            b'G' => {
                self.array::<8>()?;
                self.push(Value::Other);
            }
            b'N' | 0x88 | 0x89 | b']' => self.push(Value::Other),
            b'}' => self.push(Value::Dict(Vec::new())),
            b')' => self.push(Value::Tuple(Vec::new())),
            b't' | 0x85..=0x87 => self.tuple(opcode)?,
            b'R' | 0x81 => self.call()?,
            b'Q' => {
                let id = self.pop()?;
                self.push(Value::Persistent(id));
            }
            b's' | b'u' => self.set_items(opcode)?,
            // Lists, and what is hung on to an object beside its items, describe no tensor.
            b'a' | b'b' => drop(self.pop()?),
            b'e' => drop(self.pop_to_mark()?),
            other => return Err(format!("opcode {other:#04x}, which no state dict is written with")),
        }
        Ok(None)
    }

    fn global(&mut self) -> Step<()> {
        let (module, name) = (self.line()?, self.line()?);
        if !is_known(module, name) {
            let (module, name): (String, String) = (module.chars().take(80).collect(), name.chars().take(80).collect());
            return Err(format!("the name `{module}.{name}`, which no state dict needs; nothing of the file is run"));
        }
        self.push(Value::Global(module, name));
        Ok(())
    }

    fn int(&mut self, opcode: u8) -> Step<()> {
        let number = match opcode {
            b'K' => i64::from(self.array::<1>()?[0]),
            b'M' => i64::from(u16::from_le_bytes(self.array()?)),
            b'J' => i64::from(i32::from_le_bytes(self.array()?)),
            _ => {
                let length = usize::from(self.array::<1>()?[0]);
                let digits = self.take(length)?;
                let sign = if digits.last().is_some_and(|last| last & 0x80 != 0) { 0xFF } else { 0 };
                let mut whole = [sign; 8];
                whole.get_mut(..length).ok_or("a whole number of more than 8 bytes")?.copy_from_slice(digits);
                i64::from_le_bytes(whole)
            }
        };
        self.push(Value::Int(number));
        Ok(())
    }

    fn tuple(&mut self, opcode: u8) -> Step<()> {
        let items = match opcode {
            b't' => self.pop_to_mark()?,
            _ => {
                let mut items = (0..opcode - 0x84).map(|_| self.pop()).collect::<Step<Vec<Id>>>()?;
                items.reverse();
                items
            }
        };
        self.push(Value::Tuple(items));
        Ok(())
    }

    fn call(&mut self) -> Step<()> {
        let (args, callee) = (self.pop()?, self.pop()?);
        let call = match self.values[callee] {
            Value::Global("collections", _) => Value::Dict(Vec::new()),
            _ => Value::Call(callee, args),
        };
        self.push(call);
        Ok(())
    }

    fn set_items(&mut self, opcode: u8) -> Step<()> {
        let items = if opcode == b'u' {
            self.pop_to_mark()?
        } else {
            let (value, key) = (self.pop()?, self.pop()?);
            vec![key, value]
        };
        let dict = *self.stack[self.floor()..].last().ok_or("an empty stack")?;
        let (pairs, rest) = items.as_chunks::<2>();
        match &mut self.values[dict] {
            Value::Dict(dict) if rest.is_empty() => dict.extend(pairs.iter().map(|[key, value]| (*key, *value))),
            _ => return Err("items are set of something that is no dict, or by halves".to_owned()),
        }
        Ok(())
    }

    fn push(&mut self, value: Value<'a>) {
        self.stack.push(self.values.len());
        self.values.push(value);
    }

    /// What is below the last mark is out of reach.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn pop(&mut self) -> Step<Id> {
        if self.stack.len() <= self.floor() {
            return Err("an empty stack".to_owned());
        }
        self.stack.pop().ok_or_else(|| "an empty stack".to_owned())
    }

    fn pop_to_mark(&mut self) -> Step<Vec<Id>> {
        let mark = self.marks.pop().ok_or("no mark")?;
        Ok(self.stack.split_off(mark))
    }

    /// A place in the memo, in four bytes or in one.
    fn key(&mut self, wide: bool) -> Step<u32> {
        if wide { Ok(u32::from_le_bytes(self.array()?)) } else { Ok(self.array::<1>()?[0].into()) }
    }

    fn put(&mut self, key: u32) -> Step<()> {
        let top = *self.stack[self.floor()..].last().ok_or("an empty stack")?;
        self.memo.insert(key, top);
        Ok(())
    }

    fn get(&mut self, key: u32) -> Step<()> {
        let id = *self.memo.get(&key).ok_or_else(|| format!("nothing is memoised as {key}"))?;
        self.stack.push(id);
        Ok(())
    }

    fn take(&mut self, length: usize) -> Step<&'a [u8]> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let taken = rest.get(..length).ok_or_else(|| format!("{length} bytes are needed, {} are left", rest.len()))?;
        self.at += length;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Step<[u8; N]> {
        self.take(N)?.try_into().map_err(|_| "cut off".to_owned())
    }

    /// Text up to the end of a line.
    fn line(&mut self) -> Step<&'a str> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let length = rest.iter().position(|&byte| byte == b'\n').ok_or("a name without an end")?;
        let line = self.take(length + 1)?;
        std::str::from_utf8(&line[..length]).map_err(|_| "a name is not UTF-8".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(bytes: &[u8]) -> String {
        Values::read(bytes).err().unwrap()
    }

    #[test]
    fn numbers_of_every_width() {
        let pickle = b"(K\x05M\x00\x01J\xff\xff\xff\xff\x8a\x02\x00\x80\x8a\x00t.";
        let values = Values::read(pickle).unwrap();
        let Value::Tuple(items) = values.root() else { panic!("a tuple") };
        let read: Vec<i64> = items
            .iter()
            .map(|&id| if let Value::Int(number) = values.at(id) { *number } else { panic!("a number") })
            .collect();
        assert_eq!(read, [5, 256, -1, -32768, 0]);
    }

    #[test]
    fn the_memo_has_keys_of_one_byte_and_of_four() {
        let pickle = b"(K\x05r\x07\x01\x00\x00K\x06q\x07j\x07\x01\x00\x00h\x07t.";
        let values = Values::read(pickle).unwrap();
        let Value::Tuple(items) = values.root() else { panic!("a tuple") };
        let read: Vec<_> = items.iter().map(|&id| values.size(id)).collect();
        assert_eq!(read, [5, 6, 5, 6].map(Some));
        assert!(error(b"K\x05q\x07j\x07\x01\x00\x00.").contains("memoised as 263"));
    }

    #[test]
    fn names_that_could_do_something_are_refused_by_name() {
        assert!(error(b"\x80\x02cos\nsystem\n(X\x02\x00\x00\x00lstR.").contains("`os.system`"));
        assert!(error(b"cbuiltins\neval\n.").contains("byte 0"));
        assert!(error(b"i").contains("opcode 0x69"));
    }

    #[test]
    fn doubling_and_nesting_cost_no_more_than_the_file() {
        // Forty doublings would be 2^40 values if each were copied.
        let mut doubling = b"K\x01q\x00".to_vec();
        (0..40).for_each(|_| doubling.extend(b"h\x00h\x00\x86q\x00"));
        doubling.push(b'.');
        assert!(Values::read(&doubling).unwrap().values.len() < 50);
        let nested = [&b"K\x01"[..], &[0x85; 1_000_000], b"."].concat();
        assert!(matches!(Values::read(&nested).unwrap().root(), Value::Tuple(_)));
    }

    #[test]
    fn lengths_and_stacks_that_lie_are_errors() {
        assert!(error(b"X\xff\xff\xff\xffabc").contains("4294967295 bytes are needed, 3 are left"));
        assert!(error(b"\x8a\xffabc").contains("255 bytes"));
        assert!(error(b"\x8a\x09123456789.").contains("more than 8"));
        for bytes in [
            &b"R."[..],
            b"K\x01R.",
            b"t.",
            b".",
            b"",
            b"q\x00",
            b"h\x07",
            b"K\x01(R.",
            b"K\x01K\x02K\x03s.",
            b"}(K\x01u.",
        ] {
            error(bytes);
        }
    }
}
