//! Random writes: `set`, `steer` and `skip`.

use patchbay_graph::{LayerSite, Site};
use serde_json::{Value, json};

use super::generate::{Generator, Kind, Known};

impl Generator<'_> {
    /// A value that may be written to a part of a site.
    fn written(&mut self, input: usize, number: usize, dims: Option<&Vec<usize>>) -> Value {
        let fits = |known: &&Known| {
            let early = known.needs.iter().enumerate().all(|(other, last)| match last {
                None => true,
                Some(last) if other == input => *last < number,
                // values flow from inputs to later ones, so that none waits for itself
                Some(_) => other < input,
            });
            early
                && known.kind != Kind::Last
                && known.dims.is_some()
                && (known.dims.as_ref() == dims || known.dims == Some(vec![]))
        };
        // a gradient may later be taken through what is written, and not through a gradient
        let operand = |known: &Known| match known.needs.contains(&Some(usize::MAX)) {
            true => json!({"op": "detach", "args": [known.operand]}),
            false => known.operand.clone(),
        };
        let fitting: Vec<Value> = self.values.iter().filter(fits).map(operand).collect();
        if !fitting.is_empty() && !self.random.once_in(3) {
            return self.random.of(&fitting).clone();
        }
        match (dims, self.random.below(3)) {
            (Some(dims), 0) if dims.iter().product::<usize>() < 64 && !self.rows_apart => {
                let count: usize = dims.iter().product();
                let data: Vec<f64> = (0..count).map(|i| i as f64 / 8.0 - 1.0).collect();
                json!({"dtype": "f32", "shape": dims, "data": data})
            }
            (_, 1) => json!({"op": "full", "args": [[], 0.25]}),
            _ => json!(self.random.below(5) as f64 / 4.0 - 0.5),
        }
    }

    pub(crate) fn set(&mut self) {
        let input = self.input();
        let (number, site) = self.site(input, true);
        let (index, dims, kind) = self.part(input, self.tree.packing(site).unwrap());
        // now and then the part itself, changed, as `+=` has it
        let target = self.name(input, &format!("{site}{index}"));
        let value = match self.random.once_in(4) && kind != Kind::Last {
            true => json!({"op": "mul", "args": [target, 0.5]}),
            false => self.written(input, number, dims.as_ref()),
        };
        self.nodes.push(json!({"op": "set", "target": target, "value": value}));
        self.writes += 1;
    }

    pub(crate) fn steer(&mut self) {
        let input = self.input();
        let site =
            *self.random.of(&["output", "attn_add", "mlp_add", "resid_mid", "self_attn.output", "mlp.output", "input"]);
        let there = |layer: &usize| {
            let site = Site::Layer(*layer, LayerSite::from_name(site).unwrap());
            self.tree.packing(site).is_some() && self.is_open(input, site, true)
        };
        let open: Vec<usize> = (0..self.tree.layers.len()).filter(there).collect();
        if open.is_empty() {
            return;
        }
        let mut node = json!({"op": "steer", "layers": *self.random.of(&open), "site": site});
        self.writes += 1;
        if self.random.once_in(3) && open.len() > 1 {
            node["layers"] = json!(open);
            self.writes += open.len() - 1;
        }
        if site == "output" {
            node.as_object_mut().unwrap().remove("site");
        }
        let column = self.random.below(self.tree.vocab);
        node["vector"] = match self.random.below(4) {
            0 => json!(format!("weights.W_U[:, {column}]")),
            1 => json!(0.125),
            2 => json!({"op": "randn", "args": [[self.tree.hidden]], "seed": column}),
            _ => json!("@joy"),
        };
        if self.random.once_in(2) {
            node["factor"] = json!(self.random.below(7) as f64 / 2.0 - 1.0);
        }
        if self.inputs.len() > 1 {
            node["input"] = json!(self.inputs[input].0);
        }
        match self.random.below(5) {
            0 => node["tokens"] = json!(-1),
            1 => node["tokens"] = json!([0, 2]),
            2 => node["tokens"] = json!("1:"),
            _ => {}
        }
        if self.random.once_in(4) && !self.rows_apart {
            node["rows"] = json!([self.random.below(self.inputs[input].1.len())]);
        }
        self.nodes.push(node);
    }

    pub(crate) fn skip(&mut self, input: usize) {
        let (a, b) = (self.random.below(self.tree.layers.len()), self.random.below(self.tree.layers.len()));
        let (first, last) = (a.min(b), a.max(b));
        self.skipped[input] = Some((first, last));
        let mut node = json!({"op": "skip", "layers": if first == last { json!(first) } else { json!([first, last]) }});
        if self.inputs.len() > 1 {
            node["input"] = json!(self.inputs[input].0);
        }
        let same = |other: &usize| self.inputs[*other].1 == self.inputs[input].1;
        let other = (0..input).find(same);
        match (self.random.below(4), other) {
            (0, _) => node["with"] = json!("@joy"),
            (1 | 2, Some(other)) => node["with"] = json!(self.name(other, "embed_tokens.output")),
            (3, _) => node["with"] = json!(self.name(input, "embed_tokens.output")),
            _ => {}
        }
        self.nodes.push(node);
    }
}
