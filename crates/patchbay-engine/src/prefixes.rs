//! Keys and values of prompts that waves have computed, for later ones that begin alike.
//!
//! Kept is what the model makes of a sequence's ids and nothing else: the tokens of a row before the first one that is written.
//! What is looked at least lately goes first, and all of it goes where waves need the room.

use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use candle_core::{Result, Tensor};
use patchbay_graph::wave::Wave;
use patchbay_graph::wave::recall::Known;
use patchbay_graph::{LayerTree, Tree};
use patchbay_heap::Expected;
use patchbay_model::KeyCache;

use crate::job::History;
use crate::memory::{Memory, Spare};

/// How many tokens a row must have that are not known yet, so that it is kept.
const FEWEST: usize = 8;
/// How many sequences are kept.
const MOST: usize = 256;
/// How many rows of one wave, or of one generation, are kept.
const MOST_OF_WAVE: usize = 16;

/// The token ids of a row, by its request, input and number.
type Ids<'f, 'a> = &'f dyn Fn((usize, usize, usize)) -> &'a [u32];

/// A sequence, with its keys `[tokens, K, d]` and values `[tokens, K, value dim]` at each layer from the first one on.
#[derive(Debug)]
pub(crate) struct Prefix {
    ids: Vec<u32>,
    layers: Vec<[Tensor; 2]>,
    bytes: u64,
    /// When it was looked at.
    used: AtomicU64,
    _expected: Option<Expected>,
}

impl Prefix {
    pub(crate) fn layer(&self, layer: usize) -> Option<&[Tensor; 2]> {
        self.layers.get(layer)
    }

    /// What a wave may take of it.
    pub(crate) fn known(&self) -> Known<'_> {
        Known { ids: &self.ids, layers: self.layers.len() }
    }
}

fn bytes(layers: &[[Tensor; 2]]) -> u64 {
    let size = |tensor: &Tensor| (tensor.elem_count() * tensor.dtype().size_in_bytes()) as u64;
    layers.iter().flatten().map(size).sum()
}

/// What is kept of a model's prompts.
#[derive(Debug)]
pub struct Prefixes {
    most: u64,
    memory: Memory,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    prefixes: Vec<Arc<Prefix>>,
    /// Counts looks.
    clock: u64,
}

impl Prefixes {
    /// Room for so many bytes, which yields to what `memory` is held for.
    pub(crate) fn new(most: u64, memory: &Memory) -> Arc<Self> {
        let prefixes = Arc::new(Self { most, memory: memory.clone(), kept: Mutex::default() });
        let spare: Arc<dyn Spare> = Arc::<Self>::clone(&prefixes);
        memory.lend(&spare);
        prefixes
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // nothing panics while it has the lock
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All sequences.
    pub(crate) fn all(&self) -> Vec<Arc<Prefix>> {
        self.kept().prefixes.clone()
    }

    /// Says that a wave takes keys of these.
    pub(crate) fn look_at<'a>(&self, prefixes: impl Iterator<Item = &'a Arc<Prefix>>) {
        let mut kept = self.kept();
        kept.clock += 1;
        prefixes.for_each(|prefix| prefix.used.store(kept.clock, Ordering::Relaxed));
    }

    /// Records the rows of a wave that are worth to be kept, and makes room for them.
    pub(crate) fn record<'a>(
        &self,
        wave: &Wave,
        known: &[Arc<Prefix>],
        ids: Ids<'_, 'a>,
        tree: &Tree,
    ) -> Vec<Recorder> {
        let room = self.most.min(self.memory.free());
        let (mut found, bytes) = worth(wave, known, ids, tree, room);
        self.shrink(room - bytes);
        found.iter_mut().for_each(|recording| recording.expected = Some(patchbay_heap::expect(recording.bytes)));
        found.into_iter().map(|recording| Rc::new(RefCell::new(recording))).collect()
    }

    /// Keeps what was recorded while a wave ran.
    pub(crate) fn keep(&self, recorders: Vec<Recorder>) {
        for recording in recorders.into_iter().filter_map(Rc::into_inner) {
            let recording = recording.into_inner();
            if !recording.layers.is_empty() {
                self.add(recording.ids, recording.layers, recording.expected);
            }
        }
    }

    /// Bytes of keys that a wave leaves at most.
    pub(crate) fn left<'a>(&self, wave: &Wave, ids: Ids<'_, 'a>, tree: &Tree) -> u64 {
        worth(wave, &[], ids, tree, self.most).1
    }

    /// Keeps sequences that were computed in several passes, those that are worth it: ids, as far as their keys are there, which have to
    /// be as the model makes them.
    pub fn leave<'a>(&self, sequences: impl Iterator<Item = (&'a [u32], &'a History)>) {
        for (ids, history) in sequences.take(MOST_OF_WAVE) {
            if let Err(error) = self.copy(ids, &history.cache()) {
                tracing::warn!(%error, "the keys of a sequence were not kept");
            }
        }
    }

    /// Keeps a copy, for what is copied may grow.
    fn copy(&self, ids: &[u32], cache: &KeyCache) -> Result<()> {
        let ids = &ids[..ids.len().min(cache.tokens())];
        let there = (0..).map_while(|layer| cache.layer(layer));
        let there: Vec<[Tensor; 2]> = there
            .map(|[keys, values]| Ok([keys.narrow(0, 0, ids.len())?, values.narrow(0, 0, ids.len())?]))
            .collect::<Result<_>>()?;
        let (bytes, room) = (bytes(&there), self.most.min(self.memory.free()));
        let known = longest(&self.all(), ids, there.len()).map_or(0, |(_, alike)| alike);
        if there.is_empty() || ids.len() - known < FEWEST || bytes > room {
            return Ok(());
        }
        self.shrink(room - bytes);
        let expected = patchbay_heap::expect(bytes);
        let copied = there.iter().map(|[keys, values]| Ok([keys.force_contiguous()?, values.force_contiguous()?]));
        self.add(ids.to_vec(), copied.collect::<Result<_>>()?, Some(expected));
        Ok(())
    }

    fn add(&self, ids: Vec<u32>, layers: Vec<[Tensor; 2]>, expected: Option<Expected>) {
        let bytes = bytes(&layers);
        let mut kept = self.kept();
        kept.prefixes.retain(|known| known.layers.len() > layers.len() || !ids.starts_with(&known.ids));
        kept.clock += 1;
        let used = AtomicU64::new(kept.clock);
        kept.prefixes.push(Arc::new(Prefix { ids, layers, bytes, used, _expected: expected }));
        kept.shrink(self.most);
    }
}

