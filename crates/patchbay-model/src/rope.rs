//! Rotary position embeddings (Su et al. 2021, <https://arxiv.org/abs/2104.09864>) and their scalings.
//!
//! `dims` channels of a head are taken as `dims / 2` pairs, and pair `j` of the token at position `p` is rotated
//! by the angle `p · f_j`, with `f_j = theta^(-2j / dims)` changed by the scaling. Frequencies, angles, cosines and
//! sines are computed in float32 in the order of Hugging Face's `modeling_rope_utils.py`, so that they agree with it
//! to the last bits even far out in a long context.

use std::f32::consts::PI;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{DType, Device, Result, Tensor};

use crate::segments::Segments;

/// How queries and keys are rotated.
#[derive(Clone, Debug, PartialEq)]
pub struct RotarySpec {
    /// Base of the frequencies.
    pub theta: f64,
    /// The first channel of a head that is rotated.
    pub start: usize,
    /// How many channels are rotated; even.
    pub dims: usize,
    /// Which channels make a pair.
    pub pairing: Pairing,
    /// How the frequencies are changed to reach further than the model was trained.
    pub scaling: RotaryScaling,
}

/// Which channels make a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pairing {
    /// Channel `j` with channel `j + dims / 2` (GPT-NeoX, Llama as Hugging Face stores it).
    Halves,
    /// Channel `2j` with channel `2j + 1` (GPT-J, Cohere).
    Neighbours,
    /// Channel `2j` with channel `2j + 1`, which become channels `j` and `j + dims / 2` (DeepSeek 3).
    NeighboursToHalves,
}

/// The change of the frequencies, by the names of Hugging Face's `rope_type`.
#[derive(Clone, Debug, PartialEq)]
pub enum RotaryScaling {
    /// `default`: none.
    None,
    /// `linear`: all divided by `factor`.
    Linear {
        /// How much further the model shall reach.
        factor: f64,
    },
    /// `dynamic`: theta grows once a sequence is longer than `context` (NTK-aware).
    Dynamic {
        /// How much further the model shall reach.
        factor: f64,
        /// `max_position_embeddings`, up to which nothing changes.
        context: usize,
    },
    /// `llama3`: low frequencies divided by `factor`, high ones kept, those between blended.
    Llama3 {
        /// How much further the model shall reach.
        factor: f64,
        /// Wavelengths above `original_context / low_freq_factor` are low frequencies.
        low_freq_factor: f64,
        /// Wavelengths below `original_context / high_freq_factor` are high frequencies.
        high_freq_factor: f64,
        /// The context of the first training.
        original_context: usize,
    },
    /// `yarn` (Peng et al. 2023): a ramp over the pairs from kept to divided, and warmer or colder attention.
    Yarn {
        /// How much further the model shall reach.
        factor: f64,
        /// Rotations over the original context above which a pair is kept.
        beta_fast: f64,
        /// Rotations over the original context below which a pair is divided.
        beta_slow: f64,
        /// The context of the first training.
        original_context: usize,
        /// Whether the ramp's ends are rounded to whole pairs.
        truncate: bool,
        /// Factor on cosines and sines.
        attention_factor: f64,
    },
    /// `longrope` (Ding et al. 2024): a divisor for each pair, one set for sequences up to the original context and
    /// one for longer ones.
    LongRope {
        /// Divisors up to the original context.
        short: Vec<f64>,
        /// Divisors beyond it.
        long: Vec<f64>,
        /// The context of the first training.
        original_context: usize,
        /// Factor on cosines and sines.
        attention_factor: f64,
        /// Whether a sequence that grows beyond the original context is computed again from its start; otherwise its keys stay
        /// as they are.
        again: bool,
    },
}

impl RotaryScaling {
    /// Whether the frequencies depend on how long a sequence is.
    pub(crate) fn depends_on_length(&self) -> bool {
        matches!(self, Self::Dynamic { .. } | Self::LongRope { .. })
    }
}

