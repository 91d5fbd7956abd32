//! Waves: one walk through the layers for the rows of any number of requests.
//!
//! A pass of a request says which sites of which tokens it looks at and changes ([`row`]). From that, and from nothing else,
//! follows what has to be computed: runs of tokens, each of which joins at one moment and leaves at another ([`lanes`]).
//! Tokens that nobody looks at, directly or through attention, are in no lane; what several rows have in common is in one.
//! A [`Wave`] says for each layer which lanes go through it. It holds no numbers: the executor follows it with tensors, and
//! the price of a plan with their sizes.

pub mod lanes;
pub mod mark;
pub mod matrix;
pub mod recall;
pub mod row;
mod work;

use lanes::{Lane, Lanes, View};
use mark::Mark;
use matrix::{Matrix, joined};
use recall::Known;
use row::{Alike, Row};

use crate::plan::{Pass, Plan};
use crate::tree::Tree;

/// A pass of a request.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The request's plan.
    pub plan: &'a Plan,
    /// The pass.
    pub pass: &'a Pass,
    /// Ids of all rows of its inputs: input, row, token. A row without ids takes no part.
    pub ids: &'a [Vec<Vec<u32>>],
    /// How many tokens came before them in earlier passes: input, row. None where nothing stands here.
    pub past: &'a [Vec<usize>],
    /// Of how many inputs, the first ones, later passes look back on the keys that this one makes.
    pub keeps: usize,
}

/// What a walk through the layers computes.
#[derive(Clone, Debug)]
pub struct Wave {
    lanes: Lanes,
    /// Request, input and row of each view.
    rows: Vec<(usize, usize, usize)>,
    /// How many tokens each of them begins with that are as the model makes them, and in how many layers they have keys.
    clean_keys: Vec<(usize, usize)>,
    /// How far each lane has to come; nothing for those that nobody needs any more.
    need: Vec<Option<Mark>>,
}

/// The way of lanes through one block.
#[derive(Clone, Debug)]
pub struct Course {
    /// Lanes that go in.
    pub running: Matrix,
    /// Those of them that go on once keys and values are made.
    pub onward: Matrix,
    /// Lanes that pass by.
    pub parked: Vec<usize>,
}

