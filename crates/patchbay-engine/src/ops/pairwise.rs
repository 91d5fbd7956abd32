//! Arithmetic of two arguments that broadcast.

use candle_core::{DType, Result, Tensor};
use patchbay_graph::Code;
use patchbay_graph::ops::Op;

use super::refused::refused;
use super::{Call, host};
use patchbay_model::derive::{derived, derived2};

impl Call<'_> {
    /// Two arguments, broadcast to the result's shape.
    fn both(&self) -> Result<(Tensor, Tensor)> {
        let dims = self.shape.dims.as_slice();
        Ok((self.broadcast(0, dims)?, self.broadcast(1, dims)?))
    }

    pub(super) fn pairwise(&self) -> Result<Tensor> {
        if !self.dtype.is_float() {
            return self.whole_pairs();
        }
        let (a, b) = (self.float(0)?, self.float(1)?);
        let scaled = |b: Tensor| match self.attrs.number("alpha") {
            None => Ok(b),
            Some(alpha) => b.affine(alpha, 0.0),
        };
        match self.spec.op {
            Op::Add => a.broadcast_add(&scaled(b)?),
            Op::Sub => a.broadcast_sub(&scaled(b)?),
            Op::Mul => a.broadcast_mul(&b),
            Op::Div => match self.attrs.word("rounding_mode") {
                None => a.broadcast_div(&b),
                Some("floor") => floor_div(&a.detach(), &b.detach()),
                Some(_) => truncate(&a.detach().broadcast_div(&b.detach())?),
            },
            Op::Pow => self.pow(),
            op => {
                let (a, b) = self.both()?;
                extreme(&a, &b, op == Op::Maximum)
            }
        }
    }

    /// Of whole numbers, which wrap around.
    fn whole_pairs(&self) -> Result<Tensor> {
        let dims = self.shape.dims.as_slice();
        let data = |number: usize| host::ints(&self.input(number).tensor.broadcast_as(dims)?);
        let (a, b) = (data(0)?, data(1)?);
        let alpha = self.attrs.int("alpha").unwrap_or(1);
        let function: Box<dyn Fn(i64, i64) -> i64> = match self.spec.op {
            Op::Add => Box::new(|a, b| a.wrapping_add(b.wrapping_mul(alpha))),
            Op::Sub => Box::new(|a, b| a.wrapping_sub(b.wrapping_mul(alpha))),
            Op::Mul => Box::new(i64::wrapping_mul),
            Op::Maximum | Op::Max => Box::new(i64::max),
            Op::Minimum | Op::Min => Box::new(i64::min),
            Op::Pow => Box::new(power),
            _ if b.contains(&0) => return Err(refused(Code::BadArgument, "whole numbers are divided by 0".into())),
            _ if self.attrs.word("rounding_mode") == Some("floor") => Box::new(floor_of),
            _ => Box::new(i64::wrapping_div),
        };
        let data = a.into_iter().zip(b).map(|(a, b)| function(a, b)).collect();
        host::of_ints(data, dims, self.dtype, self.device)
    }

    /// `a` to the power of `b`, with PyTorch's slopes where the base is 0.
    fn pow(&self) -> Result<Tensor> {
        let exponent = self.float(1)?;
        if exponent.rank() == 0 && !exponent.track_op() {
            return power_of(&self.float(0)?, exponent.to_dtype(DType::F64)?.to_scalar()?);
        }
        let (a, b) = self.both()?;
        let data = |tensor: &Tensor| host::floats(&tensor.detach());
        let raised = data(&a)?.into_iter().zip(data(&b)?).map(|(a, b)| a.powf(b)).collect();
        let result = host::of_floats(raised, a.dims(), &a)?;
        derived2(&a, &b, result, |a, b, y, g| {
            let (base, exponent) = (host::floats(a)?, host::floats(b)?);
            let (raised, gradient) = (host::floats(y)?, host::floats(g)?);
            let of_base = |i: usize| match exponent[i] {
                0.0 => 0.0,
                e => gradient[i] * e * base[i].powf(e - 1.0),
            };
            let of_exponent = |i: usize| match (base[i], exponent[i]) {
                (0.0, 0.0..) => 0.0,
                (base, _) => gradient[i] * raised[i] * base.ln(),
            };
            let of_base = host::of_floats((0..base.len()).map(of_base).collect(), a.dims(), a)?;
            let of_exponent = host::of_floats((0..base.len()).map(of_exponent).collect(), a.dims(), a)?;
            Ok((of_base, of_exponent))
        })
    }

    /// `maximum` or `minimum`, whichever operation asks.
    pub(super) fn larger_or_smaller(&self, largest: bool) -> Result<Tensor> {
        if !self.dtype.is_float() {
            return self.whole_pairs();
        }
        let (a, b) = self.both()?;
        extreme(&a, &b, largest)
    }
}

