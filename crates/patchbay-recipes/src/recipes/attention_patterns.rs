//! Where heads look, and what kind of head that makes them.

use patchbay_graph::fields::Fields;
use patchbay_graph::problem::{Code, Problem, Result};
use serde_json::json;

use crate::Ask;
use crate::arguments::{input, layers, of_layers};
use crate::draft::Draft;
use crate::picture::Picture;

/// Tokens of a row whose heads are scored: a score's weights have the square of it.
const LONGEST: usize = 512;
/// What a head may be scored for.
const SCORES: [&str; 3] = ["previous_token", "duplicate_token", "induction"];

/// `patterns` (L N H S S): attention probabilities, and the scores `previous_token`, `duplicate_token` and `induction` (N L H): how much of its
/// attention a head has, on average, on the token before, on earlier tokens of the same id, and on the tokens behind these (Olsson et al. 2022,
/// *In-context learning and induction heads*; Wang et al. 2022). An average is over the tokens that have such places; 0 where none has. `scores` lists
/// those that are wanted; `"patterns": false` leaves the probabilities away.
pub(super) fn attention_patterns(fields: &mut Fields<'_>, ask: &Ask<'_>, draft: &mut Draft) -> Result<()> {
    let (input, _) = input(fields)?;
    draft.input("input", input, "/input");
    let layers = layers(fields, ask.tree)?;
    let site = of_layers(&layers, "self_attn.probs");
    let wanted = match fields.get("scores") {
        None => SCORES.to_vec(),
        Some(value) => wanted(value)?,
    };
    if fields.flag("patterns")?.unwrap_or(true) {
        draft.line("/layers", &format!("save {site} as patterns"))?;
        draft.picture(Picture::Attention(layers));
    } else if wanted.is_empty() {
        return Err(Problem::new(Code::NothingSaved, "neither patterns nor scores are wanted").under("scores"));
    }
    if wanted.is_empty() {
        return Ok(());
    }
    let rows = (ask.rows)(input)?;
    if let Some(row) = rows.iter().position(|row| row.len() > LONGEST) {
        let detail = format!("row {row} has {} tokens, heads are scored on {LONGEST} at most", rows[row].len());
        return Err(Problem::new(Code::TooLarge, detail).hint("shorten it, or ask for \"scores\": []").under("input"));
    }
    for score in wanted {
        for (row, ids) in rows.iter().enumerate() {
            let weights = json!({"dtype": "f32", "shape": [ids.len(), ids.len()], "data": weights(score, ids)});
            draft.operand(&format!("{score}_{row}"), &weights, "/scores")?;
        }
        let of_row = |row: usize| {
            // the row's own tokens alone
            format!(
                "einsum(\"lhqk,qk->lh\", {}, {score}_{row})",
                site.replace("self_attn.probs", &format!("self_attn.probs[{row}]"))
            )
        };
        let each: Vec<String> = (0..rows.len()).map(of_row).collect();
        draft.line("/scores", &format!("save stack([{}], 0) as {score}", each.join(", ")))?;
    }
    Ok(())
}

fn wanted(value: &serde_json::Value) -> Result<Vec<&'static str>> {
    let form = || Problem::new(Code::BadArgument, "`scores` lists what heads are scored for").under("scores");
    let items = value.as_array().ok_or_else(form)?;
    let one = |item: &serde_json::Value| {
        let name = item.as_str().unwrap_or_default();
        SCORES.into_iter().find(|score| *score == name).ok_or_else(|| form().suggest(name, SCORES))
    };
    items.iter().map(one).collect()
}

/// How much each place of a row's attention counts: each token that has such places counts alike.
fn weights(score: &str, ids: &[u32]) -> Vec<Vec<f64>> {
    let looked_for = |query: usize, key: usize| match score {
        "previous_token" => key + 1 == query,
        "duplicate_token" => key < query && ids[key] == ids[query],
        _ => key > 0 && key <= query && key - 1 < query && ids[key - 1] == ids[query],
    };
    let marks: Vec<Vec<bool>> =
        (0..ids.len()).map(|query| (0..ids.len()).map(|key| looked_for(query, key)).collect()).collect();
    let queries = marks.iter().filter(|marks| marks.contains(&true)).count().max(1) as f64;
    marks.iter().map(|marks| marks.iter().map(|mark| if *mark { 1.0 / queries } else { 0.0 }).collect()).collect()
}
