//! Functions with a backward of our own.
//!
//! The value is made of tensors that carry no graph; what flows back is said beside it. So an operation keeps nothing but its
//! arguments and its result, and its gradient is PyTorch's where candle's is not.

use std::sync::{Mutex, PoisonError};

use candle_core::backend::BackendStorage;
use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, CustomOp2, Layout, MetalStorage, Result, Shape, Storage, Tensor,
};

/// Gradient of the argument, given the argument, the result and the gradient of the result.
type Backward = dyn Fn(&Tensor, &Tensor, &Tensor) -> Result<Tensor> + Send + Sync;
/// The same for two arguments.
type Backward2 = dyn Fn(&Tensor, &Tensor, &Tensor, &Tensor) -> Result<(Tensor, Tensor)> + Send + Sync;

struct Known<B: ?Sized> {
    /// Until the operation is recorded.
    result: Mutex<Option<Tensor>>,
    backward: Box<B>,
}

/// `result`, a function of `x`. `backward` is given x, the result and its gradient, none of which carries a graph.
///
/// # Errors
/// candle's, where memory runs out.
pub fn derived(
    x: &Tensor,
    result: Tensor,
    backward: impl Fn(&Tensor, &Tensor, &Tensor) -> Result<Tensor> + Send + Sync + 'static,
) -> Result<Tensor> {
    if !x.track_op() {
        return Ok(result);
    }
    x.apply_op1(Known { result: Mutex::new(Some(own(&result)?)), backward: Box::new(backward) as Box<Backward> })
}

/// `result`, a function of `a` and `b`, both of its shape.
///
/// # Errors
/// candle's, where memory runs out.
pub fn derived2(
    a: &Tensor,
    b: &Tensor,
    result: Tensor,
    backward: impl Fn(&Tensor, &Tensor, &Tensor, &Tensor) -> Result<(Tensor, Tensor)> + Send + Sync + 'static,
) -> Result<Tensor> {
    if !a.track_op() && !b.track_op() {
        return Ok(result);
    }
    a.apply_op2(b, Known { result: Mutex::new(Some(own(&result)?)), backward: Box::new(backward) as Box<Backward2> })
}

/// The tensor in memory of its own.
fn own(tensor: &Tensor) -> Result<Tensor> {
    let tensor = tensor.detach();
    let whole = {
        let (storage, layout) = tensor.storage_and_layout();
        let held = match &*storage {
            Storage::Cpu(CpuStorage::F32(held)) => held.len(),
            Storage::Cpu(CpuStorage::F64(held)) => held.len(),
            _ => 0,
        };
        layout.is_contiguous() && held == layout.shape().elem_count()
    };
    if whole { Ok(tensor) } else { tensor.force_contiguous() }
}

impl<B: ?Sized> Known<B> {
    fn result(&self) -> Result<Tensor> {
        match self.result.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(result) => Ok(result),
            None => candle_core::bail!("the result was taken"),
        }
    }

    fn cpu(&self) -> Result<(CpuStorage, Shape)> {
        let result = self.result()?;
        match &*result.storage_and_layout().0 {
            Storage::Cpu(storage) => Ok((storage.clone(), result.shape().clone())),
            _ => candle_core::bail!("the result lies on another device"),
        }
    }

    fn cuda(&self) -> Result<(CudaStorage, Shape)> {
        let result = self.result()?;
        let (storage, layout) = result.storage_and_layout();
        match &*storage {
            Storage::Cuda(storage) => Ok((storage.try_clone(layout)?, result.shape().clone())),
            _ => candle_core::bail!("the result lies on another device"),
        }
    }

    fn metal(&self) -> Result<(MetalStorage, Shape)> {
        let result = self.result()?;
        let (storage, layout) = result.storage_and_layout();
        match &*storage {
            Storage::Metal(storage) => Ok((storage.try_clone(layout)?, result.shape().clone())),
            _ => candle_core::bail!("the result lies on another device"),
        }
    }
}

impl CustomOp1 for Known<Backward> {
    fn name(&self) -> &'static str {
        "derived"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        self.cpu()
    }

    fn cuda_fwd(&self, _: &CudaStorage, _: &Layout) -> Result<(CudaStorage, Shape)> {
        self.cuda()
    }

    fn metal_fwd(&self, _: &MetalStorage, _: &Layout) -> Result<(MetalStorage, Shape)> {
        self.metal()
    }

    fn bwd(&self, x: &Tensor, result: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        (self.backward)(&x.detach(), &result.detach(), &gradient.detach()).map(Some)
    }
}

impl CustomOp2 for Known<Backward2> {
    fn name(&self) -> &'static str {
        "derived"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        self.cpu()
    }

    fn cuda_fwd(&self, _: &CudaStorage, _: &Layout, _: &CudaStorage, _: &Layout) -> Result<(CudaStorage, Shape)> {
        self.cuda()
    }

    fn metal_fwd(&self, _: &MetalStorage, _: &Layout, _: &MetalStorage, _: &Layout) -> Result<(MetalStorage, Shape)> {
        self.metal()
    }

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        result: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (a, b) = (self.backward)(&a.detach(), &b.detach(), &result.detach(), &gradient.detach())?;
        Ok((Some(a), Some(b)))
    }
}
