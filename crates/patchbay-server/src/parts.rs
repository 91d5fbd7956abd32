//! Puts the outcomes of a request's parts together, each of which has some of its rows.

use std::iter::zip;

use candle_core::Tensor;
use patchbay_engine::{Answer, Outcome, Receipt, TokenScore, Usage};
use patchbay_graph::ops::Join;
use patchbay_graph::{Joined, Parts, Saved};

use crate::Failure;
use crate::gather::Gather;
use crate::inputs::Tokenized;
use crate::trace::Finished;
use crate::wave_times::WaveTimes;
use crate::wire::block::runs;
use crate::wire::result::{NamedResults, ResultBody, Style};
use crate::wire::spool::Spool;
use crate::wire::tensor::WireTensor;

/// What came of the parts so far. They come in the order of their rows.
pub(crate) struct Joining {
    parts: Parts,
    /// Names of the inputs that are the same in each part.
    alike: Vec<String>,
    prompt_tokens: usize,
    style: Style,
    results: Vec<Half>,
    kept: Vec<Vec<Tensor>>,
    receipts: Vec<Receipt>,
    usage: Usage,
    times: WaveTimes,
}

/// A result, as far as it is there.
enum Half {
    Tensor(Spool),
    /// What is summed up over the parts.
    Folded(Option<Tensor>),
    /// At each place; padding has none.
    Tokens(Vec<Vec<TokenScore>>),
}

impl Joining {
    /// Of a request that runs in these parts.
    pub(crate) fn new(parts: Parts, tokenized: &Tokenized, style: Style) -> Self {
        let half = |joined: &Joined| match joined.saved.top_tokens {
            None if joined.join.is_folded() => Half::Folded(None),
            None => Half::Tensor(Spool::new()),
            Some(_) => Half::Tokens(vec![Vec::new(); places(&joined.saved).iter().product()]),
        };
        let (results, kept) = (parts.results.iter().map(half).collect(), vec![Vec::new(); parts.kept.len()]);
        let alike = zip(&tokenized.shown, &parts.inputs).filter(|(_, apart)| !**apart);
        let alike = alike.map(|((name, _), _)| name.clone()).collect();
        let prompt_tokens = tokenized.ids.iter().flatten().map(Vec::len).sum();
        let (receipts, usage, times) = (Vec::new(), Usage::default(), WaveTimes::default());
        Self { parts, alike, prompt_tokens, style, results, kept, receipts, usage, times }
    }

    /// Adds what a part wrote to what those before it did: the rows of one write are in all parts.
    fn receive(&mut self, receipts: Vec<Receipt>) {
        if self.receipts.is_empty() {
            self.receipts = receipts;
            return;
        }
        let apart = |known: &Receipt| !self.alike.contains(&known.input);
        for (known, found) in zip(&mut self.receipts, receipts).filter(|(known, _)| apart(known)) {
            known.rows += found.rows;
            known.positions += found.positions;
            known.delta_norm = known.delta_norm.hypot(found.delta_norm);
        }
    }
}

