//! The rows of a generation as they begin.

use patchbay_generate::Beginning;
use patchbay_graph::TokenRow;

use super::session::Row;
use crate::Failure;
use crate::inputs::Tokenized;

/// Rows that begin with nothing known.
pub(super) fn beginning(tokenized: Tokenized) -> Vec<Row> {
    let rows = tokenized.rows.into_iter().flat_map(|input| input.rows);
    let begun = tokenized.ids.into_iter().flatten().map(|prompt| Beginning { prompt, ..Beginning::default() });
    rows.zip(begun).collect()
}

/// Every sample of the rows, those of one row side by side.
pub(super) fn samples(rows: Vec<Row>, count: usize, limit: usize) -> Result<(Vec<TokenRow>, Vec<Beginning>), Failure> {
    let total = rows.len().saturating_mul(count);
    if total > limit {
        let detail = format!("{} rows with {count} samples each are {total} rows, max_rows is {limit}", rows.len());
        return Err(Failure::new(413, "too_large", detail).at("/n"));
    }
    // each has keys of its own
    let sample = |(row, begun): &Row| {
        let history = begun.history.fork(begun.past.len());
        (row.clone(), Beginning { history, ..begun.clone() })
    };
    let samples = rows.iter().flat_map(|row| (0..count).map(move |_| sample(row)));
    Ok(samples.unzip())
}

/// Tokens of the longest row, before the first new one.
pub(super) fn longest(rows: &[Beginning]) -> usize {
    rows.iter().map(|row| row.past.len() + row.prompt.len()).max().unwrap_or(0)
}
