//! Recipes of more rows than a trace takes, whose rows have nothing to do with each other: they run in parts, and what comes of them leaves
//! memory as it comes.

use std::ops::Range;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream;
use patchbay_engine::Usage;
use patchbay_graph::{Encoding, Limits, Request};
use patchbay_recipes::Made;

use crate::blocking::blocking;
use crate::caller::Caller;
use crate::deadline::Deadline;
use crate::inputs::{InputReader, Tokenized};
use crate::progress::Progress;
use crate::trace::{Finished, Frame};
use crate::wire::result::{NamedResults, ResultBody};
use crate::wire::spool::Spool;
use crate::wire::tensor::WireTensor;
use crate::wire::trace::TraceAnswer;
use crate::{Failure, Service};

/// Rows of a part at most.
const ROWS: usize = 256;
/// Tokens of a part, unless a row has more.
const TOKENS: usize = 16 << 10;
/// Parts under way: one is checked while the other runs.
const AT_ONCE: usize = 2;

/// One result, of the parts that have run.
struct Joined {
    name: String,
    spool: Spool,
    like: WireTensor,
}

impl Service {
    /// Runs a recipe in parts, if it has so many rows that it has to.
    pub(super) async fn in_parts(
        self: &Arc<Self>,
        made: &Made,
        axis: usize,
        accept: Option<Encoding>,
        caller: &Caller,
        progress: &Progress,
    ) -> Result<Option<TraceAnswer>, Failure> {
        let body = made.body();
        let deadline = self.deadline(&body, progress)?;
        let (service, owner) = (Arc::clone(self), caller.clone());
        let mut tokenized = blocking(move || service.read_all(&body, &owner)).await?;
        let (Some(ids), Some(shown)) = (tokenized.ids.pop(), tokenized.shown.pop()) else { return Ok(None) };
        let limits = &self.settings.limits;
        let parts = parts(&ids, ROWS.min(limits.max_rows), TOKENS.min(limits.max_tokens));
        if parts.len() < 2 {
            return Ok(None);
        }
        let joining = Joining { service: self, made, axis, deadline, accept, caller, progress };
        let (frame, finished) = Box::pin(deadline.bound(joining.run(&ids, parts))).await?;
        self.finish(Frame { inputs: vec![shown], ..frame }, finished, caller).map(Some)
    }

    /// All rows of the input, however many they are.
    fn read_all(&self, body: &serde_json::Value, caller: &Caller) -> Result<Tokenized, Failure> {
        let request = Request::parse(body)?;
        let model = self.choose(request.model.as_deref(), caller)?.model.ready()?;
        let limits = Limits { max_rows: usize::MAX, max_tokens: usize::MAX, ..self.settings.limits.clone() };
        let tokenizer = model.tokenizer.as_deref();
        let reader = InputReader { tokenizer, tree: model.tree(), limits: &limits, goes_on: false };
        Ok(reader.read(&request.inputs)?)
    }
}

/// A recipe that runs in parts.
struct Joining<'a> {
    service: &'a Arc<Service>,
    made: &'a Made,
    axis: usize,
    deadline: Deadline,
    accept: Option<Encoding>,
    caller: &'a Caller,
    progress: &'a Progress,
}

impl Joining<'_> {
    async fn run(&self, ids: &[Vec<u32>], parts: Vec<Range<usize>>) -> Result<(Frame, Finished), Failure> {
        let Self { service, made, axis, deadline, accept, caller, progress } = *self;
        let run = |part: Range<usize>| async {
            let body = made.body_of(&ids[part.clone()]);
            let told = if part.start == 0 { progress.of(ids.len()) } else { Progress::default() };
            let (frame, finished) = service.run(body, accept, caller, deadline, &told).await?;
            Ok::<_, Failure>((part, frame, finished))
        };
        let mut ran = stream::iter(parts.into_iter().map(run)).buffered(AT_ONCE);
        let (mut joined, mut first, mut usage, mut receipts) = (Vec::new(), None, Usage::default(), Vec::new());
        while let Some(outcome) = ran.next().await {
            let (part, frame, finished) = outcome?;
            let (rows, done) = (ids.len(), part.len());
            let results = finished.results;
            joined = blocking(move || add(joined, results, axis, part.start, rows)).await?;
            usage = Usage {
                prompt_tokens: usage.prompt_tokens + finished.usage.prompt_tokens,
                queue_ms: usage.queue_ms + finished.usage.queue_ms,
                compute_ms: usage.compute_ms + finished.usage.compute_ms,
                ..usage.and(finished.usage)
            };
            receipts.extend(finished.receipts);
            first.get_or_insert(frame);
            progress.more(done);
        }
        let frame = first.ok_or_else(|| Failure::internal("a recipe without rows"))?;
        let result = |Joined { name, spool, like }: Joined| {
            let mut dims = like.dims().to_vec();
            dims[axis] = ids.len();
            (name, frame.style.tensor(WireTensor::spooled(spool, like.dtype(), dims, None)))
        };
        let results = NamedResults(joined.into_iter().map(result).collect());
        Ok((frame, Finished { results, kept: Vec::new(), receipts, usage, held: None }))
    }
}

/// Puts what came of a part where it belongs.
fn add(
    mut joined: Vec<Joined>,
    results: NamedResults,
    axis: usize,
    first: usize,
    rows: usize,
) -> Result<Vec<Joined>, Failure> {
    for (number, (name, result)) in results.0.into_iter().enumerate() {
        let ResultBody::Tensor(body) = result else {
            return Err(Failure::internal(format!("`{name}` is no tensor, and cannot be put together")));
        };
        let (mut whole, mut at) = (body.tensor.dims().to_vec(), vec![0; body.tensor.dims().len()]);
        (whole[axis], at[axis]) = (rows, first);
        if joined.len() == number {
            joined.push(Joined { name, spool: Spool::new(), like: body.tensor });
            let Joined { spool, like, .. } = &mut joined[number];
            like.gather_into(spool, &whole, &at)?;
        } else {
            body.tensor.gather_into(&mut joined[number].spool, &whole, &at)?;
        }
    }
    Ok(joined)
}

/// Rows in parts of so many rows and tokens at most.
fn parts(ids: &[Vec<u32>], most_rows: usize, most_tokens: usize) -> Vec<Range<usize>> {
    let (mut parts, mut start, mut tokens) = (Vec::new(), 0, 0);
    for (row, ids) in ids.iter().enumerate() {
        if row > start && (row - start >= most_rows || tokens + ids.len() > most_tokens) {
            parts.push(start..row);
            (start, tokens) = (row, 0);
        }
        tokens += ids.len();
    }
    if start < ids.len() {
        parts.push(start..ids.len());
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_have_few_rows_and_few_tokens_and_leave_none_out() {
        let rows = |lengths: &[usize]| lengths.iter().map(|length| vec![0; *length]).collect::<Vec<_>>();
        let parts = |rows: &[Vec<u32>]| parts(rows, ROWS, TOKENS);
        assert_eq!(parts(&rows(&[1; ROWS])).len(), 1);
        assert_eq!(parts(&rows(&[1; ROWS + 1])), [0..ROWS, ROWS..ROWS + 1]);
        assert_eq!(parts(&rows(&[TOKENS, 1, TOKENS + 1, 1, 1])), [0..1, 1..2, 2..3, 3..5]);
        assert!(parts(&[]).is_empty());
    }
}
