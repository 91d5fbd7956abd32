//! Elements by number. Numbers out of range are refused when they are there.

use candle_core::{Result, Tensor};
use patchbay_graph::Code;

use super::refused::refused;
use super::{Call, Input, host};
use patchbay_model::derive::derived;

impl Call<'_> {
    /// Indices of an axis of `size` places, as candle takes them.
    fn places(&self, index: &Input<'_>, size: usize) -> Result<Tensor> {
        let places = host::ints(&index.tensor)?;
        if let Some(place) = places.iter().find(|place| !(0..size as i64).contains(*place)) {
            return Err(refused(
                Code::IndexOutOfRange,
                format!("index {place} of `{}` is outside of an axis of {size} places", self.spec.name),
            ));
        }
        let places = places.into_iter().map(|place| place as u32).collect();
        Tensor::from_vec(places, index.tensor.dims(), self.device)
    }

    pub(super) fn index_select(&self) -> Result<Tensor> {
        let (input, index) = (self.input(0), self.need("index")?);
        let axis = self.axis(input.shape, 0)?;
        let places = self.places(index, axis.map_or(1, |axis| input.shape.dims[axis]))?;
        match axis {
            None => Ok(input.tensor.clone()),
            Some(axis) => input.tensor.contiguous()?.index_select(&places.flatten_all()?, axis),
        }
    }

    pub(super) fn gather(&self) -> Result<Tensor> {
        let (input, index) = (self.input(0), self.need("index")?);
        let Some(axis) = self.axis(input.shape, 0)? else {
            let places = self.places(index, 1)?.flatten_all()?;
            return input.tensor.reshape(1)?.index_select(&places, 0)?.reshape(self.shape.dims.as_slice());
        };
        let places = self.places(index, input.shape.dims[axis])?;
        if places.rank() == 0 {
            return input.tensor.contiguous()?.gather(&places.reshape(1)?, axis)?.reshape(self.shape.dims.as_slice());
        }
        shrunk(&input.tensor, places.dims(), axis)?.contiguous()?.gather(&places, axis)
    }

    pub(super) fn scatter_add(&self) -> Result<Tensor> {
        let (input, index, src) = (self.input(0), self.need("index")?, self.need("src")?);
        let axis = self.axis(input.shape, 0)?;
        let axes = |tensor: &Tensor| if tensor.rank() == 0 { tensor.reshape(1) } else { Ok(tensor.clone()) };
        let places = axes(&self.places(index, axis.map_or(1, |axis| input.shape.dims[axis]))?)?;
        if places.elem_count() == 0 {
            return Ok(input.tensor.clone());
        }
        if !self.dtype.is_float() {
            return self.whole_scatter(&places, src, axis.unwrap_or(0));
        }
        let (axis, x) = (axis.unwrap_or(0), axes(&self.float(0)?)?);
        let mut src = axes(&src.tensor.to_dtype(x.dtype())?)?;
        for (at, size) in places.dims().iter().enumerate() {
            src = src.narrow(at, 0, *size)?;
        }
        // candle's backward of this is not right: what flows back is what the places have
        let mut dims = places.dims().to_vec();
        dims[axis] = x.dims()[axis];
        let sums = Tensor::zeros(dims, x.dtype(), self.device)?;
        let sums = sums.scatter_add(&places, &src.detach().contiguous()?, axis)?;
        let mut sums = derived(&src, sums, move |_, _, g| g.contiguous()?.gather(&places, axis))?;
        for (at, size) in x.dims().iter().enumerate() {
            sums = sums.pad_with_zeros(at, 0, size - sums.dims()[at])?;
        }
        (x + sums)?.reshape(self.shape.dims.as_slice())
    }

    fn whole_scatter(&self, places: &Tensor, src: &Input<'_>, axis: usize) -> Result<Tensor> {
        let mut sums = host::ints(&self.input(0).tensor)?;
        let (places_at, src_data) = (host::ints(places)?, host::ints(&src.tensor)?);
        let strides = |dims: &[usize]| -> Vec<usize> {
            (0..dims.len().max(1)).map(|axis| dims.iter().skip(axis + 1).product()).collect()
        };
        let (to, from, by) = (strides(&self.shape.dims), strides(&src.shape.dims), strides(places.dims()));
        for (number, place) in places_at.iter().enumerate() {
            let at = |axis: usize| number / by[axis] % places.dims()[axis];
            let source: usize = (0..by.len()).map(|axis| at(axis) * from[axis]).sum();
            let target: usize =
                (0..by.len()).map(|a| if a == axis { *place as usize * to[a] } else { at(a) * to[a] }).sum();
            sums[target] = sums[target].wrapping_add(src_data[source]);
        }
        host::of_ints(sums, &self.shape.dims, self.dtype, self.device)
    }

    pub(super) fn one_hot(&self) -> Result<Tensor> {
        let count = self.shape.dims[self.shape.rank() - 1];
        let classes = host::ints(&self.input(0).tensor)?;
        if let Some(class) = classes.iter().find(|class| !(0..count as i64).contains(*class)) {
            return Err(refused(Code::IndexOutOfRange, format!("class {class} of {count} in `one_hot`")));
        }
        let mut data = vec![0i64; classes.len() * count];
        classes.iter().enumerate().for_each(|(place, class)| data[place * count + *class as usize] = 1);
        host::of_ints(data, &self.shape.dims, self.dtype, self.device)
    }
}

/// The part of a tensor that an index of these sizes can reach.
fn shrunk(tensor: &Tensor, dims: &[usize], axis: usize) -> Result<Tensor> {
    let mut tensor = tensor.clone();
    for (at, size) in dims.iter().enumerate().filter(|(at, _)| *at != axis) {
        tensor = tensor.narrow(at, 0, *size)?;
    }
    Ok(tensor)
}