/// A power of one exponent for all.
fn power_of(a: &Tensor, exponent: f64) -> Result<Tensor> {
    let power = move |a: &Tensor, exponent: f64| match exponent {
        0.0 => a.ones_like(),
        1.0 => Ok(a.clone()),
        2.0 => a.sqr(),
        exponent => a.powf(exponent),
    };
    derived(a, power(&a.detach(), exponent)?, move |a, _, g| match exponent {
        0.0 => a.zeros_like(),
        _ => (g * power(a, exponent - 1.0)?)?.affine(exponent, 0.0),
    })
}

/// The larger or smaller of two tensors of one shape. Equal ones share the gradient; of a pair with NaN both have all of it.
fn extreme(a: &Tensor, b: &Tensor, largest: bool) -> Result<Tensor> {
    let beaten = move |a: &Tensor, b: &Tensor| if largest { a.lt(b) } else { a.gt(b) };
    let (x, y) = (a.detach(), b.detach());
    let best = beaten(&x, &y)?.where_cond(&y, &x)?;
    let best = y.ne(&y)?.where_cond(&y, &best)?;
    derived2(a, b, best, move |a, b, _, g| {
        let zero = g.zeros_like()?;
        let share = a.eq(b)?.where_cond(&g.affine(0.5, 0.0)?, g)?;
        Ok((beaten(a, b)?.where_cond(&zero, &share)?, beaten(b, a)?.where_cond(&zero, &share)?))
    })
}

/// Towards 0.
fn truncate(x: &Tensor) -> Result<Tensor> {
    x.lt(0.0)?.where_cond(&x.ceil()?, &x.floor()?)
}

/// The floor of a quotient, made of the exact remainder as Python and PyTorch make it: 1 / 0.1 is 9.
fn floor_div(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let dims = a.broadcast_div(b)?.dims().to_vec();
    let expanded = |x: &Tensor| host::floats(&x.broadcast_as(dims.as_slice())?);
    let single = a.dtype() == DType::F32;
    let round = |x: f64| if single { f64::from(x as f32) } else { x };
    let floor = |(a, b): (f64, f64)| {
        if b == 0.0 {
            return a / b;
        }
        let remainder = a % b;
        let mut quotient = round(round(a - remainder) / b);
        if remainder != 0.0 && (b < 0.0) != (remainder < 0.0) {
            quotient -= 1.0;
        }
        if quotient == 0.0 {
            return 0f64.copysign(a / b);
        }
        let floor = quotient.floor();
        if quotient - floor > 0.5 { floor + 1.0 } else { floor }
    };
    host::of_floats(expanded(a)?.into_iter().zip(expanded(b)?).map(floor).collect(), &dims, a)
}

fn floor_of(a: i64, b: i64) -> i64 {
    let quotient = a.wrapping_div(b);
    if a.wrapping_rem(b) != 0 && (a < 0) != (b < 0) { quotient - 1 } else { quotient }
}

/// A whole power, 0 where it would be a fraction.
fn power(base: i64, exponent: i64) -> i64 {
    match (base, exponent) {
        (_, 0..) => (0..64).rev().fold(1i64, |power, bit| {
            let square = power.wrapping_mul(power);
            if exponent >> bit & 1 == 1 { square.wrapping_mul(base) } else { square }
        }),
        (1, _) => 1,
        (-1, _) => {
            if exponent % 2 == 0 {
                1
            } else {
                -1
            }
        }
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_powers_and_quotients() {
        assert_eq!((power(3, 4), power(-2, 3), power(2, 63), power(2, 64)), (81, -8, i64::MIN, 0));
        assert_eq!((power(-1, -3), power(1, -9), power(0, 0), power(7, -1)), (-1, 1, 1, 0));
        assert_eq!((floor_of(-7, 2), floor_of(7, -2), floor_of(-8, 2), floor_of(i64::MIN, -1)), (-4, -4, -4, i64::MIN));
    }
}
