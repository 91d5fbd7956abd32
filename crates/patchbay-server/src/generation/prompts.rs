//! How likely the tokens of prompts were.

use patchbay_checkpoint::Tokenizer;
use patchbay_engine::{Answer, EngineError};
use patchbay_generate::{Beginning, Named, Scored};
use patchbay_graph::{PROMPT_LOGPROBS, PROMPT_TOP};

use crate::Failure;
use crate::wire::generation::TokenLogprob;

/// Whether a result is not one of the request's own.
pub(super) fn is_hidden(name: &str) -> bool {
    name.starts_with('\0')
}

/// The prompts of a generation, each once for all its samples.
pub(super) struct Prompts {
    ids: Vec<Vec<u32>>,
    samples: usize,
}

/// The tokens of prompts, with how likely they were.
pub(super) struct ScoredPrompts<'a> {
    of: &'a Prompts,
    scored: Vec<Vec<(Scored, Vec<Scored>)>>,
}

impl Prompts {
    pub(super) fn new(rows: &[Beginning], samples: usize) -> Self {
        Self { ids: rows.iter().step_by(samples).map(|row| row.prompt.clone()).collect(), samples }
    }

    /// Takes what tells of prompts out of the results.
    pub(super) fn take(&self, results: &mut Vec<Named>) -> Result<ScoredPrompts<'_>, Failure> {
        let (hidden, own) = std::mem::take(results).into_iter().partition(|(name, _)| is_hidden(name));
        *results = own;
        let hidden: Vec<Named> = hidden;
        let find = |name: String| hidden.iter().find(|(known, _)| *known == name).map(|(_, answer)| answer);
        let scored = |(prompt, ids): (usize, &Vec<u32>)| {
            let row = prompt * self.samples;
            let Some(Answer::Tensor { tensor, .. }) = find(format!("{PROMPT_LOGPROBS}{row}")) else {
                return Ok(Vec::new());
            };
            let flat = tensor.flatten_all().and_then(|flat| flat.to_dtype(candle_core::DType::F32));
            let logprobs = flat.and_then(|flat| flat.to_vec1::<f32>()).map_err(EngineError::from)?;
            let top = match find(format!("{PROMPT_TOP}{row}")) {
                Some(Answer::Tokens { tokens, .. }) => tokens.as_slice(),
                _ => &[],
            };
            let places = ids[1..].iter().zip(logprobs).enumerate();
            let place = |(place, (id, logprob)): (usize, (&u32, f32))| {
                let likely = top.get(place).into_iter().flatten();
                let likely = likely.map(|token| Scored { id: token.id, logprob: f64::from(token.prob).ln() });
                (Scored { id: *id, logprob: f64::from(logprob) }, likely.collect())
            };
            Ok(places.map(place).collect())
        };
        let scored = self.ids.iter().enumerate().map(scored).collect::<Result<_, Failure>>()?;
        Ok(ScoredPrompts { of: self, scored })
    }
}

impl ScoredPrompts<'_> {
    /// Of a row of the generation.
    pub(super) fn body(&self, row: usize, tokenizer: Option<&Tokenizer>) -> Option<Vec<Option<TokenLogprob>>> {
        let scored = self.scored.get(row / self.of.samples)?;
        let first = std::iter::once(None);
        Some(first.chain(scored.iter().map(|scored| Some(TokenLogprob::new(scored, tokenizer)))).collect())
    }
}
