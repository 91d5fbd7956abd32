//! What the steps of a generation save, put together.

use candle_core::{Result, Tensor};
use patchbay_engine::{Answer, Outcome, TokenScore};
use patchbay_graph::plan::ValueId;
use patchbay_graph::problem::Code;
use patchbay_graph::{DType, NEXT_LOGITS, Plan, Problem, TokenPlaces, Tree, token_places};

use crate::join::{Layout, Piece, join, numbered};

/// What was saved so far, by name.
#[derive(Clone, Debug, Default)]
pub struct Collector {
    results: Vec<(String, Saved)>,
    kept: Vec<(String, Saved)>,
}

/// A result and its name.
pub type Named = (String, Answer);
/// What is to be kept in the caller's store: its name, its type in the protocol, and the tensor.
pub type Kept = (String, DType, Tensor);

/// One value over the steps.
#[derive(Clone, Debug)]
struct Saved {
    dtype: DType,
    pieces: Vec<Piece>,
    /// The likeliest tokens at all places, where it is those; the pieces hold their numbers, of which 0 is padding.
    tokens: Option<Vec<Vec<TokenScore>>>,
}

impl Collector {
    /// Whether what the plans of several steps save can be joined.
    ///
    /// # Errors
    /// A value has another shape at another step, and not only more tokens.
    pub fn check<'a>(plans: impl IntoIterator<Item = &'a Plan>, tree: &Tree) -> std::result::Result<(), Problem> {
        let mut seen: Vec<(String, Vec<usize>)> = Vec::new();
        for plan in plans {
            let places = token_places(plan, tree, &|_, _| true);
            for (name, value) in returned(plan) {
                let dims = Layout::new(&plan.values[value].shape.dims, places[value].as_ref()).dims;
                match seen.iter().find(|(known, _)| *known == name) {
                    None => seen.push((name, dims)),
                    Some((_, known)) if *known == dims => {}
                    Some(_) => {
                        let detail =
                            "what this saves has another shape at each step, and its axis of tokens is not known";
                        let problem = Problem::new(Code::ShapeMismatch, detail).at(&plan.values[value].at);
                        return Err(problem.hint(
                            "save it at one step, such as \"steps\": \"prompt\", or save what it is made of and work on that",
                        ));
                    }
                }
            }
        }
        Ok(())
    }

    /// Takes in what came of a step, of the rows that take part in it.
    ///
    /// # Errors
    /// candle's.
    pub fn add(&mut self, plan: &Plan, tree: &Tree, takes_part: &[bool], outcome: &Outcome) -> Result<()> {
        if returned(plan).next().is_none() {
            return Ok(());
        }
        // other inputs than the first are there in the first step alone, with all rows
        let takes_part = |input, row| input > 0 || takes_part.get(row).copied().unwrap_or(false);
        let places = token_places(plan, tree, &takes_part);
        for (returned, (name, answer)) in plan.results.iter().zip(&outcome.results) {
            if name != NEXT_LOGITS {
                add(&mut self.results, plan, returned.value, places[returned.value].as_ref(), (name, answer))?;
            }
        }
        for ((_, value), (name, tensor)) in plan.kept.iter().zip(&outcome.kept) {
            let of = &plan.values[*value];
            let answer = Answer::Tensor { tensor: tensor.clone(), shape: of.shape.clone(), dtype: of.dtype };
            add(&mut self.kept, plan, *value, places[*value].as_ref(), (name, &answer))?;
        }
        Ok(())
    }

    /// Whether something was saved under a name.
    pub fn has(&self, name: &str) -> bool {
        self.results.iter().chain(&self.kept).any(|(known, _)| known == name)
    }

    /// Everything, joined: the results, and what is to be kept.
    ///
    /// # Errors
    /// candle's.
    pub fn finish(self) -> Result<(Vec<Named>, Vec<Kept>)> {
        let result = |(name, saved): (String, Saved)| Ok((name, saved.finish()?));
        let results = self.results.into_iter().map(result).collect::<Result<_>>()?;
        let kept = |(name, saved): (String, Saved)| {
            let (tensor, _) = join(&saved.pieces)?;
            Ok((name, saved.dtype, tensor))
        };
        Ok((results, self.kept.into_iter().map(kept).collect::<Result<_>>()?))
    }
}

impl Saved {
    fn finish(self) -> Result<Answer> {
        let (tensor, shape) = join(&self.pieces)?;
        let Some(tokens) = self.tokens else {
            return Ok(Answer::Tensor { tensor: tensor.contiguous()?, shape, dtype: self.dtype });
        };
        let numbers = tensor.flatten_all()?.to_vec1::<i64>()?;
        let place = |number: i64| tokens.get(number as usize).cloned().unwrap_or_default();
        Ok(Answer::Tokens { dims: shape.dims, tokens: numbers.into_iter().map(place).collect() })
    }
}

fn add(
    to: &mut Vec<(String, Saved)>,
    plan: &Plan,
    value: ValueId,
    places: Option<&TokenPlaces>,
    (name, answer): (&String, &Answer),
) -> Result<()> {
    let number = to.iter().position(|(known, _)| known == name).unwrap_or_else(|| {
        let tokens = matches!(answer, Answer::Tokens { .. }).then(|| vec![Vec::new()]);
        to.push((name.clone(), Saved { dtype: plan.values[value].dtype, pieces: Vec::new(), tokens }));
        to.len() - 1
    });
    let saved = &mut to[number].1;
    let tensor = match (answer, &mut saved.tokens) {
        (Answer::Tensor { tensor, .. }, _) => tensor.clone(),
        (Answer::Tokens { dims, tokens }, known) => {
            let known = known.get_or_insert_with(|| vec![Vec::new()]);
            let first = known.len();
            known.extend(tokens.iter().cloned());
            numbered(dims, first)?
        }
    };
    saved.pieces.push(Piece::new(&tensor, plan, value, places)?);
    Ok(())
}

/// Names and values of what a plan gives, with those of tokens less their last axis in mind.
fn returned(plan: &Plan) -> impl Iterator<Item = (String, ValueId)> {
    let results = plan.results.iter().filter(|result| result.name != NEXT_LOGITS);
    let kept = plan.kept.iter().map(|(name, value)| (format!("@{name}"), *value));
    results.map(|result| (result.name.clone(), result.value)).chain(kept)
}