impl RotarySpec {
    /// The frequency of each pair in radians a token, for a sequence of `length` tokens.
    pub fn frequencies(&self, length: usize) -> Vec<f32> {
        let theta = self.theta_at(length) as f32;
        let dims = self.dims as f32;
        let pairs = 0..self.dims / 2;
        let powers = pairs.map(|pair| theta.powf((2 * pair) as f32 / dims));
        match &self.scaling {
            RotaryScaling::None | RotaryScaling::Dynamic { .. } => powers.map(|power| 1.0 / power).collect(),
            RotaryScaling::Linear { factor } => powers.map(|power| 1.0 / power / *factor as f32).collect(),
            RotaryScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => {
                let blend = |frequency| {
                    llama3(frequency, *factor, *low_freq_factor, *high_freq_factor, *original_context as f64)
                };
                powers.map(|power| blend(1.0 / power)).collect()
            }
            RotaryScaling::Yarn { factor, beta_fast, beta_slow, original_context, truncate, .. } => {
                let end = |rotations| self.yarn_pair(rotations, *original_context);
                let (low, high) = (end(*beta_fast), end(*beta_slow));
                let (low, high) = if *truncate { (low.floor(), high.ceil()) } else { (low, high) };
                let (low, high) = (low.max(0.0), high.min(self.dims as f64 - 1.0));
                let high = if low == high { high + 0.001 } else { high };
                let ramp = |pair: usize| ((pair as f32 - low as f32) / (high - low) as f32).clamp(0.0, 1.0);
                let blend = |(pair, power)| {
                    let kept = 1.0 - ramp(pair);
                    1.0 / (*factor as f32 * power) * (1.0 - kept) + 1.0 / power * kept
                };
                powers.enumerate().map(blend).collect()
            }
            RotaryScaling::LongRope { short, long, original_context, .. } => {
                let divisors = if length > *original_context { long } else { short };
                powers.zip(divisors).map(|(power, divisor)| 1.0 / (*divisor as f32 * power)).collect()
            }
        }
    }

    /// Factor on cosines and sines.
    pub fn attention_factor(&self) -> f64 {
        match self.scaling {
            RotaryScaling::Yarn { attention_factor, .. } | RotaryScaling::LongRope { attention_factor, .. } => {
                attention_factor
            }
            _ => 1.0,
        }
    }

    /// How long a sequence may be in a model of this context: dynamic scaling is there to go beyond it.
    pub fn reach(&self, context: usize) -> usize {
        match self.scaling {
            RotaryScaling::Dynamic { factor, .. } => (context as f64 * factor.clamp(1.0, 1024.0)) as usize,
            _ => context,
        }
    }

    fn theta_at(&self, length: usize) -> f64 {
        match self.scaling {
            RotaryScaling::Dynamic { factor, context } => {
                // transformers' `factor * length / context - (factor - 1)`, such that it is 1 up to the context whatever the factor.
                let stretch = 1.0 + factor * (length.max(context) as f64 / context as f64 - 1.0);
                let dims = self.dims as f64;
                self.theta * stretch.powf(dims / (dims - 2.0))
            }
            _ => self.theta,
        }
    }

    /// The pair that turns this many times over `context` tokens.
    fn yarn_pair(&self, rotations: f64, context: usize) -> f64 {
        let turns = context as f64 / (rotations * 2.0 * std::f64::consts::PI);
        self.dims as f64 * turns.ln() / (2.0 * self.theta.ln())
    }
}

fn llama3(frequency: f32, factor: f64, low_freq_factor: f64, high_freq_factor: f64, context: f64) -> f32 {
    let wavelength = 2.0 * PI / frequency;
    let (factor, low, high) = (factor as f32, low_freq_factor as f32, high_freq_factor as f32);
    if wavelength > (context / low_freq_factor) as f32 {
        frequency / factor
    } else if wavelength < (context / high_freq_factor) as f32 {
        frequency
    } else {
        let smooth = (context as f32 / wavelength - low) / (high - low);
        (1.0 - smooth) * frequency / factor + smooth * frequency
    }
}

/// Cosine and sine of every packed token's angles.
#[derive(Clone, Debug)]
pub struct RotaryRows {
    /// `[T, dims / 2]`.
    pub cos: Tensor,
    /// `[T, dims / 2]`.
    pub sin: Tensor,
    /// The first channel of a head that is rotated.
    pub start: usize,
    /// Which channels make a pair.
    pub pairing: Pairing,
}

/// A rotation ready to run. Remembers the rows of the last segments asked for, since every block of a pass asks for
/// the same.
#[derive(Debug)]
pub(crate) struct Rotary {
    pub(crate) spec: RotarySpec,
    device: Device,
    dtype: DType,
    last: Mutex<Option<(Segments, RotaryRows)>>,
}

impl Rotary {
    pub(crate) fn new(spec: RotarySpec, device: &Device, dtype: DType) -> Arc<Self> {
        Arc::new(Self { spec, device: device.clone(), dtype, last: Mutex::new(None) })
    }

