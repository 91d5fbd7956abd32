//! Functions of one element.

use candle_core::{Result, Tensor};
use patchbay_graph::ops::Op;

use super::{Call, host};
use patchbay_model::derive::derived;

const SQRT_2: f64 = std::f64::consts::SQRT_2;
const SQRT_2_BY_PI: f64 = 0.797_884_560_802_865_4;
/// Of the cubic term in the tanh approximation of Φ (Hendrycks and Gimpel, 2016).
const CUBIC: f64 = 0.044_715;

impl Call<'_> {
    pub(super) fn elementwise(&self) -> Result<Tensor> {
        if !self.dtype.is_float() {
            return self.whole();
        }
        let x = self.float(0)?;
        match self.spec.op {
            Op::Neg => x.neg(),
            Op::Abs => derived(&x, x.detach().abs()?, |x, _, g| g * x.sign()?),
            Op::Sqrt => x.sqrt(),
            Op::Rsqrt => derived(&x, x.detach().sqrt()?.recip()?, |_, y, g| (g * (y.sqr()? * y)?)?.affine(-0.5, 0.0)),
            Op::Exp => x.exp(),
            Op::Log => x.log(),
            Op::Sin => x.sin(),
            Op::Cos => x.cos(),
            Op::Tanh => x.tanh(),
            Op::Sigmoid => derived(&x, sigmoid(&x.detach())?, |_, y, g| (g * y)? * y.affine(-1.0, 1.0)?),
            Op::Relu => {
                let d = x.detach();
                derived(&x, where_positive(&d, &d)?, |x, _, g| where_positive(x, g))
            }
            Op::Gelu if self.attrs.word("approximate") == Some("tanh") => gelu_tanh(&x),
            Op::Gelu => gelu(&x),
            Op::Silu => silu(&x),
            Op::Floor => x.detach().floor(),
            Op::Ceil => x.detach().ceil(),
            Op::Round => round(&x.detach(), self.attrs.int("decimals").unwrap_or(0)),
            _ => x.detach().sign(),
        }
    }

    /// Of whole numbers.
    fn whole(&self) -> Result<Tensor> {
        let x = self.input(0);
        let function: fn(i64) -> i64 = match self.spec.op {
            Op::Neg => i64::wrapping_neg,
            Op::Abs => i64::wrapping_abs,
            Op::Relu => |x| x.max(0),
            Op::Sign => i64::signum,
            // a whole number is rounded already
            _ => return Ok(x.tensor.clone()),
        };
        let data = host::ints(&x.tensor)?.into_iter().map(function).collect();
        host::of_ints(data, x.tensor.dims(), self.dtype, self.device)
    }
}

fn sigmoid(x: &Tensor) -> Result<Tensor> {
    x.neg()?.exp()?.affine(1.0, 1.0)?.recip()
}

/// `y` where `x` is above 0 or no number, 0 elsewhere.
fn where_positive(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    x.le(0.0)?.where_cond(&y.zeros_like()?, y)
}

fn silu(x: &Tensor) -> Result<Tensor> {
    let d = x.detach();
    derived(x, (&d / d.neg()?.exp()?.affine(1.0, 1.0)?)?, |x, _, g| {
        let s = sigmoid(x)?;
        let slope = (&s * (x * s.affine(-1.0, 1.0)?)?.affine(1.0, 1.0)?)?;
        g * slope
    })
}

/// Φ(x), the distribution of a normal number.
fn normal(x: &Tensor) -> Result<Tensor> {
    x.affine(1.0 / SQRT_2, 0.0)?.erf()?.affine(0.5, 0.5)
}

fn gelu(x: &Tensor) -> Result<Tensor> {
    let d = x.detach();
    derived(x, (&d * normal(&d)?)?, |x, _, g| {
        let density = x.sqr()?.affine(-0.5, 0.0)?.exp()?.affine(0.5 * SQRT_2_BY_PI, 0.0)?;
        g * (normal(x)? + (x * density)?)?
    })
}

fn gelu_tanh(x: &Tensor) -> Result<Tensor> {
    let inner = |x: &Tensor| (x * x.sqr()?.affine(CUBIC, 1.0)?)?.affine(SQRT_2_BY_PI, 0.0)?.tanh();
    let d = x.detach();
    derived(x, (&d * inner(&d)?.affine(0.5, 0.5)?)?, move |x, _, g| {
        let t = inner(x)?;
        let slope = x.sqr()?.affine(3.0 * CUBIC * SQRT_2_BY_PI, SQRT_2_BY_PI)?;
        let curve = ((x * t.sqr()?.affine(-0.5, 0.5)?)? * slope)?;
        g * (t.affine(0.5, 0.5)? + curve)?
    })
}

/// Nearest number of so many decimal places; halves go to the even one, as IEEE 754 and PyTorch round.
fn round(x: &Tensor, decimals: i64) -> Result<Tensor> {
    if decimals == 0 {
        return half_to_even(x);
    }
    let scale = 10f64.powi(decimals.unsigned_abs() as i32);
    match decimals > 0 {
        true => half_to_even(&x.affine(scale, 0.0)?)? / scale,
        false => half_to_even(&(x / scale)?)?.affine(scale, 0.0),
    }
}

fn half_to_even(x: &Tensor) -> Result<Tensor> {
    let nearest = x.round()?;
    let half = (x - x.floor()?)?.eq(0.5)?;
    let even = x.affine(0.5, 0.0)?.round()?.affine(2.0, 0.0)?;
    half.where_cond(&even, &nearest)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn rounds_halves_to_even() {
        let x = Tensor::new(&[-2.5f32, -1.5, -0.5, 0.5, 1.5, 2.5, 0.4, 1.6], &Device::Cpu).unwrap();
        let rounded = half_to_even(&x).unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(rounded, [-2.0, -2.0, 0.0, 0.0, 2.0, 2.0, 0.0, 2.0]);
    }
}
