//! What writes touched, over all steps.

use patchbay_engine::Receipt;

/// Lines of the steps so far, one for each write.
#[derive(Clone, Debug, Default)]
pub(crate) struct Receipts(Vec<Receipt>);

impl Receipts {
    /// Takes in the lines of a step: positions add up, rows are those of the step that touched most, and changes add up as the
    /// squares of a norm.
    pub(crate) fn add(&mut self, receipts: Vec<Receipt>) {
        for new in receipts {
            let same = |old: &&mut Receipt| old.node == new.node && old.site == new.site && old.input == new.input;
            match self.0.iter_mut().find(same) {
                None => self.0.push(new),
                Some(old) => {
                    old.rows = old.rows.max(new.rows);
                    old.positions += new.positions;
                    old.delta_norm = old.delta_norm.hypot(new.delta_norm);
                }
            }
        }
    }

    /// The lines, by node.
    pub(crate) fn finish(mut self) -> Vec<Receipt> {
        self.0.sort_by_key(|receipt| receipt.node);
        self.0
    }

    /// Whether a node has touched something.
    pub(crate) fn touched(&self, node: usize) -> bool {
        self.0.iter().any(|receipt| receipt.node == node && receipt.positions > 0)
    }
}
