//! What some architectures have in their attention besides.

/// A factor on queries that grows with a token's position, so that attention stays sharp far out in a long context
/// (Llama 4): `1 + factor · ln(1 + ⌊(position + offset) / period⌋)`, with positions counted from 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PositionScale {
    /// How fast it grows.
    pub factor: f64,
    /// Tokens that share a factor; above 0. Those of the first period have the factor 1.
    pub period: f64,
    /// What is added to a position.
    pub offset: usize,
}

impl PositionScale {
    /// The factor of the token at a position, in the float32 arithmetic of transformers.
    pub fn at(&self, position: usize) -> f32 {
        let periods = ((position + self.offset) as f32 / self.period as f32).floor();
        1.0 + self.factor as f32 * (1.0 + periods).ln()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // The expected numbers are printed by transformers 5.23: get_llama_4_attn_scale of Ministral 3 (offset 0), and the
    // formula in Llama 4's attention (offset 1).
    #[test]
    fn factors_are_those_of_transformers() {
        let expected = [
            (0, [1.0, 1.0, 1.069_314_7, 1.109_861_3, 1.690_875_5]),
            (1, [1.0, 1.069_314_7, 1.069_314_7, 1.138_629_4, 1.690_875_5]),
        ];
        for (offset, expected) in expected {
            let scale = PositionScale { factor: 0.1, period: 4.0, offset };
            for (position, expected) in [0, 3, 4, 11, 4000].into_iter().zip(expected) {
                let found = scale.at(position);
                assert!((found - expected).abs() <= 2e-7 * expected, "{position}: {found} is not {expected}");
            }
        }
    }
}
