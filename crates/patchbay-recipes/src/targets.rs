//! The first tokens of words, by nnterp's rules.

use patchbay_graph::problem::{Code, Problem, Result};

use crate::Ask;

/// A character that no word begins with, behind which a tokenizer adds no space.
const MARK: &str = "🍐";

/// The first token of each word and of the word behind a space, each once and in this order; a space that is a token of its own says nothing
/// and is left out. Where a tokenizer puts a space before every text, the first token of the word itself is found behind a mark.
pub(crate) fn first_tokens(words: &[&str], ask: &Ask<'_>) -> Result<Vec<u32>> {
    let first = |text: &str| (ask.encode)(text).map(|ids| ids.first().copied());
    let space = first(" ")?;
    let mut found = Vec::new();
    for word in words {
        let spaced = first(&format!(" {word}"))?;
        let mut bare = first(word)?;
        if bare == spaced && !word.starts_with(' ') {
            let mark = (ask.encode)(MARK)?;
            let marked = (ask.encode)(&format!("{MARK}{word}"))?;
            if marked.starts_with(&mark) {
                bare = marked.get(mark.len()).copied().or(bare);
            }
        }
        found.extend(bare);
        found.extend(spaced.filter(|_| spaced != space));
    }
    let mut once = Vec::with_capacity(found.len());
    found.into_iter().for_each(|token| {
        if !once.contains(&token) {
            once.push(token);
        }
    });
    match once.is_empty() {
        false => Ok(once),
        true => Err(Problem::new(Code::BadArgument, "these words have no tokens")),
    }
}
