//! The parts of a pass that a gradient is taken back through, one at a time.

use crate::plan::{Event, Pass, Plan, Source, Step, ValueId};
use crate::site::Site;

/// A part of a pass, in the order of the forward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Token ids to the residual stream.
    Embed,
    /// A block, with its ends.
    Layer(usize),
    /// The final norm and the unembedding.
    Unembed,
}

impl Part {
    /// The part that a site lies in.
    pub fn of(site: Site) -> Self {
        match site {
            Site::EmbedTokens => Self::Embed,
            Site::Layer(layer, _) => Self::Layer(layer),
            Site::LnFinalInput | Site::LnFinalOutput | Site::LmHead | Site::Logits => Self::Unembed,
        }
    }

    /// The parts of a model with so many blocks.
    pub fn all(layers: usize) -> impl Iterator<Item = Self> {
        std::iter::once(Self::Embed).chain((0..layers).map(Self::Layer)).chain([Self::Unembed])
    }

    /// The first site of the part.
    pub fn first_site(self) -> Site {
        match self {
            Self::Embed => Site::EmbedTokens,
            Self::Layer(layer) => Site::Layer(layer, crate::site::LayerSite::Input),
            Self::Unembed => Site::LnFinalInput,
        }
    }
}

impl Step {
    /// The value that it makes.
    pub fn made(&self) -> Option<ValueId> {
        match self.event {
            Event::Read(id) | Event::Compute(id) => Some(id),
            Event::Write(_) | Event::Grad { .. } => None,
        }
    }
}

impl Pass {
    /// What happens in one part. Steps are in the order of the sites, and so of the parts.
    pub fn steps_in(&self, part: Part) -> &[Step] {
        let first = self.steps.partition_point(|step| Part::of(step.site) < part);
        let count = self.steps[first..].partition_point(|step| Part::of(step.site) == part);
        &self.steps[first..first + count]
    }
}

impl Plan {
    /// Which values are made of something that was read from a pass, by ways that have a derivative.
    pub fn active(&self) -> Vec<bool> {
        let mut active = Vec::with_capacity(self.values.len());
        for value in &self.values {
            let made = match &value.source {
                Source::Read(_) => true,
                Source::Grad { .. } => false,
                Source::Op { spec, .. } if !spec.has_derivative() => false,
                _ => value.args().iter().any(|arg| active[*arg]),
            };
            active.push(made && value.dtype.is_float());
        }
        active
    }

    /// The first part of a pass that the derivative of the residual stream has to reach for a gradient; nothing where
    /// nothing needs it.
    pub fn lowest(&self, pass: &Pass, gradient: usize, active: &[bool]) -> Option<Part> {
        let wanted = |event: Event| match event {
            Event::Grad { gradient: number, .. } => number == gradient,
            Event::Write(write) => active[self.writes[write].value],
            Event::Read(_) | Event::Compute(_) => false,
        };
        let steps = pass.steps.iter().filter(|step| wanted(step.event)).map(|step| Part::of(step.site));
        let runs = |input: usize| pass.inputs.iter().any(|taking_part| taking_part.input == input);
        let skips = self.skips.iter().filter(|skip| runs(skip.input) && skip.with.is_some_and(|id| active[id]));
        steps.chain(skips.map(|skip| Part::Layer(skip.first))).min()
    }

    /// Active values that a part of a pass takes, and that are made before it.
    pub fn taken(&self, pass: &Pass, part: Part, active: &[bool]) -> Vec<ValueId> {
        let mut made = Vec::new();
        let mut taken: Vec<ValueId> = Vec::new();
        for step in pass.steps_in(part) {
            match step.event {
                Event::Read(_) | Event::Grad { .. } => {}
                Event::Compute(id) => taken.extend(self.values[id].args()),
                Event::Write(write) => taken.push(self.writes[write].value),
            }
            made.extend(step.made());
        }
        if let Part::Layer(layer) = part {
            taken.extend(self.skips.iter().filter(|skip| skip.first == layer).filter_map(|skip| skip.with));
        }
        made.sort_unstable();
        taken.retain(|id| active[*id] && made.binary_search(id).is_err());
        taken.sort_unstable();
        taken.dedup();
        taken
    }
}
