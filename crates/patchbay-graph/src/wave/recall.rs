//! What earlier waves left: keys of tokens as the model makes them.
//!
//! A token that nobody looks at is computed for its keys and values alone, on which later tokens look. Where an earlier wave
//! computed them for a sequence that begins with the same ids, they are taken from there, and the token is in no lane.

/// A sequence whose keys and values an earlier wave left, from its first token on.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// Its token ids.
    pub ids: &'a [u32],
    /// In how many layers, from the first one on, its keys are there.
    pub layers: usize,
}

/// Neighbouring tokens whose keys and values are taken from what is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recalled {
    /// Position of the first one.
    pub position: usize,
    /// Number of the sequence among those that are known, in which they have the same positions.
    pub known: usize,
    /// How many they are.
    pub len: usize,
}

impl Recalled {
    /// Adds a token to the last run, or begins one.
    pub(super) fn push(runs: &mut Vec<Self>, position: usize, known: usize) {
        match runs.last_mut() {
            Some(last) if last.known == known && last.position + last.len == position => last.len += 1,
            _ => runs.push(Self { position, known, len: 1 }),
        }
    }
}