    /// The rows for these segments.
    pub(crate) fn rows(&self, segments: &Segments) -> Result<RotaryRows> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, rows)) = last.as_ref()
            && known == segments
        {
            return Ok(rows.clone());
        }
        let rows = self.compute(segments)?;
        *last = Some((segments.clone(), rows.clone()));
        Ok(rows)
    }

    fn compute(&self, segments: &Segments) -> Result<RotaryRows> {
        let shape = (segments.tokens(), self.spec.dims / 2);
        let factor = self.spec.attention_factor() as f32;
        let (mut cos, mut sin) = (Vec::with_capacity(shape.0 * shape.1), Vec::with_capacity(shape.0 * shape.1));
        for segment in segments {
            let frequencies = self.spec.frequencies(segment.length);
            for position in segment.positions() {
                let angles = frequencies.iter().map(|frequency| frequency * position as f32);
                for (sine, cosine) in angles.map(f32::sin_cos) {
                    cos.push(cosine * factor);
                    sin.push(sine * factor);
                }
            }
        }
        let tensor = |rows| Tensor::from_vec(rows, shape, &self.device)?.to_dtype(self.dtype);
        Ok(RotaryRows { cos: tensor(cos)?, sin: tensor(sin)?, start: self.spec.start, pairing: self.spec.pairing })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segments::Segment;

    fn spec(scaling: RotaryScaling) -> RotarySpec {
        RotarySpec { theta: 10000.0, start: 0, dims: 8, pairing: Pairing::Halves, scaling }
    }

    fn close(found: &[f32], expected: &[f32]) {
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() <= 2e-7 * expected.abs(), "{found} is not {expected}");
        }
    }

    // The expected numbers are printed by transformers 5.23's ROPE_INIT_FUNCTIONS with theta 10000 and head size 8.
    #[test]
    fn frequencies_are_those_of_transformers() {
        close(&spec(RotaryScaling::None).frequencies(9), &[1.0, 0.1, 0.01, 0.001]);
        close(&spec(RotaryScaling::Linear { factor: 4.0 }).frequencies(9), &[0.25, 0.025, 0.0025, 0.00025]);
        let dynamic = spec(RotaryScaling::Dynamic { factor: 2.0, context: 16 });
        close(&dynamic.frequencies(16), &[1.0, 0.1, 0.01, 0.001]);
        close(&dynamic.frequencies(40), &[1.0, 0.062_996_05, 0.003_968_503, 0.000_25]);
        let huge = spec(RotaryScaling::Dynamic { factor: 1e18, context: 16 });
        close(&huge.frequencies(16), &[1.0, 0.1, 0.01, 0.001]);
        let llama3 =
            RotaryScaling::Llama3 { factor: 8.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original_context: 256 };
        close(&spec(llama3).frequencies(9), &[1.0, 0.1, 0.00125, 0.000_125]);
    }

    #[test]
    fn yarn_frequencies_are_those_of_transformers() {
        let yarn = |beta_fast, truncate| {
            let (beta_slow, original_context, attention_factor) = (1.0, 256, 1.2);
            spec(RotaryScaling::Yarn {
                factor: 8.0,
                beta_fast,
                beta_slow,
                original_context,
                truncate,
                attention_factor,
            })
        };
        close(&yarn(32.0, true).frequencies(9), &[1.0, 0.056_25, 0.00125, 0.000_125]);
        close(&yarn(8.0, false).frequencies(9), &[1.0, 0.071_608_46, 0.00125, 0.000_125]);
    }

    #[test]
    fn longrope_frequencies_are_those_of_transformers() {
        let (short, long) = (vec![1.0, 1.5, 2.0, 2.5], vec![2.0, 3.0, 4.0, 5.0]);
        let spec = spec(RotaryScaling::LongRope {
            short,
            long,
            original_context: 256,
            attention_factor: 1.172_603_9,
            again: false,
        });
        close(&spec.frequencies(9), &[1.0, 0.066_666_67, 0.005, 0.0004]);
        close(&spec.frequencies(300), &[0.5, 0.033_333_335, 0.0025, 0.0002]);
    }

    #[test]
    fn rows_follow_each_segments_positions() {
        let rotary = Rotary::new(spec(RotaryScaling::None), &Device::Cpu, DType::F32);
        let later = Segment { position: 7, length: 9, ..Segment::whole(1, 2) };
        let rows = rotary.rows(&Segments::new(vec![Segment::whole(0, 1), later])).unwrap();
        let sin: Vec<Vec<f32>> = rows.sin.to_vec2().unwrap();
        assert_eq!(sin[0], [0.0; 4]);
        close(&sin[2], &[8f32.sin(), 0.8f32.sin(), 0.08f32.sin(), 0.008f32.sin()]);
        let again = rotary.rows(&Segments::from_lengths(&[1])).unwrap();
        assert_eq!(again.cos.to_vec2::<f32>().unwrap(), [[1.0; 4]]);
    }
}
