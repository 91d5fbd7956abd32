//! Which logits are made.
//!
//! The unembedding is the largest matrix of most models, and a metric looks at a few of its outputs. Where all that a pass does with
//! logits is to read those of a few tokens of the vocabulary, the pass lists them, no others are made, and what is read is a part of
//! these.

use crate::plan::{Event, Pass, Plan, Source, Value, ValueId};
use crate::site::Site;

/// The axis of the vocabulary.
const AXIS: usize = 2;

/// The largest share of the vocabulary of which that is worth it: rows of the unembedding are copied for it.
const SHARE: usize = 8;

/// Lists for each pass the token ids whose logits it looks at, where they are few.
pub(super) fn narrow(plan: &mut Plan, vocab: usize) {
    for pass in &mut plan.passes {
        let Some(ids) = looked_at(pass, &plan.values, vocab) else { continue };
        for id in reads(pass) {
            if let Source::Read(read) = &mut plan.values[id].source {
                read.selection = read.selection.within(AXIS, &ids);
            }
        }
        pass.vocab = Some(ids.into_iter().map(|id| id as u32).collect());
    }
}

/// What is read at the unembedding.
fn reads(pass: &Pass) -> impl Iterator<Item = ValueId> {
    let steps = pass.steps.iter().filter(|step| step.site >= Site::LmHead);
    steps.filter_map(|step| if let Event::Read(id) = step.event { Some(id) } else { None })
}

/// The places of the vocabulary that are looked at, in ascending order, if those are few and nothing else is done with logits.
fn looked_at(pass: &Pass, values: &[Value], vocab: usize) -> Option<Vec<usize>> {
    let mut steps = pass.steps.iter().filter(|step| step.site >= Site::LmHead);
    if steps.any(|step| matches!(step.event, Event::Write(_) | Event::Grad { .. })) {
        return None;
    }
    let mut places = Vec::new();
    for id in reads(pass) {
        if let Source::Read(read) = &values[id].source {
            if read.selection.has_all(AXIS) {
                return None;
            }
            places.extend(read.selection.picked(AXIS, 0, vocab).into_iter().flatten());
        }
    }
    places.sort_unstable();
    places.dedup();
    (!places.is_empty() && places.len() <= vocab / SHARE).then_some(places)
}