impl Spare for Prefixes {
    fn bytes(&self) -> u64 {
        self.kept().bytes()
    }

    fn shrink(&self, bytes: u64) {
        self.kept().shrink(bytes);
    }
}

impl Kept {
    fn bytes(&self) -> u64 {
        self.prefixes.iter().map(|prefix| prefix.bytes).sum()
    }

    /// Lets go of those that were looked at least lately, until so many bytes are left.
    fn shrink(&mut self, most: u64) {
        self.prefixes.sort_by_key(|prefix| prefix.used.load(Ordering::Relaxed));
        let mut bytes = self.bytes();
        while bytes > most || self.prefixes.len() > MOST {
            bytes -= self.prefixes.remove(0).bytes;
        }
    }
}

/// Keys of a row that are being recorded while its wave runs.
pub(crate) type Recorder = Rc<RefCell<Recording>>;

/// A sequence that is to be kept.
pub(crate) struct Recording {
    /// Number of the row in the wave.
    pub(crate) row: usize,
    ids: Vec<u32>,
    /// A known sequence, and how many of its tokens this one begins with.
    after: Option<(Arc<Prefix>, usize)>,
    layers: Vec<[Tensor; 2]>,
    /// How many bytes it takes.
    bytes: u64,
    /// What the heap is told of them, from when they are recorded until they are let go.
    expected: Option<Expected>,
}

impl Recording {
    /// The tokens that are not known.
    pub(crate) fn new_tokens(&self) -> Range<usize> {
        self.after.as_ref().map_or(0, |(_, tokens)| *tokens)..self.ids.len()
    }

    /// Takes in keys and values at a layer, of the tokens that were not known. After a layer that was left out there is nothing to add.
    pub(crate) fn add(&mut self, layer: usize, new: [Tensor; 2]) -> Result<()> {
        if self.layers.len() != layer {
            return Ok(());
        }
        let [keys, values] = new;
        let whole = match &self.after {
            // what the pass made may lie in the memory of more than these keys
            None => [keys.force_contiguous()?, values.force_contiguous()?],
            Some((prefix, tokens)) => {
                let Some([before, values_before]) = prefix.layer(layer) else { return Ok(()) };
                let joined = |before: &Tensor, new| Tensor::cat(&[&before.narrow(0, 0, *tokens)?, new], 0);
                [joined(before, &keys)?, joined(values_before, &values)?]
            }
        };
        self.layers.push(whole);
        Ok(())
    }
}

/// The rows of a wave that are worth to be kept, of which some tokens are `known`; and the bytes that they take, of `room`.
fn worth<'a>(wave: &Wave, known: &[Arc<Prefix>], ids: Ids<'_, 'a>, tree: &Tree, room: u64) -> (Vec<Recording>, u64) {
    let (mut found, mut bytes): (Vec<Recording>, u64) = (Vec::new(), 0);
    for (row, ((place, _), (tokens, layers))) in wave.rows().zip(wave.clean_keys().iter().copied()).enumerate() {
        let taken = bytes + tokens as u64 * bytes_a_token(tree, layers);
        if tokens < FEWEST || layers == 0 || found.len() == MOST_OF_WAVE || taken > room {
            continue;
        }
        let ids = &ids(place)[..tokens];
        let recorded = found.iter().map(|other| alike(ids, &other.ids)).max().unwrap_or(0);
        let after = longest(known, ids, layers).filter(|(_, alike)| *alike > 0);
        let after = after.map(|(prefix, alike)| (Arc::clone(prefix), alike));
        let there = after.as_ref().map_or(0, |(_, alike)| *alike);
        if tokens - there.max(recorded) >= FEWEST {
            let (ids, layers, own) = (ids.to_vec(), Vec::new(), taken - bytes);
            found.push(Recording { row, ids, after, layers, bytes: own, expected: None });
            bytes = taken;
        }
    }
    (found, bytes)
}

/// How many tokens two sequences begin with that are the same.
fn alike(one: &[u32], other: &[u32]) -> usize {
    one.iter().zip(other).take_while(|(one, other)| one == other).count()
}

/// The sequence that has most in common with the beginning of these ids, of those whose keys are there in so many layers, and how many
/// tokens that is.
fn longest<'k>(known: &'k [Arc<Prefix>], ids: &[u32], layers: usize) -> Option<(&'k Arc<Prefix>, usize)> {
    let deep = known.iter().filter(|prefix| prefix.layers.len() >= layers);
    deep.map(|prefix| (prefix, alike(ids, &prefix.ids))).max_by_key(|(_, alike)| *alike)
}

/// Bytes of a token's keys and values in the first layers.
fn bytes_a_token(tree: &Tree, layers: usize) -> u64 {
    let width = |layer: &LayerTree| layer.kv_heads * (layer.head_dim + layer.value_dim);
    let widths = tree.layers.iter().take(layers).map(width).sum::<usize>();
    (widths * size_of::<f32>()) as u64
}
