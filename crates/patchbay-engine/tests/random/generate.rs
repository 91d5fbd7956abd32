//! Random graphs that are right. Shapes and the order of sites are kept track of here, on their own, so that a graph which is
//! refused shows a mistake of the checker.

use patchbay_graph::{Packing, Site, Tree};
use serde_json::{Value, json};

use crate::common::Random;

/// A request, and what is known of it.
pub(crate) struct Graph {
    pub(crate) body: Value,
    /// Every result: its name and, where no row differs in length, its sizes.
    pub(crate) results: Vec<(String, Option<Vec<usize>>)>,
    /// Nodes that write, each so often.
    pub(crate) writes: usize,
}

/// A value that nodes may take.
#[derive(Clone)]
pub(crate) struct Known {
    pub(crate) operand: Value,
    /// Its sizes; none where rows differ in length.
    pub(crate) dims: Option<Vec<usize>>,
    /// The axes that every row has alike; of those that rows differ in, nothing is done along.
    pub(crate) kind: Kind,
    /// For each input the last site that it depends on, by its number in the forward pass; `usize::MAX` for gradients.
    pub(crate) needs: Vec<Option<usize>>,
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    /// Any sizes, f32.
    Dense,
    /// Rows and tokens of an input and channels, as long as each row is.
    Stream { input: usize, width: usize },
    /// Not a float, or of no further use.
    Last,
}

pub(crate) struct Generator<'a> {
    pub(crate) random: Random,
    pub(crate) tree: &'a Tree,
    pub(crate) sites: Vec<Site>,
    /// Names of inputs and lengths of their rows.
    pub(crate) inputs: Vec<(String, Vec<usize>)>,
    /// For each input the blocks that do not run.
    pub(crate) skipped: Vec<Option<(usize, usize)>>,
    pub(crate) nodes: Vec<Value>,
    pub(crate) values: Vec<Known>,
    pub(crate) results: Vec<(String, Option<Vec<usize>>)>,
    pub(crate) writes: usize,
    /// Whether every row is on its own.
    pub(crate) rows_apart: bool,
}

impl<'a> Generator<'a> {
    /// A random request on a model; with `rows_apart` on one input, none of whose rows can see another.
    pub(crate) fn graph(tree: &'a Tree, seed: u64, rows_apart: bool) -> Graph {
        let mut random = Random(seed);
        let count = if rows_apart { 1 } else { 1 + random.below(3) };
        let names = if count == 1 { vec!["input"] } else { vec!["clean", "corrupt", "third"] };
        let rows = |random: &mut Random| (0..1 + random.below(3)).map(|_| 3 + random.below(4)).collect::<Vec<_>>();
        let shared = rows(&mut random);
        let mut inputs = Vec::new();
        for name in &names[..count] {
            // inputs of one form can give each other whole streams
            let lengths = if random.once_in(3) { rows(&mut random) } else { shared.clone() };
            inputs.push(((*name).to_owned(), lengths));
        }
        let (sites, skipped) = (tree.sites().collect(), vec![None; count]);
        let (nodes, values, results, writes) = (Vec::new(), Vec::new(), Vec::new(), 0);
        let generator = Self { random, tree, sites, inputs, skipped, nodes, values, results, writes, rows_apart };
        generator.finish()
    }

    fn finish(mut self) -> Graph {
        for input in 0..self.inputs.len() {
            if self.random.once_in(4) {
                self.skip(input);
            }
        }
        for _ in 0..4 + self.random.below(12) {
            match self.random.below(13) {
                0..3 => self.read(),
                3 | 4 => self.set(),
                5 => self.steer(),
                6 if !self.rows_apart => self.grad(),
                7 => self.model_value(),
                8 => self.top_tokens(),
                9 if !self.rows_apart => self.making(),
                _ => self.op(),
            }
        }
        // whatever is made is used
        for known in self.values.clone() {
            self.save(known.operand, known.dims);
        }
        let mut nodes = std::mem::take(&mut self.nodes);
        self.random.shuffle(&mut nodes);
        // whatever is written is seen
        for input in 0..self.inputs.len() {
            let [few, vocab] = [self.random.below(self.tree.vocab), self.tree.vocab];
            let (places, count) = if self.random.once_in(2) { (format!("[{few}, 0]"), 2) } else { (":".into(), vocab) };
            let site = self.name(input, &format!("logits[:, -1, {places}]"));
            self.save(json!(site), Some(vec![self.inputs[input].1.len(), count]));
        }
        nodes.append(&mut self.nodes);
        let mut inputs = serde_json::Map::new();
        for (name, lengths) in &self.inputs {
            let ids =
                |length: usize| -> Vec<usize> { (0..length).map(|_| self.random.below(self.tree.vocab)).collect() };
            let rows: Vec<Vec<usize>> = lengths.iter().copied().map(ids).collect();
            inputs.insert(name.clone(), json!(rows));
        }
        let body = match self.inputs.len() {
            1 => json!({"input": inputs["input"], "graph": nodes}),
            _ => json!({"inputs": inputs, "graph": nodes}),
        };
        Graph { body, results: self.results, writes: self.writes }
    }

