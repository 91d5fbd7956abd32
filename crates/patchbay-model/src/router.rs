//! The choice of a token's experts, and their weights.

use std::cmp::Ordering;

use candle_core::{D, DType, Result, Tensor};
use candle_nn::ops;

use crate::parameters::Linear;
use crate::spec::{GroupScore, Groups, Scores, WeightNorm};

/// The router of one mixture of experts. T packed tokens, E experts.
#[derive(Debug)]
pub(crate) struct Router {
    pub(crate) projection: Linear,
    pub(crate) scores: Scores,
    /// `[E]`, added to the scores for the choice alone.
    pub(crate) correction: Option<Tensor>,
    pub(crate) groups: Option<Groups>,
    pub(crate) chosen: usize,
    pub(crate) normalised: Option<WeightNorm>,
    pub(crate) scale: f64,
}

impl Router {
    /// The weight of each expert, from the router's logits: both `[T, E]`. It is 0 for experts that are not chosen.
    ///
    /// The weights have a derivative, the choice has none.
    pub(crate) fn weights(&self, logits: &Tensor) -> Result<Tensor> {
        let exact = logits.to_dtype(DType::F32)?;
        let scores = match self.scores {
            Scores::Softmax => ops::softmax(&exact, D::Minus1)?,
            Scores::Sigmoid | Scores::SigmoidOfChosen => ops::sigmoid(&exact)?,
        };
        let choice = self.choice(if self.scores == Scores::SigmoidOfChosen { &exact } else { &scores })?;
        let weights = (&scores * &choice)?;
        let weights = match self.normalised {
            Some(WeightNorm { order: 1.0, least }) => {
                weights.broadcast_div(&weights.sum_keepdim(1)?.maximum(least)?)?
            }
            Some(WeightNorm { order, least }) => {
                let sum = (scores.powf(order)? * &choice)?.sum_keepdim(1)?;
                weights.broadcast_div(&sum.powf(1.0 / order)?.maximum(least)?)?
            }
            None => weights,
        };
        let weights = if self.scale == 1.0 { weights } else { (weights * self.scale)? };
        weights.to_dtype(logits.dtype())
    }

    /// `[T, E]`: 1 for the experts that a token's scores choose, 0 for the others.
    fn choice(&self, scores: &Tensor) -> Result<Tensor> {
        let (tokens, experts) = scores.dims2()?;
        let corrected = match &self.correction {
            Some(correction) => scores.detach().broadcast_add(correction)?,
            None => scores.detach(),
        };
        let mut choice = vec![0f32; tokens * experts];
        for (row, marks) in corrected.to_vec2::<f32>()?.iter().zip(choice.chunks_exact_mut(experts)) {
            best_experts(row, self.groups, self.chosen).into_iter().for_each(|expert| marks[expert] = 1.0);
        }
        Tensor::from_vec(choice, (tokens, experts), scores.device())
    }
}

/// The experts with the largest scores, of the groups with the largest ones where there are groups.
fn best_experts(scores: &[f32], groups: Option<Groups>, chosen: usize) -> Vec<usize> {
    let Some(groups) = groups else { return largest(scores.iter().copied().enumerate().collect(), chosen) };
    let size = scores.len() / groups.count.max(1);
    let group_scores = scores.chunks_exact(size.max(1)).enumerate().map(|(group, members)| {
        let counted = match groups.score {
            GroupScore::Best => 1,
            GroupScore::TwoBest => 2,
        };
        let best = largest(members.iter().copied().enumerate().collect(), counted);
        (group, best.into_iter().map(|member| members[member]).sum())
    });
    let open = largest(group_scores.collect(), groups.chosen);
    let members = open.into_iter().flat_map(|group| group * size..(group + 1) * size);
    largest(members.map(|expert| (expert, scores[expert])).collect(), chosen)
}

