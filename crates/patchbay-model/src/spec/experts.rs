//! A mixture of experts: what a token's experts are, and how they are chosen.

use patchbay_graph::Experts;

use super::{LinearSpec, MlpSpec};

/// What a block has after its second norm.
#[derive(Clone, Debug, PartialEq)]
pub enum FeedForward {
    /// One MLP that every token goes through.
    Mlp(Box<MlpSpec>),
    /// Many, of which each token goes through a few.
    Experts(Box<MoeSpec>),
}

/// A mixture of experts (Shazeer et al. 2017): the sum of a few MLPs' outputs, each times the weight that the router gives it.
#[derive(Clone, Debug, PartialEq)]
pub struct MoeSpec {
    /// What chooses the experts of a token and weighs them.
    pub router: RouterSpec,
    /// The experts (E), all of one width.
    pub experts: Vec<MlpSpec>,
    /// An expert that every token goes through besides.
    pub shared: Option<SharedSpec>,
    /// What the weights are factors on.
    pub weighed: Weighed,
}

/// What the weight of an expert is a factor on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weighed {
    /// The expert's output.
    Output,
    /// The expert's input (Llama 4).
    Input,
}

/// The expert that every token goes through.
#[derive(Clone, Debug, PartialEq)]
pub struct SharedSpec {
    /// The expert.
    pub mlp: MlpSpec,
    /// Projection `hidden → 1` whose sigmoid is a factor on the expert's output (Qwen 2).
    pub gate: Option<LinearSpec>,
}

/// From a token to the weights of its experts.
///
/// The router's logits become scores; the experts with the largest ones are chosen, and their scores, normalised and scaled, are
/// their weights. All others have the weight 0.
#[derive(Clone, Debug, PartialEq)]
pub struct RouterSpec {
    /// Projection `hidden → E`.
    pub projection: LinearSpec,
    /// What makes scores of logits.
    pub scores: Scores,
    /// What is added to the scores for the choice alone.
    pub correction: Option<CorrectionSpec>,
    /// Groups of neighbouring experts, some of which are chosen before the experts are.
    pub groups: Option<Groups>,
    /// How many experts a token has.
    pub chosen: usize,
    /// What the chosen scores are divided by, where they are.
    pub normalised: Option<WeightNorm>,
    /// Factor on the weights, after all else.
    pub scale: f64,
}

/// What the scores of a token's experts are divided by: `(Σ score^order)^(1 / order)`, or `least` where that is more.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WeightNorm {
    /// 1 for their sum (DBRX has others).
    pub order: f64,
    /// What the divisor is at least, so that it is never 0.
    pub least: f64,
}

impl WeightNorm {
    /// The sum, at least so much.
    pub const fn sum(least: f64) -> Self {
        Self { order: 1.0, least }
    }
}

/// What makes scores of a router's logits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scores {
    /// The softmax over all experts. Normalised, it is the softmax over the chosen ones.
    Softmax,
    /// The sigmoid of each (DeepSeek 3).
    Sigmoid,
    /// The sigmoid of each, where the experts are those with the largest logits (Llama 4): sigmoids near 1 are equal.
    SigmoidOfChosen,
}

/// What is added to each expert's score for the choice alone (Wang et al. 2024).
#[derive(Clone, Debug, PartialEq)]
pub struct CorrectionSpec {
    /// Name of the stored tensor.
    pub weight: String,
    /// Its shape, of E elements.
    pub shape: Vec<usize>,
}

/// Groups of neighbouring experts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Groups {
    /// How many groups there are; divides E.
    pub count: usize,
    /// How many are chosen.
    pub chosen: usize,
    /// What a group counts by.
    pub score: GroupScore,
}

/// What a group of experts counts by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupScore {
    /// The score of its best expert (DeepSeek 2).
    Best,
    /// The sum of its two best experts' (DeepSeek 3).
    TwoBest,
}

impl From<MlpSpec> for FeedForward {
    fn from(mlp: MlpSpec) -> Self {
        Self::Mlp(Box::new(mlp))
    }
}

impl From<MoeSpec> for FeedForward {
    fn from(experts: MoeSpec) -> Self {
        Self::Experts(Box::new(experts))
    }
}

impl FeedForward {
    /// The same with its MLP changed, if it is one.
    #[must_use]
    pub fn map_mlp(self, change: impl FnOnce(MlpSpec) -> MlpSpec) -> Self {
        match self {
            Self::Mlp(mlp) => change(*mlp).into(),
            experts @ Self::Experts(_) => experts,
        }
    }

    /// Its MLPs: the one, or all experts.
    pub fn mlps(&self) -> impl Iterator<Item = &MlpSpec> {
        let (mlps, shared) = match self {
            Self::Mlp(mlp) => (std::slice::from_ref(&**mlp), None),
            Self::Experts(moe) => (moe.experts.as_slice(), moe.shared.as_ref()),
        };
        mlps.iter().chain(shared.map(|shared| &shared.mlp))
    }

    /// Its projections, those of the router and of a gate among them.
    pub fn projections(&self) -> impl Iterator<Item = &LinearSpec> {
        let moe = match self {
            Self::Mlp(_) => None,
            Self::Experts(moe) => Some(moe),
        };
        let gate = moe.and_then(|moe| moe.shared.as_ref()?.gate.as_ref());
        let of_mlps = self.mlps().flat_map(|mlp| [&mlp.up, &mlp.down].into_iter().chain(&mlp.gate));
        of_mlps.chain(moe.map(|moe| &moe.router.projection)).chain(gate)
    }
}

impl MoeSpec {
    /// What a graph has to know of it.
    pub(crate) fn tree(&self) -> Experts {
        Experts {
            count: self.experts.len(),
            chosen: self.router.chosen,
            width: self.experts.first().map_or(0, |expert| expert.width),
            shared: self.shared.as_ref().map(|shared| shared.mlp.width),
        }
    }
}

impl RouterSpec {
    /// The commonest router: the softmax's largest, divided by their sum.
    pub fn softmax(projection: LinearSpec, chosen: usize) -> Self {
        let (scores, normalised) = (Scores::Softmax, Some(WeightNorm::sum(0.0)));
        Self { projection, scores, correction: None, groups: None, chosen, normalised, scale: 1.0 }
    }
}
