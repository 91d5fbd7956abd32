//! Results of recipes as pictures.

use std::sync::Arc;

use patchbay_checkpoint::Tokenizer;
use patchbay_pictures::{Bars, Cell, Curves, Grid, Panel, Shades, page};
use patchbay_recipes::Picture;

use crate::Failure;
use crate::wire::result::{ResultBody, TopTokens};
use crate::wire::tensor::WireTensor;
use crate::wire::trace::TraceAnswer;

/// Likeliest tokens that are drawn of each place.
const BEST: usize = 5;
/// Prompts, or heads, that are drawn; the first ones.
const MOST: usize = 64;
/// Components that are drawn.
const COMPONENTS: usize = 24;

/// How an answer is drawn.
#[derive(Clone, Debug)]
pub struct Drawn {
    /// What is drawn of it.
    pub(crate) picture: Picture,
    /// The recipe.
    pub(crate) recipe: String,
    /// What its tokens are called.
    pub(crate) tokenizer: Option<Arc<Tokenizer>>,
}

/// An answer as SVG.
///
/// # Errors
/// It has no picture.
pub(crate) fn svg(answer: &TraceAnswer) -> Result<String, Failure> {
    let Some(drawn) = &answer.picture else {
        let failure = Failure::new(422, "unsupported", "there is no picture of this");
        return Err(
            failure.hint("logit lenses, patchscopes, grids, attributions, targets, attention and probes have one")
        );
    };
    let title = format!("{}: {}", answer.response.model, drawn.recipe);
    Ok(page(&title, &Drawing { answer, drawn }.panels()?))
}

/// A tensor's sizes and elements.
type Array = (Vec<usize>, Vec<f64>);

struct Drawing<'a> {
    answer: &'a TraceAnswer,
    drawn: &'a Drawn,
}