    pub(crate) fn name(&self, input: usize, site: &str) -> String {
        if self.inputs.len() == 1 { site.to_owned() } else { format!("{}/{site}", self.inputs[input].0) }
    }

    fn save(&mut self, value: Value, dims: Option<Vec<usize>>) {
        let name = format!("r{}", self.results.len());
        self.nodes.push(json!({"op": "save", "value": value, "as": name}));
        self.results.push((name, dims));
    }

    /// Keeps a value: as a node of its own, or written in place wherever it is taken.
    fn keep(&mut self, mut value: Value, dims: Option<Vec<usize>>, kind: Kind, needs: Vec<Option<usize>>) {
        let is_node = value.get("op").is_some();
        if is_node && !self.random.once_in(3) {
            let id = format!("n{}", self.nodes.len());
            value["id"] = json!(id);
            self.nodes.push(value);
            value = json!(format!("${id}"));
        }
        self.values.push(Known { operand: value, dims, kind, needs });
    }

    fn nothing(&self) -> Vec<Option<usize>> {
        vec![None; self.inputs.len()]
    }

    /// Whether a site runs, and may be written.
    pub(crate) fn is_open(&self, input: usize, site: Site, write: bool) -> bool {
        use patchbay_graph::LayerSite as S;
        match (self.skipped[input], site) {
            (Some((first, last)), Site::Layer(layer, at)) if (first..=last).contains(&layer) => match write {
                true => at == S::Input && layer == first || at == S::Output && layer == last,
                false => matches!(at, S::Input | S::Output),
            },
            _ => true,
        }
    }

    /// A site that can be read or written, and its number.
    pub(crate) fn site(&mut self, input: usize, write: bool) -> (usize, Site) {
        loop {
            let number = self.random.below(self.sites.len());
            if self.is_open(input, self.sites[number], write) {
                return (number, self.sites[number]);
            }
        }
    }

    pub(crate) fn input(&mut self) -> usize {
        self.random.below(self.inputs.len())
    }

    /// A part of a site: its index, its sizes (none where rows differ), and whether it is a whole stream.
    pub(crate) fn part(&mut self, input: usize, packing: Packing) -> (String, Option<Vec<usize>>, Kind) {
        let lengths = self.inputs[input].1.clone();
        let shortest = *lengths.iter().min().unwrap();
        let even = lengths.iter().all(|length| *length == shortest);
        let rows = match self.random.below(if self.rows_apart { 1 } else { 4 }) {
            0 | 1 => (":".to_owned(), Some(lengths.len()), None),
            2 => {
                let row = self.random.below(lengths.len());
                (row.to_string(), None, Some(row))
            }
            _ => {
                let row = self.random.below(lengths.len());
                (format!("{row}:{}", row + 1), Some(1), Some(row))
            }
        };
        let tokens = |random: &mut Random, whole: bool| match random.below(4) {
            0 if whole => (":".to_owned(), Tokens::All),
            1 => {
                let token = random.below(shortest) as i64;
                (if random.once_in(2) { token } else { -1 - token }.to_string(), Tokens::Gone)
            }
            2 => {
                let count = 1 + random.below(shortest);
                (format!("-{count}:"), Tokens::Some(count))
            }
            _ if whole => ("...".to_owned(), Tokens::All),
            _ => (format!(":{shortest}"), Tokens::Some(shortest)),
        };
        let mut index = vec![rows.0];
        let mut dims: Vec<Option<usize>> = rows.1.map(Some).into_iter().collect();
        let length = rows.2.map(|row| lengths[row]).or(even.then_some(shortest));
        let mut add = |index: &mut Vec<String>, (text, tokens): (String, Tokens)| {
            match tokens {
                Tokens::All => dims.push(length),
                Tokens::Some(count) => dims.push(Some(count)),
                Tokens::Gone => {}
            }
            index.push(if text == "..." { ":".into() } else { text });
        };
        let fixed = |random: &mut Random, size: usize| match random.below(4) {
            0 => (random.below(size).to_string(), Tokens::Gone),
            1 => {
                let start = random.below(size);
                (format!("{start}:"), Tokens::Some(size - start))
            }
            _ => (":".to_owned(), Tokens::Some(size)),
        };
        let mut width = 0;
        match packing {
            Packing::Channels { width: size } => {
                let token = tokens(&mut self.random, true);
                add(&mut index, token);
                let channels = fixed(&mut self.random, size);
                width = if channels.0 == ":" { size } else { 0 };
                add(&mut index, channels);
            }
            Packing::Heads { heads, dim } => {
                add(&mut index, fixed(&mut self.random, heads));
                add(&mut index, tokens(&mut self.random, true));
                add(&mut index, fixed(&mut self.random, dim));
            }
            Packing::Pairs { heads } => {
                add(&mut index, fixed(&mut self.random, heads));
                add(&mut index, tokens(&mut self.random, true));
                add(&mut index, tokens(&mut self.random, true));
            }
        }
        let known: Option<Vec<usize>> = dims.into_iter().collect();
        let stream = index[0] == ":" && index[1] == ":" && width > 0;
        let kind = match (&known, stream) {
            (_, true) => Kind::Stream { input, width },
            (Some(_), false) => Kind::Dense,
            (None, false) => Kind::Last,
        };
        (format!("[{}]", index.join(", ")), known, kind)
    }

