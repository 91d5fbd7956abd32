//! Looking into a running forward pass, and changing it.

use candle_core::{Result, Tensor, bail};
use patchbay_graph::{LayerSite, Site};

/// Looks at, and may replace, the value of a site in a running forward pass.
pub trait Tap {
    /// Whether anything reads or writes this site. Where it answers false the block may fuse over the site and never
    /// make its value.
    fn wants(&self, site: Site) -> bool;

    /// Called where [`wants`](Self::wants) is true, in the order of the forward pass (that of [`Site`]). `value` is
    /// packed as [`Packing`](patchbay_graph::Packing) says: channels `[T, width]`, heads `[T, heads, dim]`, and pairs
    /// flat, each segment's `[heads, len, len]` one after the other. Returns the value to go on with, of the same
    /// shape.
    ///
    /// # Errors
    /// Whatever the tap's own work raises; it ends the forward pass.
    fn visit(&mut self, site: Site, value: Tensor) -> Result<Tensor>;
}

/// A tap that wants nothing.
#[derive(Clone, Copy, Debug)]
pub struct NoTap;

impl Tap for NoTap {
    fn wants(&self, _: Site) -> bool {
        false
    }

    fn visit(&mut self, _: Site, value: Tensor) -> Result<Tensor> {
        Ok(value)
    }
}

/// Offers a value to a tap and gives back the one to go on with.
pub(crate) fn offer(tap: &mut dyn Tap, site: Site, value: Tensor) -> Result<Tensor> {
    if !tap.wants(site) {
        return Ok(value);
    }
    let shape = value.shape().clone();
    let value = tap.visit(site, value)?;
    if value.shape() != &shape {
        bail!("a write at {site} made a value of shape {:?}, but the site's is {shape:?}", value.shape());
    }
    Ok(value)
}

/// A tap on the sites of one block.
pub(crate) struct LayerTap<'a> {
    pub(crate) layer: usize,
    pub(crate) tap: &'a mut dyn Tap,
}

impl LayerTap<'_> {
    pub(crate) fn wants(&self, site: LayerSite) -> bool {
        self.tap.wants(Site::Layer(self.layer, site))
    }

    pub(crate) fn offer(&mut self, site: LayerSite, value: Tensor) -> Result<Tensor> {
        offer(self.tap, Site::Layer(self.layer, site), value)
    }
}
