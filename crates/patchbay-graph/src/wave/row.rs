//! What a pass asks of each token of a row.

use std::collections::BTreeSet;

use super::Asked;
use super::mark::Mark;
use crate::plan::{Event, Pass, Plan, Source, ValueId};
use crate::selection::Selection;
use crate::site::{Packing, Site};
use crate::tree::Tree;

/// A row of an input in a pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row<'a> {
    /// Number of the input.
    pub input: usize,
    /// Number of the row in it.
    pub row: usize,
    /// Its token ids.
    pub ids: &'a [u32],
    /// How many tokens of its sequence came before them in earlier passes.
    pub past: usize,
    /// How far each token has to come; nothing where it is not needed.
    pub need: Vec<Option<Mark>>,
    /// Whether more than its keys and values is wanted of each token.
    pub looked_at: Vec<bool>,
    /// Where the row is no longer what the model makes of its ids.
    pub parting: Option<Parting>,
    /// Blocks that it does not run through: first and last.
    pub skips: Vec<(usize, usize)>,
    /// Whether it must be computed as one run of tokens and shared with nobody: the whole of its attention matrices is looked
    /// at, or gradients are taken.
    pub whole: bool,
}

/// The first token and the first moment at which something is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parting {
    /// The token.
    pub token: usize,
    /// The moment.
    pub from: Mark,
}

/// Which rows begin alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alike {
    /// None, whatever their ids are.
    Never,
    /// Those that begin with the same ids.
    ByIds,
    /// Those of equal length that do: values depend on the length of a sequence.
    ByIdsAndLength,
}

/// The rows of a pass, with what its steps ask of them.
pub fn rows<'a>(asked: &Asked<'a>, tree: &Tree, alike: Alike) -> Vec<Row<'a>> {
    let Asked { plan, pass, ids, .. } = *asked;
    let mut asking = Asking { tree, alike, rows: Vec::new() };
    for taking_part in &pass.inputs {
        let input = taking_part.input;
        let skips = plan.skips.iter().filter(|skip| skip.input == input).map(|skip| (skip.first, skip.last));
        let skips: Vec<_> = skips.collect();
        asking.rows.extend(ids[input].iter().enumerate().map(|(row, ids)| Row {
            input,
            row,
            ids,
            past: asked.past.get(input).and_then(|past| past.get(row)).copied().unwrap_or(0),
            need: vec![None; ids.len()],
            looked_at: vec![false; ids.len()],
            parting: None,
            skips: skips.clone(),
            whole: false,
        }));
    }
    for skip in &plan.skips {
        asking.skip(skip.input, skip.first, skip.with.is_some());
    }
    asking.follow(plan, pass);
    let private = !plan.gradients.is_empty();
    for row in &mut asking.rows {
        if private {
            let until = pass.inputs.iter().find(|taking_part| taking_part.input == row.input).map(|input| input.until);
            row.keep_private(until.map(|until| Mark::of(until, tree.layers.len())));
        }
        if row.input < asked.keeps {
            row.keep_keys(tree.layers.len());
        }
        if row.past > 0 {
            row.part_at_once();
        }
        row.reach_back();
    }
    asking.rows.retain(|row| row.need.iter().any(Option::is_some));
    asking.rows
}

/// What is done with a part of a site.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    /// It is read.
    Look,
    /// It becomes what the same part of another input was when this value was read.
    Copy { from: usize, value: ValueId },
    /// It becomes something else.
    Change,
}

struct Asking<'t, 'a> {
    tree: &'t Tree,
    alike: Alike,
    rows: Vec<Row<'a>>,
}

