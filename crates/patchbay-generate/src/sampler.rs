//! The next token of a row.

use std::collections::HashMap;

use patchbay_engine::likeliest;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use crate::constraint::Allowed;
use crate::event::Scored;
use crate::settings::Sampling;

/// Takes tokens of one row, one after the other. What it takes depends on its seed, its row and its logits alone.
#[derive(Clone, Debug)]
pub struct Sampler {
    sampling: Sampling,
    random: ChaCha8Rng,
    /// Tokens of the prompt, once each, where they count.
    prompt: Vec<u32>,
    /// How often each token was generated, where it counts.
    generated: HashMap<u32, u32>,
    /// A place for logits that are changed.
    scores: Vec<f32>,
    /// A place for the order of tokens.
    order: Vec<u32>,
}

impl Sampler {
    /// Of the row with this number, which begins with a prompt. Rows have independent streams of one seed.
    pub fn new(sampling: Sampling, seed: u64, row: u64, prompt: &[u32]) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(row);
        let mut prompt = if sampling.repetition_penalty == 1.0 { Vec::new() } else { prompt.to_vec() };
        prompt.sort_unstable();
        prompt.dedup();
        Self { sampling, random, prompt, generated: HashMap::new(), scores: Vec::new(), order: Vec::new() }
    }

    /// Takes a token, which is none of those `banned`, and one of those `allowed` where only some are; nothing where the logits are not
    /// numbers or leave nothing to take.
    pub fn take(&mut self, logits: &[f32], banned: &[u32], allowed: Option<&Allowed>) -> Option<u32> {
        if logits.iter().any(|logit| logit.is_nan()) {
            return None;
        }
        let token = match self.changes(banned) || allowed.is_some() {
            false => self.choose(logits),
            true => {
                let mut scores = std::mem::take(&mut self.scores);
                scores.clear();
                scores.extend_from_slice(logits);
                self.change(&mut scores, banned);
                if let Some(allowed) = allowed {
                    allowed.keep(&mut scores);
                }
                let token = self.choose(&scores);
                self.scores = scores;
                token
            }
        }?;
        if self.counts() {
            *self.generated.entry(token).or_default() += 1;
        }
        Some(token)
    }

    fn counts(&self) -> bool {
        let Sampling { repetition_penalty, presence_penalty, frequency_penalty, .. } = self.sampling;
        repetition_penalty != 1.0 || presence_penalty != 0.0 || frequency_penalty != 0.0
    }

    fn changes(&self, banned: &[u32]) -> bool {
        !self.sampling.logit_bias.is_empty() || self.counts() || !banned.is_empty()
    }

    fn change(&self, scores: &mut [f32], banned: &[u32]) {
        let Sampling { logit_bias, repetition_penalty, presence_penalty, frequency_penalty, .. } = &self.sampling;
        for (id, bias) in logit_bias {
            scores[*id as usize] += bias;
        }
        if *repetition_penalty != 1.0 {
            let penalty = *repetition_penalty as f32;
            let new = self.generated.keys().filter(|id| self.prompt.binary_search(id).is_err());
            for id in self.prompt.iter().chain(new) {
                let score = &mut scores[*id as usize];
                *score = if *score < 0.0 { *score * penalty } else { *score / penalty };
            }
        }
        for (id, count) in &self.generated {
            scores[*id as usize] -= (presence_penalty + frequency_penalty * f64::from(*count)) as f32;
        }
        for id in banned {
            scores[*id as usize] = f32::NEG_INFINITY;
        }
    }

    fn choose(&mut self, scores: &[f32]) -> Option<u32> {
        let (first, highest) = highest(scores)?;
        // what is infinitely likelier than the rest is taken
        if self.sampling.is_greedy() || highest == f32::INFINITY {
            return Some(first);
        }
        let mut order = std::mem::take(&mut self.order);
        let weights = self.weights(scores, highest, &mut order);
        let total: f64 = weights.iter().sum();
        // 53 random bits
        let mut left = (self.random.next_u64() >> 11) as f64 * (-53f64).exp2() * total;
        let found = order.iter().zip(&weights).find(|(_, weight)| {
            left -= **weight;
            left < 0.0
        });
        let token = found.map(|(id, _)| *id).or(order.last().copied());
        self.order = order;
        token
    }

    /// Finds the tokens that may be taken, in the order of their ids, and how likely each is beside the others.
    fn weights(&self, scores: &[f32], highest: f32, order: &mut Vec<u32>) -> Vec<f64> {
        let temperature = self.sampling.temperature as f32;
        let weight = |id: u32| f64::from(scores[id as usize] / temperature - highest / temperature).exp();
        order.clear();
        order.extend((0..scores.len() as u32).filter(|id| scores[*id as usize] > f32::NEG_INFINITY));
        self.narrow(order, scores, &weight);
        order.iter().map(|id| weight(*id)).collect()
    }

    /// Leaves the tokens that may be taken. As in transformers, equal ones count alike: `top_k` may leave more than k.
    fn narrow(&self, order: &mut Vec<u32>, scores: &[f32], weight: &dyn Fn(u32) -> f64) {
        let Sampling { top_k, top_p, min_p, .. } = self.sampling;
        let score = |id: &u32| scores[*id as usize];
        if top_k > 0 && top_k < order.len() {
            let (_, kth, _) = order.select_nth_unstable_by(top_k - 1, |a, b| score(b).total_cmp(&score(a)));
            let least = score(kth);
            order.retain(|id| score(id) >= least);
        }
        if top_p < 1.0 {
            order.sort_unstable_by(|a, b| score(b).total_cmp(&score(a)).then(a.cmp(b)));
            let total: f64 = order.iter().map(|id| weight(*id)).sum();
            let mut before = 0.0;
            let kept = order.iter().take_while(|id| {
                let reached = before >= top_p * total;
                before += weight(**id);
                !reached
            });
            let kept = kept.count().max(1);
            order.truncate(kept);
        }
        if min_p > 0.0 {
            // measured by the likeliest, whose weight is 1
            order.retain(|id| weight(*id) >= min_p);
        }
        // one order for one set of tokens, whatever the way to it
        order.sort_unstable();
    }

    /// The logarithm of the probability that the model gives a token, and those of the `count` likeliest ones, best first.
    pub fn scored(logits: &[f32], token: u32, count: usize) -> (Scored, Vec<Scored>) {
        let highest = highest(logits).map_or(0.0, |(_, highest)| highest);
        let total: f64 = logits.iter().map(|logit| f64::from(logit - highest).exp()).sum();
        let scored = |id: u32| Scored { id, logprob: f64::from(logits[id as usize] - highest) - total.ln() };
        (scored(token), likeliest(logits, count).into_iter().map(scored).collect())
    }
}

