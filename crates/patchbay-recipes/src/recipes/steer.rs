//! Steering along a direction, and how much it does by layer and strength.

use patchbay_graph::fields::Fields;
use patchbay_graph::problem::Result;
use serde_json::json;

use super::Logits;
use crate::Ask;
use crate::arguments::{input, layers, numbers, save_probs, vector};
use crate::draft::Draft;
use crate::metric::Metric;
use crate::picture::Picture;

/// `probs` (N V) of the steered run, and the `vector` used: one that is given, or the difference of the means of contrasting prompts.
pub(super) fn steer(fields: &mut Fields<'_>, ask: &Ask<'_>, draft: &mut Draft) -> Result<()> {
    let logits = steer_of(fields, ask, draft)?;
    save_probs(draft, fields.count("k")?, logits)?;
    draft.line("/vector", "save vector as vector")
}

/// The logits `[N, V]` of the steered run.
pub(super) fn steer_of(fields: &mut Fields<'_>, ask: &Ask<'_>, draft: &mut Draft) -> Result<Logits> {
    let (input, _) = input(fields)?;
    draft.input("input", input, "/input");
    fields.need("layers")?;
    let layers = layers(fields, ask.tree)?;
    vector(draft, fields, ask, layers[0])?;
    let factor = fields.number("factor")?.unwrap_or(1.0);
    let mut node = json!({"op": "steer", "layers": layers, "vector": "$vector", "factor": factor, "input": "input"});
    if let Some(tokens) = fields.get("tokens") {
        node["tokens"] = tokens.clone();
    }
    draft.node("/vector", node)?;
    Ok(("input/logits[:, -1]".into(), None))
}

/// `grid` (layers × factors): a metric of the run that is steered at one layer with one factor, and `base`: that of the run that is not
/// steered.
pub(super) fn steering_sweep(fields: &mut Fields<'_>, ask: &Ask<'_>, draft: &mut Draft) -> Result<()> {
    let (input, _) = input(fields)?;
    draft.input("input", input, "/input");
    draft.made_input("base", input.clone(), "/input");
    let layers = layers(fields, ask.tree)?;
    let factors = match fields.get("factors") {
        Some(value) => numbers(value, "factors")?,
        None => vec![-2.0, -1.0, 0.0, 1.0, 2.0],
    };
    vector(draft, fields, ask, layers[0])?;
    let metric = Metric::parse(fields.need("metric")?, ask, &["base"])?;
    draft.axis("layer", json!(layers));
    draft.axis("factor", json!(factors));
    draft.picture(Picture::Steering(layers, factors));
    let mut node =
        json!({"op": "steer", "layers": ["{layer}"], "vector": "$vector", "factor": "{factor}", "input": "input"});
    if let Some(tokens) = fields.get("tokens") {
        node["tokens"] = tokens.clone();
    }
    draft.node("/vector", node)?;
    metric.add(draft, Some("input"), "steered")?;
    draft.line("/metric", "save steered as grid")?;
    metric.add(draft, Some("base"), "unsteered")?;
    draft.line("/metric", "save unsteered as base")
}
