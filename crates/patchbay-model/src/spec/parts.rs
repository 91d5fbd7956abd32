//! Parts in their commonest make, for the files in `arch` to start from.

use super::{
    AttentionSpec, EmbeddingSpec, FeedForward, HeadSpec, LayerSpec, Layout, LinearSpec, LogitTransform, NormKind,
    NormSpec, Residual, Rows,
};

impl NormSpec {
    /// RMSNorm stored as `name.weight`.
    pub fn rms(name: &str, width: usize, eps: f64) -> Self {
        let weights = vec![format!("{name}.weight")];
        Self { kind: NormKind::Rms, eps, width, groups: None, weights, weight_offset: 0.0, bias: None }
    }

    /// LayerNorm stored as `name.weight` (and `name.bias`).
    pub fn layer(name: &str, width: usize, eps: f64, bias: bool) -> Self {
        let bias = bias.then(|| format!("{name}.bias"));
        Self { kind: NormKind::Layer, bias, ..Self::rms(name, width, eps) }
    }

    /// The same norm of a file that holds each weight minus 1.
    pub fn minus_one(self) -> Self {
        Self { weight_offset: 1.0, ..self }
    }

    /// The same norm without a weight.
    pub fn unweighted(self) -> Self {
        Self { weights: Vec::new(), ..self }
    }

    /// The shape of each stored weight.
    pub fn stored_shape(&self) -> Vec<usize> {
        self.groups.into_iter().chain([self.width]).collect()
    }
}

impl AttentionSpec {
    /// Plain causal attention: heads scaled by `head_dim^-½`, no positions, no norms.
    pub fn plain(
        (heads, kv_heads, head_dim): (usize, usize, usize),
        [q, k, v]: [LinearSpec; 3],
        o: LinearSpec,
    ) -> Self {
        Self {
            heads,
            kv_heads,
            head_dim,
            value_dim: head_dim,
            q_latent: None,
            kv_latent: None,
            q,
            k,
            v,
            o,
            clip: None,
            q_norm: None,
            k_norm: None,
            norm_after_rotation: false,
            rotary: None,
            position_scale: None,
            scale: (head_dim as f64).powf(-0.5),
            soft_cap: None,
            alibi: None,
            window: None,
            chunk: None,
            sinks: None,
        }
    }
}

impl LayerSpec {
    /// A block with a norm before each part, one after the other.
    pub fn pre_norm(
        attn_norm: NormSpec,
        attention: AttentionSpec,
        mlp_norm: NormSpec,
        mlp: impl Into<FeedForward>,
    ) -> Self {
        Self {
            residual: Residual::Sequential,
            attn_norm: Some(attn_norm),
            attention,
            attn_post_norm: None,
            mlp_norm: Some(mlp_norm),
            mlp: mlp.into(),
            mlp_post_norm: None,
            multiplier: None,
        }
    }
}

impl EmbeddingSpec {
    /// A table of the residual stream's width, and nothing else.
    pub fn plain(weight: &str) -> Self {
        Self { weight: weight.to_owned(), projection: None, scale: None, norm: None, positions: None }
    }
}

impl HeadSpec {
    /// The embedding's own weight where the two are tied, else `own`, without a bias.
    pub fn plain(tied: bool, embedding: &EmbeddingSpec, own: &str) -> Self {
        let weight = if tied { embedding.weight.clone() } else { own.to_owned() };
        Self {
            weight,
            own: tied.then(|| own.to_owned()),
            projection: None,
            bias: None,
            transform: LogitTransform::default(),
        }
    }
}

impl LinearSpec {
    /// A projection stored as `name.weight` (and `name.bias`), alone and as `[out, in]`.
    pub fn plain(name: &str, input: usize, output: usize, bias: bool) -> Self {
        Self {
            input,
            weight: format!("{name}.weight"),
            bias: bias.then(|| format!("{name}.bias")),
            layout: Layout::OutIn,
            rows: Rows::all(output),
            stack: None,
        }
    }

    /// A part of the outputs of a projection stored as `name.weight` (and `name.bias`), as `[out, in]`.
    pub fn part(name: &str, input: usize, rows: Rows, bias: bool) -> Self {
        Self { rows, ..Self::plain(name, input, rows.total, bias) }
    }

    /// Number of outputs.
    pub fn output(&self) -> usize {
        self.rows.count()
    }
}
