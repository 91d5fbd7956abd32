//! One walk through the layers: what happens on the way, and where each input has to stop.

use super::build::{Accessed, Built};
use super::schedule::Known;
use crate::context::{Context, TokenRows};
use crate::plan::{Event, Pass, PassInput, Source, Step};
use crate::problem::{Code, Problem, Result};
use crate::selection::Selection;
use crate::site::Site;

/// One walk through the layers.
pub(super) struct Walk<'a> {
    built: &'a Built,
    context: &'a Context<'a>,
    pass: Pass,
    /// Where each input stands.
    standing: Vec<Standing>,
    /// Whether something became known that was not.
    learned: Vec<bool>,
}

/// Where an input stands during a walk.
#[derive(Clone, Copy, PartialEq)]
enum Standing {
    /// It needs no more pass.
    Done,
    /// It runs.
    Runs,
    /// It stopped at the access of this number, which needs a value that is not known yet.
    Waits(usize),
}

impl<'a> Walk<'a> {
    pub(super) fn new(built: &'a Built, context: &'a Context<'a>, finished: &[bool]) -> Self {
        let standing =
            finished.iter().map(|finished| if *finished { Standing::Done } else { Standing::Runs }).collect();
        Self { built, context, pass: Pass::default(), standing, learned: vec![false; finished.len()] }
    }

    pub(super) fn walk(mut self, known: &mut Known<'_>) -> Result<Pass> {
        for (i, access) in self.built.accesses.iter().enumerate() {
            if self.standing[access.input] != Standing::Runs {
                continue;
            }
            match access.what {
                Accessed::Read(id) if known.known[id] => {}
                Accessed::Read(id) => {
                    self.learned[access.input] = true;
                    self.step(access.site, Event::Read(id));
                    known.learn(id).into_iter().for_each(|id| self.step(access.site, Event::Compute(id)));
                }
                Accessed::Grad(gradient, wrt) => self.step(access.site, Event::Grad { gradient, wrt }),
                Accessed::Write(write) if known.known[self.built.writes[write].value] => {
                    self.step(access.site, Event::Write(write));
                }
                Accessed::Skip(skip) if self.built.skips[skip].with.is_none_or(|with| known.known[with]) => {}
                Accessed::Write(_) | Accessed::Skip(_) => self.standing[access.input] = Standing::Waits(i),
            }
        }
        if !self.learned.contains(&true) && !self.standing.contains(&Standing::Runs) {
            return Err(self.backward_flow(known));
        }
        Ok(self.finish())
    }

    fn step(&mut self, site: Site, event: Event) {
        self.pass.steps.push(Step { site, event });
    }

    /// Leaves out inputs that ran in vain, and says how far the others have to go.
    fn finish(mut self) -> Pass {
        let runs = |input: usize| match self.standing[input] {
            Standing::Done => false,
            Standing::Runs => true,
            Standing::Waits(_) => self.learned[input],
        };
        let running: Vec<bool> = (0..self.standing.len()).map(runs).collect();
        let built = self.built;
        self.pass.steps.retain(|step| match step.event {
            Event::Write(write) => running[built.writes[write].input],
            Event::Grad { gradient, wrt } => running[built.gradients[gradient].wrt[wrt].input],
            Event::Read(_) | Event::Compute(_) => true,
        });
        let mut until = vec![Site::EmbedTokens; running.len()];
        let (mut looked_at, mut unembedded) = (self.no_tokens(), self.no_tokens());
        for step in &self.pass.steps {
            let Some((input, selection)) = self.access(step) else { continue };
            until[input] = until[input].max(step.site);
            if step.site >= Site::LnFinalInput {
                selection.mark(1, &mut looked_at[input]);
            }
            if step.site >= Site::LmHead {
                selection.mark(1, &mut unembedded[input]);
            }
        }
        let listed = |row: &Vec<bool>| (0..row.len()).filter(|token| row[*token]).collect();
        let inputs = (0..running.len()).filter(|input| running[*input]).map(|input| PassInput {
            input,
            until: until[input],
            finished: self.standing[input] == Standing::Runs,
            final_tokens: looked_at[input].iter().map(listed).collect(),
            unembedded: unembedded[input].iter().map(listed).collect(),
        });
        self.pass.inputs = inputs.collect();
        self.pass
    }

    /// For every token of every row of every input whether it is looked at: not yet.
    fn no_tokens(&self) -> Vec<Vec<Vec<bool>>> {
        let rows = |input: &TokenRows| input.rows.iter().map(|row| vec![false; row.len()]).collect();
        self.context.inputs.iter().map(rows).collect()
    }

    /// The input and the part that a step reads or writes, if it does.
    fn access(&self, step: &Step) -> Option<(usize, &'a Selection)> {
        match step.event {
            Event::Read(id) => match &self.built.values[id].source {
                Source::Read(read) => Some((read.input, &read.selection)),
                _ => None,
            },
            Event::Write(write) => {
                let write = &self.built.writes[write];
                Some((write.input, &write.selection))
            }
            Event::Compute(_) | Event::Grad { .. } => None,
        }
    }

    /// The first input that cannot go on, and the value that it waits for.
    fn backward_flow(&self, known: &Known<'_>) -> Problem {
        let waiting = self.standing.iter().find_map(|standing| match standing {
            Standing::Waits(access) => Some(&self.built.accesses[*access]),
            _ => None,
        });
        let Some(access) = waiting else {
            return Problem::new(Code::Cycle, "the inputs of this graph wait for each other");
        };
        let (at, value) = match access.what {
            Accessed::Write(write) => (&self.built.writes[write].at, Some(self.built.writes[write].value)),
            Accessed::Skip(skip) => (&self.built.skips[skip].at, self.built.skips[skip].with),
            Accessed::Read(id) => (&self.built.values[id].at, Some(id)),
            Accessed::Grad(gradient, _) => (&self.built.gradients[gradient].at, None),
        };
        let target = access.site;
        let read = value.and_then(|value| known.unknown_read(value)).map(|id| &self.built.values[id].source);
        let Some(Source::Read(read)) = read else {
            return Problem::new(Code::BackwardFlow, format!("the write to `{target}` waits for itself")).at(at);
        };
        let inputs = &self.context.inputs;
        let problem = match read.input == access.input {
            true => format!(
                "`{target}` would be written with a value of `{}`, which comes later in the same pass",
                read.site
            ),
            false => format!(
                "`{}/{target}` waits for `{}/{}`, which waits for it in turn",
                inputs[access.input].name, inputs[read.input].name, read.site
            ),
        };
        Problem::new(Code::BackwardFlow, problem)
            .hint("values flow forwards within one input; give the same text as a second input to take values from later sites")
            .at(at)
    }
}