/// The first of the highest scores, and its token; nothing where none is above minus infinity.
fn highest(scores: &[f32]) -> Option<(u32, f32)> {
    let mut found = None;
    let mut highest = f32::NEG_INFINITY;
    for (id, score) in scores.iter().enumerate() {
        if *score > highest {
            (found, highest) = (Some(id as u32), *score);
        }
    }
    found.map(|id| (id, highest))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn sampling(settings: &Value) -> Sampling {
        let mut fields = patchbay_graph::fields::Fields::new("settings", settings.as_object().unwrap());
        crate::Settings::parse(&mut fields).unwrap().sampling
    }

    /// What `tests/golden/sampling.py` recorded of transformers' processors.
    #[test]
    fn distributions_are_those_of_transformers() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/sampling.json");
        let cases: Vec<Value> = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        assert!(cases.len() > 50);
        for case in &cases {
            let numbers = |key: &str| -> Vec<f64> { serde_json::from_value(case[key].clone()).unwrap() };
            let ids = |key: &str| -> Vec<u32> { serde_json::from_value(case[key].clone()).unwrap() };
            let mut sampler = Sampler::new(sampling(&case["settings"]), 0, 0, &ids("prompt"));
            if sampler.counts() {
                ids("generated").iter().for_each(|id| *sampler.generated.entry(*id).or_default() += 1);
            }
            let mut scores: Vec<f32> = numbers("logits").into_iter().map(|logit| logit as f32).collect();
            sampler.change(&mut scores, &ids("banned"));
            let (_, highest) = highest(&scores).unwrap();
            let mut order = Vec::new();
            let weights = sampler.weights(&scores, highest, &mut order);
            let total: f64 = weights.iter().sum();
            let mut found = vec![0.0; scores.len()];
            order.iter().zip(&weights).for_each(|(id, weight)| found[*id as usize] = weight / total);
            for (id, (found, expected)) in found.iter().zip(numbers("probs")).enumerate() {
                assert!((found - expected).abs() < 1e-6, "token {id}: {found}, not {expected} of {}", case["settings"]);
            }
        }
    }

    #[test]
    fn as_often_as_they_are_likely() {
        let sampling = Sampling { temperature: 1.0, ..Sampling::default() };
        let logits = [0.1f32, 0.2, 0.3, 0.4].map(f32::ln);
        let mut sampler = Sampler::new(sampling.clone(), 7, 0, &[]);
        let mut counts = [0.0f64; 4];
        (0..40_000).for_each(|_| counts[sampler.take(&logits, &[], None).unwrap() as usize] += 1.0);
        for (count, probability) in counts.iter().zip([0.1, 0.2, 0.3, 0.4]) {
            assert!((count / 40_000.0 - probability).abs() < 0.01, "{counts:?}");
        }
        // rows have streams of their own
        let taken = |row| {
            let mut sampler = Sampler::new(sampling.clone(), 7, row, &[]);
            (0..20).map(|_| sampler.take(&logits, &[], None).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(taken(3), taken(3));
        assert_ne!(taken(3), taken(4));
    }

    #[test]
    fn what_leaves_nothing_to_take() {
        let mut greedy = Sampler::new(Sampling::default(), 0, 0, &[]);
        assert_eq!(greedy.take(&[1.0, 3.0, 3.0], &[], None), Some(1));
        assert_eq!(greedy.take(&[1.0, 3.0, 3.0], &[1], None), Some(2));
        assert_eq!(greedy.take(&[1.0, f32::NAN], &[], None), None);
        assert_eq!(greedy.take(&[f32::NEG_INFINITY; 2], &[], None), None);
        assert_eq!(greedy.take(&[1.0, 2.0], &[0, 1], None), None);
        let mut hot = Sampler::new(Sampling { temperature: 1.0, ..Sampling::default() }, 0, 0, &[]);
        assert_eq!(hot.take(&[1.0, f32::INFINITY], &[], None), Some(1));
    }
}