impl Drawing<'_> {
    fn panels(&self) -> Result<Vec<Panel>, Failure> {
        match &self.drawn.picture {
            Picture::Tokens(layers) => self.tokens(layers.as_deref()),
            Picture::Patching { layers, by, columns } => self.patching(layers, by, columns),
            Picture::Steering(layers, factors) => self.steering(layers, factors),
            Picture::Targets(names, layers) => self.targets(names, layers.as_deref()),
            Picture::Attribution(components) => self.attribution(components),
            Picture::Attention(layers) => self.attention(layers),
            Picture::Accuracy(layers) => self.accuracy(layers),
        }
    }

    fn result(&self, name: &str) -> Option<&ResultBody> {
        let results = &self.answer.response.results.0;
        results.iter().find(|(known, _)| known == name).map(|(_, result)| result)
    }

    fn array(&self, name: &str) -> Result<Array, Failure> {
        match self.result(name) {
            Some(ResultBody::Tensor(body)) => array(&body.tensor),
            _ => Err(Failure::internal(format!("there is no tensor `{name}` to draw"))),
        }
    }

    /// The tokens of an input's row as labels.
    fn labels(&self, input: &str, row: usize) -> Vec<String> {
        let inputs = &self.answer.response.inputs;
        let input = inputs.iter().find(|(name, _)| name == input).or(inputs.first());
        let tokens = input.and_then(|(_, input)| input.tokens.as_ref()?.get(row));
        tokens.into_iter().flatten().enumerate().map(|(place, token)| format!("{place}: {token}")).collect()
    }

    fn tokens(&self, layers: Option<&[usize]>) -> Result<Vec<Panel>, Failure> {
        let places: Vec<Vec<(String, f64)>> = match self.result("top") {
            Some(ResultBody::Tokens { tokens }) => named(tokens),
            _ => self.likeliest()?,
        };
        let count = layers.map_or(1, <[usize]>::len).max(1);
        let panel = |(prompt, places): (usize, &[Vec<(String, f64)>])| {
            let title = self.labels("source", prompt).last().cloned().unwrap_or_default();
            let title = format!("prompt {prompt}, behind {title}");
            match layers {
                None => {
                    let bars = places.concat();
                    Bars { title, bars, axis: "probability".into() }.panel()
                }
                Some(layers) => {
                    let cell = |(text, value): &(String, f64)| Cell { value: *value, text: text.clone() };
                    let cells = places.iter().map(|place| place.iter().map(cell).collect()).collect();
                    let ranks = places.iter().map(Vec::len).max().unwrap_or(0);
                    Grid {
                        title,
                        rows: ("layer".into(), named_layers(layers)),
                        columns: ("rank".into(), (1..=ranks).map(|rank| rank.to_string()).collect()),
                        cells,
                        shades: Shades::UpTo(Some(1.0)),
                    }
                    .panel()
                }
            }
        };
        Ok(places.chunks(count).take(MOST).enumerate().map(panel).collect())
    }

    /// The likeliest tokens of probabilities.
    fn likeliest(&self) -> Result<Vec<Vec<(String, f64)>>, Failure> {
        let (dims, probs) = self.array("probs")?;
        let vocab = dims.last().copied().unwrap_or(1).max(1);
        let name =
            |id: usize| self.drawn.tokenizer.as_ref().map_or_else(|| id.to_string(), |t| t.token_text(id as u32));
        let place = |probs: &[f64]| {
            let mut ids: Vec<usize> = (0..probs.len()).collect();
            let best = BEST.min(ids.len());
            if best < ids.len() {
                ids.select_nth_unstable_by(best, |a, b| probs[*b].total_cmp(&probs[*a]));
            }
            ids.truncate(best);
            ids.sort_by(|a, b| probs[*b].total_cmp(&probs[*a]));
            ids.into_iter().map(|id| (name(id), probs[id])).collect()
        };
        Ok(probs.chunks(vocab).map(place).collect())
    }

    fn patching(&self, layers: &[usize], by: &str, columns: &[String]) -> Result<Vec<Panel>, Failure> {
        let (_, grid) = self.array("grid")?;
        let (_, corrupt) = self.array("corrupt")?;
        let tokens = self.labels("clean", 0);
        let column = |name: &String| match (by, name.parse::<i64>()) {
            ("position", Ok(place)) => {
                let at = if place < 0 { tokens.len() as i64 + place } else { place };
                usize::try_from(at).ok().and_then(|at| tokens.get(at)).unwrap_or(name).clone()
            }
            _ => name.clone(),
        };
        let cell = |value: &f64| Cell { value: *value, text: String::new() };
        let grid = Grid {
            title: "the metric, patched; white is the corrupt run".into(),
            rows: ("layer".into(), named_layers(layers)),
            columns: (by.into(), columns.iter().map(column).collect()),
            cells: grid.chunks(columns.len().max(1)).map(|row| row.iter().map(cell).collect()).collect(),
            shades: Shades::Around(corrupt.first().copied().unwrap_or(0.0)),
        };
        Ok(vec![grid.panel()])
    }

    fn steering(&self, layers: &[usize], factors: &[f64]) -> Result<Vec<Panel>, Failure> {
        let (_, grid) = self.array("grid")?;
        let curve = |(layer, values): (&usize, &[f64])| (format!("layer {layer}"), vec![values.to_vec()]);
        let curves = Curves {
            title: String::new(),
            x: ("factor".into(), factors.iter().map(f64::to_string).collect()),
            y: "metric".into(),
            curves: layers.iter().zip(grid.chunks(factors.len().max(1))).map(curve).collect(),
        };
        Ok(vec![curves.panel()])
    }

    fn targets(&self, names: &[String], layers: Option<&[usize]>) -> Result<Vec<Panel>, Failure> {
        let found = names.iter().map(|name| Ok((name, self.array(name)?.1))).collect::<Result<Vec<_>, Failure>>()?;
        let Some(layers) = layers else {
            let bars = found.iter().flat_map(|(name, values)| {
                values.iter().enumerate().map(move |(prompt, value)| (format!("{prompt}: {name}"), *value))
            });
            return Ok(vec![Bars { title: String::new(), bars: bars.collect(), axis: "probability".into() }.panel()]);
        };
        let lines = |values: &Vec<f64>| values.chunks(layers.len().max(1)).map(<[f64]>::to_vec).collect();
        let curves = Curves {
            title: String::new(),
            x: ("layer".into(), named_layers(layers)),
            y: "probability".into(),
            curves: found.iter().map(|(name, values)| ((*name).clone(), lines(values))).collect(),
        };
        Ok(vec![curves.panel()])
    }

    fn attribution(&self, components: &[String]) -> Result<Vec<Panel>, Failure> {
        let (_, shares) = self.array("attribution")?;
        let panel = |(prompt, shares): (usize, &[f64])| {
            let mut bars: Vec<(String, f64)> = components.iter().cloned().zip(shares.iter().copied()).collect();
            bars.sort_by(|(_, a), (_, b)| b.abs().total_cmp(&a.abs()));
            bars.truncate(COMPONENTS);
            let title = format!("prompt {prompt}, the largest of {}", components.len());
            Bars { title, bars, axis: "share of the logit".into() }.panel()
        };
        Ok(shares.chunks(components.len().max(1)).take(MOST).enumerate().map(panel).collect())
    }

    /// The heads of the first prompt.
    fn attention(&self, layers: &[usize]) -> Result<Vec<Panel>, Failure> {
        let (dims, patterns) = self.array("patterns")?;
        let [_, rows, heads, queries, keys] = dims[..] else {
            return Err(Failure::internal("attention has five axes"));
        };
        let tokens = self.labels("input", 0);
        // shorter rows are padded before
        let padding = keys.saturating_sub(tokens.len());
        let head = |(place, head): (usize, usize)| {
            let first = ((place * rows) * heads + head) * queries * keys;
            let cell = |value: &f64| Cell { value: *value, text: String::new() };
            let row = |query: usize| {
                let row = &patterns[first + query * keys..first + (query + 1) * keys];
                row[padding..].iter().map(cell).collect()
            };
            Grid {
                title: format!("layer {}, head {head}", layers[place]),
                rows: ("token".into(), tokens.clone()),
                columns: ("token looked at".into(), tokens.clone()),
                cells: (padding.min(queries)..queries).map(row).collect(),
                shades: Shades::UpTo(Some(1.0)),
            }
            .panel()
        };
        let all = (0..layers.len()).flat_map(|layer| (0..heads).map(move |head| (layer, head)));
        Ok(all.take(MOST).map(head).collect())
    }

    fn accuracy(&self, layers: &[usize]) -> Result<Vec<Panel>, Failure> {
        let curve = |name: &str, told: &str| Ok::<_, Failure>((told.to_owned(), vec![self.array(name)?.1]));
        let curves = Curves {
            title: String::new(),
            x: ("layer".into(), named_layers(layers)),
            y: "accuracy".into(),
            curves: vec![curve("accuracy", "held out")?, curve("train_accuracy", "training")?],
        };
        Ok(vec![curves.panel()])
    }
}

fn named_layers(layers: &[usize]) -> Vec<String> {
    layers.iter().map(usize::to_string).collect()
}

fn named(tokens: &TopTokens) -> Vec<Vec<(String, f64)>> {
    let score =
        |(id, text, prob): (u32, Option<String>, f32)| (text.unwrap_or_else(|| id.to_string()), f64::from(prob));
    tokens.places().map(|place| place.map(score).collect()).collect()
}

fn array(tensor: &WireTensor) -> Result<Array, Failure> {
    Ok((tensor.dims().to_vec(), tensor.floats()?))
}