    fn read(&mut self) {
        let input = self.input();
        let (number, site) = self.site(input, false);
        if self.random.once_in(8) && self.skipped[input].is_none() {
            return self.read_all(input);
        }
        let (index, dims, kind) = self.part(input, self.tree.packing(site).unwrap());
        let mut needs = self.nothing();
        needs[input] = Some(number);
        // scores are infinite where they are masked, which few operations like
        let kind = if site.to_string().ends_with("scores") { Kind::Last } else { kind };
        let operand = json!(self.name(input, &format!("{site}{index}")));
        self.keep(operand, dims, kind, needs);
    }

    /// The same site of every layer, or nnterp's probabilities.
    fn read_all(&mut self, input: usize) {
        let rows = self.inputs[input].1.len();
        let (site, dims) = match self.random.below(3) {
            0 => ("next_token_probs", vec![rows, self.tree.vocab]),
            1 => ("layers.*.output[:, -1]", vec![self.tree.layers.len(), rows, self.tree.hidden]),
            _ => ("layers.[0, -1].mlp.output[:, -1, :3]", vec![2, rows, 3]),
        };
        let mut needs = self.nothing();
        needs[input] = Some(self.sites.len());
        let operand = json!(self.name(input, site));
        self.keep(operand, Some(dims), Kind::Last, needs);
    }

    /// A value of the model: a weight, a module applied to a stream, logits of hidden states.
    fn model_value(&mut self) {
        let hidden = self.tree.hidden;
        let layer = self.random.below(self.tree.layers.len());
        let streams: Vec<Known> = self
            .values
            .iter()
            .filter(|known| matches!(known.kind, Kind::Stream { width, .. } if width == hidden))
            .cloned()
            .collect();
        if streams.is_empty() || self.random.once_in(4) {
            let head = self.tree.layers[layer].heads - 1;
            let (name, dims) = match self.random.below(3) {
                0 => (format!("weights.layers.{layer}.W_O[{head}]"), vec![self.tree.layers[layer].value_dim, hidden]),
                1 => ("weights.ln_final".to_owned(), vec![hidden]),
                _ => ("weights.W_E[:3]".to_owned(), vec![3, hidden]),
            };
            // three rows of a weight are no rows of the input
            let kind = if self.rows_apart { Kind::Last } else { Kind::Dense };
            let needs = self.nothing();
            return self.keep(json!(name), Some(dims), kind, needs);
        }
        let Known { operand, dims, kind, needs } = self.random.of(&streams).clone();
        let Kind::Stream { input, .. } = kind else { return };
        let module = match self.random.below(7) {
            0 => format!("layers.{layer}"),
            1 => format!("layers[{layer}].self_attn"),
            2 => format!("layers.{layer}.mlp"),
            3 => format!("layers.{layer}.{}", self.tree.layers[layer].norms[0].name()),
            4 => "ln_final".to_owned(),
            _ => String::new(),
        };
        if !module.is_empty() {
            return self.keep(json!({"op": "call", "module": module, "args": [operand]}), dims, kind, needs);
        }
        let node = json!({"op": "project_on_vocab", "args": [operand], "output_transform": self.random.once_in(2)});
        let dims = dims.map(|mut dims| {
            *dims.last_mut().unwrap() = self.tree.vocab;
            dims
        });
        self.keep(node, dims, Kind::Stream { input, width: self.tree.vocab }, needs);
    }