/// The numbers of the `count` largest scores. Of equal ones the lower number is the larger.
fn largest(mut scores: Vec<(usize, f32)>, count: usize) -> Vec<usize> {
    let order = |a: &(usize, f32), b: &(usize, f32)| -> Ordering { b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)) };
    if count < scores.len() {
        scores.select_nth_unstable_by(count, order);
        scores.truncate(count);
    }
    scores.into_iter().map(|(number, _)| number).collect()
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn router(scores: Scores) -> Router {
        let weight = Tensor::zeros((4, 1), DType::F32, &Device::Cpu).unwrap();
        let projection = Linear { weight: weight.into(), bias: None };
        Router { projection, scores, correction: None, groups: None, chosen: 2, normalised: None, scale: 1.0 }
    }

    fn weights(router: &Router, logits: [f32; 4]) -> Vec<f32> {
        let logits = Tensor::new(&[logits], &Device::Cpu).unwrap();
        router.weights(&logits).unwrap().to_vec2().unwrap().swap_remove(0)
    }

    fn close(found: &[f32], expected: &[f32]) {
        let near = found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6);
        assert!(near && found.len() == expected.len(), "{found:?} is not {expected:?}");
    }

    #[test]
    fn the_largest_are_chosen_and_the_lower_number_of_equals() {
        assert_eq!(best_experts(&[0.1, 0.4, 0.4, 0.4], None, 2), [1, 2]);
        let mut all = best_experts(&[0.1, 0.2], None, 5);
        all.sort_unstable();
        assert_eq!(all, [0, 1]);
    }

    #[test]
    fn a_group_counts_by_its_best_or_its_two_best() {
        let scores = [0.8, 0.0, 0.1, 0.5, 0.5, 0.1];
        let best = |score| {
            let mut best = best_experts(&scores, Some(Groups { count: 2, chosen: 1, score }), 2);
            best.sort_unstable();
            best
        };
        assert_eq!(best(GroupScore::TwoBest), [3, 4]);
        assert_eq!(best(GroupScore::Best), [0, 2]);
    }

    #[test]
    fn weights_are_divided_by_a_norm_of_any_order() {
        let logits = [2f32, 4.0, 3.0, 0.5].map(f32::ln);
        let mut softmax = router(Scores::Softmax);
        softmax.normalised = Some(WeightNorm { order: 2.0, least: 0.0 });
        close(&weights(&softmax, logits), &[0.0, 0.8, 0.6, 0.0]);
    }

    #[test]
    fn sigmoids_that_are_equal_do_not_hide_the_larger_logit() {
        let close_to_one = [60.0, 50.0, 70.0, -1.0];
        close(&weights(&router(Scores::SigmoidOfChosen), close_to_one), &[1.0, 0.0, 1.0, 0.0]);
    }

    #[test]
    fn weights_are_scores_normalised_where_that_is_asked_for_and_scaled() {
        let logits = [2f32, 4.0, 3.0, 0.5].map(f32::ln);
        let mut softmax = router(Scores::Softmax);
        let sum = logits.iter().map(|logit| logit.exp()).sum::<f32>();
        close(&weights(&softmax, logits), &[0.0, 4.0 / sum, 3.0 / sum, 0.0]);
        softmax.normalised = Some(WeightNorm::sum(0.0));
        softmax.scale = 2.0;
        close(&weights(&softmax, logits), &[0.0, 8.0 / 7.0, 6.0 / 7.0, 0.0]);
        softmax.normalised = Some(WeightNorm::sum(0.9));
        close(&weights(&softmax, logits), &[0.0, 8.0 / sum / 0.9, 6.0 / sum / 0.9, 0.0]);
    }

    #[test]
    fn a_correction_moves_the_choice_and_no_weight() {
        let mut sigmoid = router(Scores::Sigmoid);
        sigmoid.correction = Some(Tensor::new(&[0f32, -1.0, 0.0, 0.0], &Device::Cpu).unwrap());
        close(&weights(&sigmoid, [0.0, 5.0, -9.0, 0.0]), &[0.5, 0.0, 0.0, 0.5]);
    }
}
