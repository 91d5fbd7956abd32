//! From a site operand to the sites and parts that it means.

use crate::context::Context;
use crate::index::Index;
use crate::operand::SiteOperand;
use crate::path::Resolved;
use crate::problem::{Code, Problem, Result};
use crate::selection::Selection;
use crate::site::Site;

use super::window::window;

/// A site of one input.
#[derive(Clone, Copy)]
pub(super) struct Target {
    pub(super) input: usize,
    pub(super) site: Site,
}

impl Target {
    /// The part that an index means, or all of the site.
    pub(super) fn select(self, context: &Context<'_>, index: Option<&Index>) -> Result<Selection> {
        let Self { input, site } = self;
        let packing = context
            .tree
            .packing(site)
            .ok_or_else(|| Problem::new(Code::UnknownSite, format!("this model has no site `{site}`")))?;
        let input = &context.inputs[input];
        let extents = input.extents(packing);
        let find = |row: usize, text: &str| input.rows[row].find(text);
        match window(index, input, packing)? {
            Some(None) => Ok(Selection::all(extents)),
            Some(Some(index)) => Selection::new(&index, extents, Some(&find)),
            None => {
                let detail = format!("this pass has none of the tokens of `{site}` that are meant");
                Err(Problem::new(Code::IndexOutOfRange, detail))
            }
        }
    }
}

/// What a site operand means.
pub(super) struct Selected {
    pub(super) input: usize,
    /// Whether the layers are stacked on a new first axis.
    pub(super) stacked: bool,
    /// The sites and their parts; nothing for `next_token_probs`.
    pub(super) parts: Option<Vec<(Site, Selection)>>,
}

/// Resolves input, layers, site and index.
pub(super) fn select(context: &Context<'_>, operand: &SiteOperand) -> Result<Selected> {
    let input = find_input(context, operand.input.as_deref())?;
    let (sites, stacked) = match operand.path.resolve(context.tree)? {
        Resolved::NextTokenProbs => return Ok(Selected { input, stacked: false, parts: None }),
        Resolved::One(site) => (vec![site], false),
        Resolved::Many(sites) => (sites, true),
    };
    let mut parts: Vec<(Site, Selection)> = Vec::with_capacity(sites.len());
    for site in sites {
        // an index means the same part of every layer that has the same sizes
        let same = parts.last().filter(|(last, _)| context.tree.packing(*last) == context.tree.packing(site));
        let part = match same {
            Some((_, part)) => part.clone(),
            None => Target { input, site }.select(context, operand.index.as_ref())?,
        };
        parts.push((site, part));
    }
    Ok(Selected { input, stacked, parts: Some(parts) })
}

/// The input with this name; without a name, the only one.
pub(super) fn find_input(context: &Context<'_>, name: Option<&str>) -> Result<usize> {
    let names: Vec<&str> = context.inputs.iter().map(|input| input.name.as_str()).collect();
    match name {
        None if names.len() == 1 => Ok(0),
        None => {
            let detail = format!("there are {} inputs, and it is not said which one is meant", names.len());
            let problem = Problem::new(Code::UnknownInput, detail);
            Err(match names.first() {
                Some(name) => problem.hint(format!("put the input's name and a slash before the site: `{name}/…`")),
                None => problem,
            })
        }
        Some(name) => names.iter().position(|other| *other == name).ok_or_else(|| {
            Problem::new(Code::UnknownInput, format!("there is no input `{name}`")).suggest(name, names)
        }),
    }
}
