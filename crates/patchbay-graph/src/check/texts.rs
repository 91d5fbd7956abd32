//! Bounds the search for quoted texts: each is looked for in every row of its input.

use super::order::all;
use crate::context::Context;
use crate::index::{Index, Item};
use crate::node::{Action, Node};
use crate::operand::{OperandKind, SiteOperand};
use crate::problem::{Code, Problem, Result};

/// How many bytes of rows the quoted texts of one graph may be looked for in, all together.
const MAX_SEARCHED: usize = 1 << 28;

/// # Errors
/// More to search than there is time for.
pub(super) fn check(nodes: &[Node], context: &Context<'_>) -> Result<()> {
    let mut search = Search { sizes: Vec::new(), searched: 0 };
    for input in context.inputs {
        search.sizes.push((input.name.as_str(), input.rows.iter().map(|row| row.text.len().max(1)).sum()));
    }
    for node in all(nodes.iter()) {
        match &node.action {
            Action::Set { target, .. } => search.site(target, &node.at)?,
            Action::Grad { wrt, .. } => wrt.iter().try_for_each(|site| search.site(site, &node.at))?,
            Action::Steer(steer) => {
                let texts = [&steer.rows, &steer.tokens].into_iter().flatten().map(Item::texts).sum();
                search.add(texts, steer.input.as_deref(), &node.at)?;
            }
            _ => {}
        }
        for operand in node.operands() {
            if let OperandKind::Site(site) = &operand.kind {
                search.site(site, &operand.at)?;
            }
        }
    }
    Ok(())
}

struct Search<'a> {
    /// Name of every input, and the bytes of its rows.
    sizes: Vec<(&'a str, usize)>,
    searched: usize,
}

impl Search<'_> {
    fn site(&mut self, site: &SiteOperand, at: &str) -> Result<()> {
        self.add(site.index.as_ref().map_or(0, Index::texts), site.input.as_deref(), at)
    }

    fn add(&mut self, texts: usize, input: Option<&str>, at: &str) -> Result<()> {
        if texts == 0 {
            return Ok(());
        }
        // an input that is not there is refused elsewhere
        let size =
            self.sizes.iter().find(|(name, _)| input.is_none_or(|input| input == *name)).map_or(0, |(_, size)| *size);
        self.searched = self.searched.saturating_add(texts.saturating_mul(size));
        if self.searched <= MAX_SEARCHED {
            return Ok(());
        }
        let detail = format!("the quoted texts are looked for in more than {MAX_SEARCHED} bytes of rows, all together");
        Err(Problem::new(Code::TooLarge, detail).hint("write the tokens' numbers, or quote fewer texts").at(at))
    }
}