impl Gather for Joining {
    fn add(&mut self, number: usize, outcome: Outcome) -> Result<(), Failure> {
        let Outcome { results, kept, receipts, usage, times, .. } = outcome;
        self.receive(receipts);
        let rows = self.parts.rows[number].clone();
        let share = rows.len() as f64 / self.parts.rows.last().map_or(rows.end, |last| last.end) as f64;
        let wanted = |joined: &Joined| number == 0 || joined.join != Join::Same;
        let halves = zip(&mut self.results, &self.parts.results);
        for ((half, joined), (_, answer)) in zip(halves, results).filter(|((_, joined), _)| wanted(joined)) {
            half.add(joined, (rows.start, share), answer, &self.style)?;
        }
        for ((kept, joined), (_, tensor)) in zip(zip(&mut self.kept, &self.parts.kept), kept) {
            if wanted(joined) {
                let before = if joined.join.is_folded() { kept.pop() } else { None };
                kept.push(folded(joined.join, before, tensor, share)?);
            }
        }
        let (prompt_tokens, parts) = (self.prompt_tokens, Some(self.parts.rows.len()));
        self.usage = Usage { prompt_tokens, parts, ..self.usage.and(usage) };
        if let Some(times) = times {
            self.times.add(times);
        }
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<Finished, Failure> {
        let Self { parts, style, results, kept, receipts, usage, times, .. } = *self;
        let (queue_ms, compute_ms) = times.milliseconds();
        let body = |(half, joined): (Half, &Joined)| Ok((joined.saved.name.clone(), half.body(joined, &style)?));
        let results = zip(results, &parts.results).map(body).collect::<Result<_, Failure>>()?;
        let tensor =
            |(joined, tensors): (&Joined, &Vec<Tensor>)| Ok((joined.saved.name.clone(), whole(joined, tensors)?));
        let kept = zip(&parts.kept, &kept).map(tensor).collect::<Result<_, Failure>>()?;
        let usage = Usage { queue_ms, compute_ms, ..usage };
        // the results of the parts left memory as they came
        Ok(Finished { results: NamedResults(results), kept, receipts, usage, held: None })
    }
}

/// Axes of the places of a value, of which likeliest tokens have one less.
fn places(saved: &Saved) -> &[usize] {
    let dims = &saved.shape.dims[..];
    if saved.top_tokens.is_some() { &dims[..dims.len().saturating_sub(1)] } else { dims }
}

/// Where a part of these sizes begins that has the rows from `first` on: rows that are shorter than the longest of all are padded on
/// the left.
fn begin(joined: &Joined, part: &[usize], first: usize) -> Vec<usize> {
    let at = |(axis, (whole, part)): (usize, (&usize, &usize))| match joined.join.axis() == Some(axis) {
        true => first,
        false => whole - part,
    };
    zip(places(&joined.saved), part).enumerate().map(at).collect()
}

/// A tensor that is kept, of those of the parts.
fn whole(joined: &Joined, parts: &[Tensor]) -> candle_core::Result<Tensor> {
    let padded = |part: &Tensor| {
        let at = begin(joined, part.dims(), 0);
        at.into_iter().enumerate().try_fold(part.clone(), |part, (axis, padding)| part.pad_with_zeros(axis, padding, 0))
    };
    let parts: Vec<Tensor> = parts.iter().map(padded).collect::<candle_core::Result<_>>()?;
    Tensor::cat(&parts, joined.join.axis().unwrap_or(0))
}

/// What parts come to so far: `before`, and one that has such a share of all rows.
fn folded(join: Join, before: Option<Tensor>, part: Tensor, share: f64) -> candle_core::Result<Tensor> {
    let part = if join == Join::Mean { (part * share)? } else { part };
    before.map_or(Ok(part.clone()), |before| before + part)
}

impl Half {
    /// Adds what came of a part: the number of its first row, and its share of all rows.
    fn add(
        &mut self,
        joined: &Joined,
        (first, share): (usize, f64),
        answer: Answer,
        style: &Style,
    ) -> Result<(), Failure> {
        let all = places(&joined.saved);
        match (self, answer) {
            (Self::Folded(sum), Answer::Tensor { tensor, .. }) => {
                *sum = Some(folded(joined.join, sum.take(), tensor, share)?);
            }
            (Self::Tensor(spool), Answer::Tensor { tensor, dtype, .. }) => {
                let at = begin(joined, tensor.dims(), first);
                WireTensor::new(&tensor, dtype, None, style.convert)?.gather_into(spool, all, &at)?;
            }
            (Self::Tokens(found), Answer::Tokens { dims, tokens }) => {
                let (len, starts) = runs(&dims, all, &begin(joined, &dims, first));
                for [from, to] in starts {
                    found[to..to + len].clone_from_slice(&tokens[from..from + len]);
                }
            }
            _ => return Err(Failure::internal(format!("`{}` is not what was planned", joined.saved.name))),
        }
        Ok(())
    }

    fn body(self, joined: &Joined, style: &Style) -> Result<ResultBody, Failure> {
        match self {
            Self::Tokens(tokens) => Ok(style.tokens(places(&joined.saved).to_vec(), tokens)),
            Self::Tensor(spool) => style.gathered(&joined.saved, spool),
            Self::Folded(tensor) => {
                let Saved { name, shape, dtype, .. } = joined.saved.clone();
                let tensor = tensor.ok_or_else(|| Failure::internal(format!("there is no `{name}`")))?;
                style.result(Answer::Tensor { tensor, shape, dtype })
            }
        }
    }
}