    fn top_tokens(&mut self) {
        let input = self.input();
        let (site, dims) = match self.random.below(3) {
            0 => ("logits[:, -1]", Some(vec![self.inputs[input].1.len()])),
            1 => ("logits", None),
            _ => ("lm_head.output[0, 0]", Some(vec![])),
        };
        let (site, dims) =
            if self.rows_apart { ("logits[:, -1]", Some(vec![self.inputs[input].1.len()])) } else { (site, dims) };
        let k = 1 + self.random.below(4);
        let name = format!("t{}", self.nodes.len());
        let value = self.name(input, site);
        self.nodes.push(json!({"op": "top_tokens", "value": value, "k": k, "as": name}));
        self.results.push((name, dims));
    }

    /// The gradient of a number with respect to one site or two.
    fn grad(&mut self) {
        let input = self.input();
        let (mut number, mut site) = self.site(input, false);
        if site == Site::Logits {
            (number, site) = (0, self.sites[0]);
        }
        let vocab = self.random.below(self.tree.vocab);
        let number_of = match self.random.below(3) {
            0 => json!(self.name(input, &format!("logits[0, -1, {vocab}]"))),
            1 => json!({"op": "sum", "args": [self.name(input, "logits[:, -1]")]}),
            _ => json!({"op": "mean", "args": [{"op": "pow", "args": [self.name(input, "ln_final.output"), 2]}]}),
        };
        if number_of.to_string().contains("ln_final") && site >= Site::LnFinalOutput {
            (number, site) = (0, self.sites[0]);
        }
        debug_assert!(number < self.sites.len());
        let (index, dims, kind) = self.part(input, self.tree.packing(site).unwrap());
        let mut needs = self.nothing();
        needs[input] = Some(usize::MAX);
        let wrt = self.name(input, &format!("{site}{index}"));
        let wrt = if self.random.once_in(3) { json!([wrt]) } else { json!(wrt) };
        let dims = if wrt.is_array() { dims.map(|dims| [&[1], &dims[..]].concat()) } else { dims };
        let kind = if wrt.is_array() || kind == Kind::Last { Kind::Last } else { kind };
        self.keep(json!({"op": "grad", "of": number_of, "wrt": wrt}), dims, kind, needs);
    }

    /// A value out of nothing.
    fn making(&mut self) {
        let (value, dims) = match self.random.below(5) {
            0 => (json!({"op": "randn", "args": [2, 3], "seed": 5}), vec![2, 3]),
            1 => (json!({"op": "eye", "args": [3]}), vec![3, 3]),
            2 => (json!({"op": "arange", "args": [0.0, 1.0, 0.25]}), vec![4]),
            3 => (json!([[1.5, -2.0], [0.25, 3.0]]), vec![2, 2]),
            _ => (json!("@joy"), vec![self.tree.hidden]),
        };
        let needs = self.nothing();
        self.keep(value, Some(dims), Kind::Dense, needs);
    }

    fn op(&mut self) {
        let open: Vec<Known> = self.values.iter().filter(|known| known.kind != Kind::Last).cloned().collect();
        if open.is_empty() {
            return self.read();
        }
        let known = self.random.of(&open).clone();
        let (value, dims, kind) = match (&known.kind, &known.dims) {
            (Kind::Dense, Some(dims)) if !self.rows_apart => {
                super::operations::dense(&mut self.random, &known.operand, dims)
            }
            _ => super::operations::row_by_row(&mut self.random, &known.operand, known.dims.as_deref()),
        }
        .parts(known.kind);
        self.keep(value, dims, kind, known.needs);
    }
}

impl super::operations::Made {
    fn parts(self, kind: Kind) -> (Value, Option<Vec<usize>>, Kind) {
        let kind = match (self.keeps, kind) {
            (Keeps::Form, kind) => kind,
            (Keeps::Float, _) if self.dims.is_some() => Kind::Dense,
            _ => Kind::Last,
        };
        (self.value, self.dims, kind)
    }
}

/// What a result has in common with its argument.
pub(crate) enum Keeps {
    /// Everything.
    Form,
    /// That it is a float.
    Float,
    /// Nothing.
    Nothing,
}

enum Tokens {
    All,
    Some(usize),
    Gone,
}
