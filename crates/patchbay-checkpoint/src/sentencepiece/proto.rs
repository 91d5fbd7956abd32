//! A SentencePiece model's protocol buffer, of which a handful of fields are needed
//! (<https://github.com/google/sentencepiece/blob/master/src/sentencepiece_model.proto>).
//!
//! The wire format is a run of fields: a number that says which and of what kind, and a number, four bytes, eight bytes, or a
//! length and as many bytes. Everything is taken from the bytes that are there, so no length is believed.

/// The fields that count, with SentencePiece's own defaults.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) pieces: Vec<Piece>,
    pub(super) trainer: Trainer,
    pub(super) normalizer: Normalizer,
}

#[derive(Debug)]
pub(super) struct Piece {
    pub(super) text: String,
    pub(super) score: f32,
    pub(super) kind: i64,
}

#[derive(Debug)]
pub(super) struct Trainer {
    /// 1 for unigram, 2 for BPE.
    pub(super) kind: u64,
    pub(super) byte_fallback: bool,
    /// Ids of the unknown piece, the beginning, the end and the filling; negative where there is none.
    pub(super) unknown: i64,
    pub(super) bos: i64,
    pub(super) eos: i64,
    pub(super) pad: i64,
}

#[derive(Debug)]
pub(super) struct Normalizer {
    pub(super) charsmap: Vec<u8>,
    pub(super) add_dummy_prefix: bool,
    pub(super) remove_extra_whitespaces: bool,
}

/// One field's value.
enum Value<'a> {
    Number(u64),
    Word([u8; 4]),
    Bytes(&'a [u8]),
    /// Eight bytes, which no field that is read has.
    Other,
}

impl Value<'_> {
    fn number(&self) -> Option<u64> {
        match self {
            Self::Number(number) => Some(*number),
            _ => None,
        }
    }

    fn flag(&self) -> Option<bool> {
        self.number().map(|number| number != 0)
    }

    /// A number that may be negative, as 64 bits of two's complement.
    fn signed(&self) -> Option<i64> {
        self.number().map(|number| number as i64)
    }
}

impl Model {
    /// Reads a model; nothing where the bytes are something else.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let mut model = Self {
            pieces: Vec::new(),
            trainer: Trainer { kind: 1, byte_fallback: false, unknown: 0, bos: 1, eos: 2, pad: -1 },
            normalizer: Normalizer { charsmap: Vec::new(), add_dummy_prefix: true, remove_extra_whitespaces: true },
        };
        fields(bytes, |field, value| {
            match (field, value) {
                (1, Value::Bytes(piece)) => model.pieces.push(Piece::read(piece)?),
                (2, Value::Bytes(trainer)) => model.trainer.read(trainer)?,
                (3, Value::Bytes(normalizer)) => model.normalizer.read(normalizer)?,
                (1..=3, _) => return None,
                _ => {}
            }
            Some(())
        })?;
        (!model.pieces.is_empty()).then_some(model)
    }
}

impl Piece {
    fn read(bytes: &[u8]) -> Option<Self> {
        let mut piece = Self { text: String::new(), score: 0.0, kind: 1 };
        fields(bytes, |field, value| {
            match (field, &value) {
                (1, Value::Bytes(text)) => piece.text = String::from_utf8(text.to_vec()).ok()?,
                (2, Value::Word(score)) => piece.score = f32::from_le_bytes(*score),
                (3, _) => piece.kind = value.signed()?,
                (1 | 2, _) => return None,
                _ => {}
            }
            Some(())
        })?;
        Some(piece)
    }
}

impl Trainer {
    fn read(&mut self, bytes: &[u8]) -> Option<()> {
        fields(bytes, |field, value| {
            match field {
                3 => self.kind = value.number()?,
                35 => self.byte_fallback = value.flag()?,
                40 => self.unknown = value.signed()?,
                41 => self.bos = value.signed()?,
                42 => self.eos = value.signed()?,
                43 => self.pad = value.signed()?,
                _ => {}
            }
            Some(())
        })
    }
}

impl Normalizer {
    fn read(&mut self, bytes: &[u8]) -> Option<()> {
        fields(bytes, |field, value| {
            match (field, &value) {
                (2, Value::Bytes(charsmap)) => self.charsmap = charsmap.to_vec(),
                (2, _) => return None,
                (3, _) => self.add_dummy_prefix = value.flag()?,
                (4, _) => self.remove_extra_whitespaces = value.flag()?,
                _ => {}
            }
            Some(())
        })
    }
}

/// Calls with every field of a message; nothing where the bytes are no message, or a call gives nothing.
fn fields(mut bytes: &[u8], mut each: impl FnMut(u64, Value<'_>) -> Option<()>) -> Option<()> {
    while !bytes.is_empty() {
        let tag = varint(&mut bytes)?;
        let value = match tag & 7 {
            0 => Value::Number(varint(&mut bytes)?),
            1 => take(&mut bytes, 8).map(|_| Value::Other)?,
            2 => {
                let length = usize::try_from(varint(&mut bytes)?).ok()?;
                Value::Bytes(take(&mut bytes, length)?)
            }
            5 => Value::Word(*take(&mut bytes, 4)?.first_chunk()?),
            _ => return None,
        };
        each(tag >> 3, value)?;
    }
    Some(())
}

/// A number of seven bits a byte, lowest first.
fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for place in 0..10 {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7F).checked_shl(7 * place)?;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(count)?;
    *bytes = rest;
    Some(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_any_length_end() {
        let read = |mut bytes: &[u8]| varint(&mut bytes);
        assert_eq!(read(&[0x96, 0x01]), Some(150));
        assert_eq!(read(&[0xFF; 9]), None);
        assert_eq!(read(&[0xFF; 40]), None);
        assert_eq!(read(&[0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01]), Some(u64::MAX));
    }

    #[test]
    fn lengths_that_lie_and_other_files_are_no_models() {
        for bytes in [&b""[..], b"IQ== 0\nIg== 1\n", &[0x0A, 0x7F, 1], &[0x0A, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F], &[0x0B]] {
            assert!(Model::read(bytes).is_none(), "{bytes:?}");
        }
        // One piece "a" of score 1.0, and a field of another version.
        let model = Model::read(&[0x0A, 8, 0x0A, 1, b'a', 0x15, 0, 0, 0x80, 0x3F, 0x50, 1]).unwrap();
        assert_eq!((model.pieces[0].text.as_str(), model.pieces[0].score, model.pieces[0].kind), ("a", 1.0, 1));
    }
}
