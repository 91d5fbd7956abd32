//! What stands between the projections of an MLP.

/// A pointwise function, by the names of Hugging Face's `ACT2FN`. In a gated MLP it is applied to the gate, and the up
/// projection is multiplied by what comes out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Activation {
    /// `x · sigmoid(x)`: `silu`, `swish`.
    Silu,
    /// `x · Φ(x)` with the error function: `gelu`, `gelu_python`.
    GeluErf,
    /// GELU's tanh approximation: `gelu_new`, `gelu_pytorch_tanh`, `gelu_fast` and others.
    GeluTanh,
    /// `max(x, 0)`: `relu`.
    Relu,
    /// `max(x, 0)²`: `relu2`.
    ReluSquared,
    /// `xielu`, with numbers that are learned.
    Xielu(Xielu),
    /// `x · sigmoid(sharpness · x)` of `x = min(gate, limit)`, times `clamp(up, -limit, limit) + 1` (gpt-oss).
    ClampedSilu {
        /// Factor in the sigmoid.
        sharpness: f32,
        /// Bound on the gate from above, and on the up projection from both sides; above 0.
        limit: f32,
    },
}

/// The numbers of xIELU (Huang & Schlag 2024, <https://arxiv.org/abs/2411.13010>): `positive · x² + beta · x` above 0,
/// and `negative · (exp(min(x, eps)) - 1 - x) + beta · x` elsewhere.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Xielu {
    /// Curvature above 0.
    pub positive: f32,
    /// Curvature below.
    pub negative: f32,
    /// Slope at 0.
    pub beta: f32,
    /// What the exponential's argument stays under; just below 0.
    pub eps: f32,
}

/// An activation, or where the checkpoint has its numbers.
#[derive(Clone, Debug, PartialEq)]
pub enum ActivationSpec {
    /// One that the configuration describes wholly.
    Fixed(Activation),
    /// xIELU, whose curvatures are learned.
    Xielu(XieluSpec),
}

/// Names of the tensors that xIELU is made of, of one element each.
#[derive(Clone, Debug, PartialEq)]
pub struct XieluSpec {
    /// `ln(exp(positive) - 1)`.
    pub alpha_p: String,
    /// `ln(exp(negative - beta) - 1)`.
    pub alpha_n: String,
    /// The slope at 0; 0.5 in a checkpoint without.
    pub beta: String,
    /// What the exponential's argument stays under; -1e-6 in a checkpoint without.
    pub eps: String,
}

impl XieluSpec {
    /// Stored as `name.alpha_p` and so on.
    pub fn stored(name: &str) -> Self {
        let part = |part: &str| format!("{name}.{part}");
        Self { alpha_p: part("alpha_p"), alpha_n: part("alpha_n"), beta: part("beta"), eps: part("eps") }
    }
}

impl Xielu {
    /// From the stored numbers, those of `beta` and `eps` where the checkpoint has them.
    pub fn from_stored(alpha_p: f32, alpha_n: f32, beta: Option<f32>, eps: Option<f32>) -> Self {
        let softplus = |x: f32| if x > 20.0 { x } else { x.exp().ln_1p() };
        let (beta, eps) = (beta.unwrap_or(0.5), eps.unwrap_or(-1e-6));
        Self { positive: softplus(alpha_p), negative: beta + softplus(alpha_n), beta, eps }
    }
}

impl From<Activation> for ActivationSpec {
    fn from(activation: Activation) -> Self {
        Self::Fixed(activation)
    }
}

impl Activation {
    /// The names in `config.json`, each with what it stands for.
    pub const NAMES: [(&'static str, Self); 11] = [
        ("silu", Self::Silu),
        ("swish", Self::Silu),
        ("gelu", Self::GeluErf),
        ("gelu_python", Self::GeluErf),
        ("gelu_new", Self::GeluTanh),
        ("gelu_fast", Self::GeluTanh),
        ("gelu_accurate", Self::GeluTanh),
        ("gelu_pytorch_tanh", Self::GeluTanh),
        ("gelu_python_tanh", Self::GeluTanh),
        ("relu", Self::Relu),
        ("relu2", Self::ReluSquared),
    ];

    /// The function that a `config.json` names.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(known, _)| *known == name).map(|(_, activation)| *activation)
    }
}