impl Wave {
    /// The wave of these passes of requests. Where values depend
    /// on the length of a sequence (`by_length`), only sequences of equal length have anything in common.
    pub fn new(passes: &[Asked<'_>], tree: &Tree, by_length: bool) -> Self {
        Self::recalling(passes, tree, by_length, &[])
    }

    /// The same where keys of some sequences are `known`, which nothing is where values depend on the length of a sequence.
    pub fn recalling(passes: &[Asked<'_>], tree: &Tree, by_length: bool, known: &[Known<'_>]) -> Self {
        let alike = if by_length { Alike::ByIdsAndLength } else { Alike::ByIds };
        let rows: Vec<(usize, Row<'_>)> = passes
            .iter()
            .enumerate()
            .flat_map(|(track, asked)| row::rows(asked, tree, alike).into_iter().map(move |row| (track, row)))
            .collect();
        Self::of_rows(rows, by_length, known)
    }

    /// The wave of one pass alone, none of whose rows begins like another, whatever their ids are.
    pub fn alone(plan: &Plan, pass: &Pass, tree: &Tree) -> Self {
        let ids: Vec<Vec<Vec<u32>>> =
            plan.inputs.iter().map(|input| input.lengths.iter().map(|len| vec![0; *len]).collect()).collect();
        let past: Vec<Vec<usize>> = plan.inputs.iter().map(|input| input.past.clone()).collect();
        let keeps = past.iter().rposition(|past| past.iter().any(|past| *past > 0)).map_or(0, |last| last + 1);
        let mut rows = row::rows(&Asked { plan, pass, ids: &ids, past: &past, keeps }, tree, Alike::Never);
        rows.iter_mut().for_each(|row| row.part_at_once());
        Self::of_rows(rows.into_iter().map(|row| (0, row)).collect(), false, &[])
    }

    fn of_rows(rows: Vec<(usize, Row<'_>)>, by_length: bool, known: &[Known<'_>]) -> Self {
        let borrowed: Vec<(usize, &Row<'_>)> = rows.iter().map(|(track, row)| (*track, row)).collect();
        let lanes = lanes::lay_out(&borrowed, by_length, known);
        let need = lanes.lanes.iter().map(|lane| lane.need(|_| true)).collect();
        let clean_keys = rows.iter().map(|(_, row)| row.clean_keys()).collect();
        let rows = rows.iter().map(|(track, row)| (*track, row.input, row.row)).collect();
        Self { lanes, rows, clean_keys, need }
    }

    /// The lanes.
    pub fn lanes(&self) -> &[Lane] {
        &self.lanes.lanes
    }

    /// Request, input and row of every row that takes part, and where its tokens are.
    pub fn rows(&self) -> impl Iterator<Item = ((usize, usize, usize), &View)> {
        self.rows.iter().copied().zip(&self.lanes.views)
    }

    /// Where the tokens of a row are.
    pub fn view(&self, row: usize) -> &View {
        &self.lanes.views[row]
    }

    /// How many tokens each row begins with that are as the model makes them, and in how many layers all of them have keys.
    pub fn clean_keys(&self) -> &[(usize, usize)] {
        &self.clean_keys
    }

    /// Rows and views of one input of a request.
    pub fn views(&self, track: usize, input: usize) -> Vec<(usize, &View)> {
        let of = |(row, view): (&(usize, usize, usize), _)| (row.0 == track && row.1 == input).then_some((row.2, view));
        self.rows.iter().zip(&self.lanes.views).filter_map(of).collect()
    }

    /// The tokens of a matrix that requests' passes look at from the final norm on, and those of them that they look at from the
    /// unembedding on, in their order.
    pub fn final_rows<'a>(
        &self,
        passes: impl Iterator<Item = (usize, &'a Plan, &'a Pass)>,
        matrix: &Matrix,
    ) -> [Vec<u32>; 2] {
        let mut found = [Vec::new(), Vec::new()];
        for (track, plan, pass) in passes {
            for input in &pass.inputs {
                for (row, view) in self.views(track, input.input) {
                    let tokens = matrix.tokens_of(view, plan.inputs[input.input].lengths[row]);
                    for (found, looked_at) in found.iter_mut().zip([&input.final_tokens, &input.unembedded]) {
                        found.extend(looked_at[row].iter().filter_map(|token| tokens[*token]));
                    }
                }
            }
        }
        for rows in &mut found {
            rows.sort_unstable();
            rows.dedup();
        }
        found
    }

    /// Lets go of what only requests need that are not `live` any more.
    pub fn keep(&mut self, live: impl Fn(usize) -> bool) {
        self.need = self.lanes.lanes.iter().map(|lane| lane.need(&live)).collect();
    }

    fn needs(&self, lane: usize, mark: Mark) -> bool {
        self.need[lane] >= Some(mark)
    }

    /// The lanes that begin with the embedding.
    pub fn embedded(&self) -> Matrix {
        let begins = |lane: &usize| self.lanes()[*lane].from == Mark::EMBEDDED && self.needs(*lane, Mark::EMBEDDED);
        Matrix::new((0..self.lanes().len()).filter(begins).collect(), self.lanes())
    }

    /// The lanes before a layer, of those whose stream is computed, and of each token the one in `before` that it is taken
    /// from.
    ///
    /// Nothing where a lane joins whose stream was not computed, which would be a mistake in the wave.
    pub fn before(&self, layer: usize, before: &Matrix) -> Option<(Matrix, Vec<u32>)> {
        let mark = Mark::stream(layer);
        let mut lanes: Vec<usize> = before.lanes().iter().copied().filter(|lane| self.needs(*lane, mark)).collect();
        let mut rows = before.rows_of(&lanes, self.lanes());
        let joins = |lane: &usize| self.lanes()[*lane].from == mark && self.needs(*lane, mark);
        let joining: Vec<usize> = (0..self.lanes().len()).filter(joins).collect();
        rows.extend(joined(before, &joining, self.lanes())?);
        lanes.extend(joining);
        Some((Matrix::new(lanes, self.lanes()), rows))
    }

    /// How the lanes before a layer go through it.
    pub fn course(&self, layer: usize, before: &Matrix) -> Course {
        let (keys, onward) = (Mark::keys(layer), Mark::handed(layer + 1));
        let select = |which: &dyn Fn(usize) -> bool| -> Vec<usize> {
            before.lanes().iter().copied().filter(|lane| which(*lane)).collect()
        };
        let skips = |lane: usize| self.lanes()[lane].skips(layer);
        let running = select(&|lane| self.needs(lane, keys) && !skips(lane));
        let going_on = running.iter().copied().filter(|lane| self.needs(*lane, onward)).collect();
        Course {
            running: Matrix::new(running, self.lanes()),
            onward: Matrix::new(going_on, self.lanes()),
            parked: select(&|lane| self.needs(lane, onward) && skips(lane)),
        }
    }
}