impl<'a> Asking<'_, 'a> {
    fn layers(&self) -> usize {
        self.tree.layers.len()
    }

    fn of_input(&mut self, input: usize) -> impl Iterator<Item = &mut Row<'a>> {
        self.rows.iter_mut().filter(move |row| row.input == input)
    }

    /// Looks and parts where the steps of a pass read and write.
    fn follow(&mut self, plan: &Plan, pass: &Pass) {
        // what is asked for once at a site need not be asked for again
        let mut seen: Vec<(Site, usize, Access, &Selection)> = Vec::new();
        let mut reads = BTreeSet::new();
        for step in &pass.steps {
            let (input, access, selection) = match step.event {
                Event::Read(id) => match &plan.values[id].source {
                    Source::Read(read) => {
                        reads.insert(id);
                        (read.input, Access::Look, &read.selection)
                    }
                    _ => continue,
                },
                Event::Write(number) => {
                    let write = &plan.writes[number];
                    let copied = plan.copied(write).filter(|_| reads.contains(&write.value));
                    let access = copied.map_or(Access::Change, |from| Access::Copy { from, value: write.value });
                    (write.input, access, &write.selection)
                }
                // a derivative goes through everything
                Event::Compute(_) | Event::Grad { .. } => continue,
            };
            seen.retain(|(site, ..)| *site == step.site);
            if seen.contains(&(step.site, input, access, selection)) {
                continue;
            }
            seen.push((step.site, input, access, selection));
            self.look(input, step.site, selection);
            match access {
                Access::Look => {}
                Access::Copy { from, .. } => self.part(input, step.site, selection, Some(from)),
                Access::Change => self.part(input, step.site, selection, None),
            }
        }
    }

    /// The tokens of each row that a selection of a site names. Nothing at all is looked at through the first token.
    fn tokens(&self, site: Site, selection: &Selection) -> Vec<Vec<usize>> {
        let axis = match self.tree.packing(site) {
            Some(Packing::Heads { .. } | Packing::Pairs { .. }) => 2,
            _ => 1,
        };
        let mut tokens = selection.tokens(axis);
        if tokens.iter().all(Vec::is_empty) {
            tokens.iter_mut().take(1).for_each(|row| row.push(0));
        }
        tokens
    }

    fn is_matrix(&self, site: Site) -> bool {
        matches!(self.tree.packing(site), Some(Packing::Pairs { .. }))
    }

    fn look(&mut self, input: usize, site: Site, selection: &Selection) {
        let (tokens, mark) = (self.tokens(site, selection), Mark::of(site, self.layers()));
        let (matrix, from) = (self.is_matrix(site), Mark::parting(site, self.layers()));
        for row in self.of_input(input) {
            let Some(tokens) = tokens.get(row.row).filter(|tokens| !tokens.is_empty()) else { continue };
            if matrix {
                row.whole = true;
                row.part(0, from);
                row.need.iter_mut().for_each(|need| *need = (*need).max(Some(mark)));
            }
            for token in tokens.iter().filter(|token| **token < row.ids.len()) {
                row.need[*token] = row.need[*token].max(Some(mark));
                row.looked_at[*token] = true;
            }
        }
    }

    /// How many tokens two rows begin with that are the same, as the model makes them of the same ids.
    fn alike(&self, one: &Row<'_>, other: &Row<'_>) -> usize {
        let apart = match self.alike {
            Alike::Never => true,
            Alike::ByIds => false,
            Alike::ByIdsAndLength => one.ids.len() != other.ids.len(),
        };
        if apart || one.past > 0 || other.past > 0 {
            return 0;
        }
        let same = one.ids.iter().zip(other.ids).take_while(|(one, other)| one == other).count();
        let clean = |row: &Row<'_>| row.parting.map_or(same, |parting| parting.token);
        same.min(clean(one)).min(clean(other))
    }

    /// Parts rows where they are written: from the first token that becomes another one. A token stays what it is where the
    /// same part is copied `from` a row of another input which begins alike.
    fn part(&mut self, input: usize, site: Site, selection: &Selection, from: Option<usize>) {
        let (tokens, mark) = (self.tokens(site, selection), Mark::parting(site, self.layers()));
        let rows = |input: usize| self.rows.iter().filter(move |row| row.input == input);
        let alike = from.map(|from| rows(from).zip(rows(input)).map(|(one, other)| self.alike(one, other)).collect());
        let alike: Vec<usize> = alike.unwrap_or_default();
        for row in self.of_input(input) {
            let alike = alike.get(row.row).copied().unwrap_or(0);
            let changed = |tokens: &Vec<usize>| tokens.iter().copied().find(|token| *token >= alike);
            if let Some(first) = tokens.get(row.row).and_then(changed) {
                row.part(first, mark);
            }
        }
    }

    fn skip(&mut self, input: usize, first: usize, replaced: bool) {
        for row in self.of_input(input) {
            row.part(0, Mark::stream(first));
            if replaced {
                row.need.iter_mut().for_each(|need| *need = (*need).max(Some(Mark::handed(first + 1))));
            }
        }
    }
}

impl Row<'_> {
    fn part(&mut self, token: usize, from: Mark) {
        let before = self.parting.unwrap_or(Parting { token, from });
        self.parting = Some(Parting { token: before.token.min(token), from: before.from.min(from) });
    }

    /// Has the row nothing in common with others from the start.
    pub(crate) fn part_at_once(&mut self) {
        self.part(0, Mark::EMBEDDED);
    }

    /// All of it, computed for nobody else.
    fn keep_private(&mut self, until: Option<Mark>) {
        self.whole = true;
        self.part_at_once();
        self.need.iter_mut().for_each(|need| *need = (*need).max(until));
    }

    /// Has every token make its keys in every block: later passes look back on them.
    fn keep_keys(&mut self, layers: usize) {
        let keys = layers.checked_sub(1).map_or(Mark::EMBEDDED, Mark::keys);
        self.need.iter_mut().for_each(|need| *need = (*need).max(Some(keys)));
    }

    /// Has the tokens before each one come as far as it needs their keys.
    fn reach_back(&mut self) {
        let mut keys = None;
        for need in self.need.iter_mut().rev() {
            *need = (*need).max(keys);
            keys = keys.max(need.and_then(Mark::before));
        }
        if self.whole {
            let furthest = self.need.iter().copied().max().flatten();
            self.need.fill(furthest);
        }
    }

    /// How far a token has to come as the model makes it, before the row parts from it.
    pub fn clean_need(&self, token: usize) -> Option<Mark> {
        match self.parting {
            Some(Parting { token: first, from }) if token >= first => match self.need[token]? {
                need if need < from => Some(need),
                _ => from.copied(),
            },
            _ => self.need[token],
        }
    }

    /// Whether nothing but the keys and values of a token is wanted, as the model makes them.
    pub fn wants_keys_alone(&self, token: usize) -> bool {
        !self.looked_at[token] && self.parting.is_none_or(|parting| token < parting.token)
    }

    /// How many tokens it begins with that are as the model makes them, and in how many layers all of them have keys.
    pub fn clean_keys(&self) -> (usize, usize) {
        if self.past > 0 {
            return (0, 0);
        }
        let clean = self.parting.map_or(self.ids.len(), |parting| parting.token);
        let needed = self.need[..clean].iter().map_while(|need| *need);
        let (tokens, least) = needed.fold((0, None), |(tokens, least): (usize, Option<Mark>), need| {
            (tokens + 1, Some(least.map_or(need, |least| least.min(need))))
        });
        (tokens, least.map_or(0, Mark::layers_with_keys))
    }

    /// From when on and how far a token has to come in the row's own way, if it goes one.
    pub fn own_need(&self, token: usize) -> Option<(Mark, Mark)> {
        let Parting { token: first, from } = self.parting?;
        self.need[token].filter(|need| token >= first && *need >= from).map(|need| (from, need))
    }
}
