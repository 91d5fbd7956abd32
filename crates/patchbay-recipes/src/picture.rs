//! How what a recipe gives is drawn.

/// What is drawn of the results, with the names that they do not have themselves.
#[derive(Clone, Debug, PartialEq)]
pub enum Picture {
    /// The likeliest tokens of `probs` or `top`: `[N, L, …]` with these layers, or `[N, …]` without any.
    Tokens(Option<Vec<usize>>),
    /// `grid`: layers by places of the first run named, or by heads.
    Patching {
        /// The layers.
        layers: Vec<usize>,
        /// What the columns are: `position` or `head`.
        by: &'static str,
        /// The columns.
        columns: Vec<String>,
    },
    /// `grid`: layers by factors.
    Steering(Vec<usize>, Vec<f64>),
    /// Targets of these names, `[N, L]` with layers, or `[N]`.
    Targets(Vec<String>, Option<Vec<usize>>),
    /// `attribution` `[N, components]`.
    Attribution(Vec<String>),
    /// `patterns` `[L, N, H, S, S]` of these layers.
    Attention(Vec<usize>),
    /// `accuracy` and `train_accuracy` of these layers.
    Accuracy(Vec<usize>),
}
