//! How much a wave computes, in tokens times blocks.
//!
//! Counted are the blocks that a token goes through to their ends. That other tokens' keys and values may be made in one block
//! more is left out.

use std::collections::BTreeSet;

use super::Wave;
use super::lanes::Lane;

impl Lane {
    /// Tokens times blocks that it goes through.
    pub fn token_layers(&self) -> usize {
        self.ids.len() * self.blocks().count()
    }

    /// The blocks that it goes through.
    fn blocks(&self) -> impl Iterator<Item = usize> {
        let first = self.from.blocks();
        let end = self.need(|_| true).map_or(first, |need| need.blocks());
        (first..end).filter(|layer| !self.skips(*layer))
    }
}

impl Wave {
    /// Tokens times blocks of all lanes.
    pub fn token_layers(&self) -> usize {
        self.lanes().iter().map(Lane::token_layers).sum()
    }

    /// What each of `tracks` requests has of them: a block that several need for a token counts for each of them in equal parts.
    pub fn token_layers_of(&self, tracks: usize) -> Vec<f64> {
        let mut parts = vec![0.0; tracks];
        for lane in self.lanes() {
            for layer in lane.blocks() {
                let need = lane.claims.iter().filter(|(_, mark)| mark.blocks() > layer);
                let users: BTreeSet<usize> = need.map(|(track, _)| *track).collect();
                let part = lane.ids.len() as f64 / users.len().max(1) as f64;
                users.into_iter().for_each(|track| parts[track] += part);
            }
        }
        parts
    }

    /// Which of the `known` sequences are taken from, and how many tokens of each of `tracks` requests are: one that several of its rows
    /// have in common counts once.
    pub fn recalled(&self, tracks: usize, known: usize) -> (Vec<bool>, Vec<usize>) {
        let (mut taken, mut tokens) = (vec![false; known], vec![BTreeSet::new(); tracks]);
        for ((track, ..), view) in self.rows() {
            for run in &view.recalled {
                taken[run.known] = true;
                tokens[track].extend((run.position..run.position + run.len).map(|position| (run.known, position)));
            }
        }
        (taken, tokens.iter().map(BTreeSet::len).collect())
    }

    /// Tokens times blocks of what follows from a change, which no other request can have in common.
    pub fn own_token_layers(&self) -> usize {
        let own = self.lanes.views.iter().flat_map(|view| &view.own).map(|piece| piece.lane);
        own.collect::<BTreeSet<_>>().into_iter().map(|lane| self.lanes()[lane].token_layers()).sum()
    }
}
