//! The inputs of a request as tokens.

use patchbay_checkpoint::{ChatOptions, CheckpointError, Encoding, Tokenizer};
use patchbay_graph::problem::{Code, Problem};
use patchbay_graph::{Conversation, Input, InputRow, Limits, TokenRow, TokenRows, Tree};

use crate::wire::tokens::InputTokens;

/// Every input of a request, tokenized, in the order of the request.
#[derive(Clone, Debug, Default)]
pub struct Tokenized {
    /// Token ids: input, row, token.
    pub ids: Vec<Vec<Vec<u32>>>,
    /// How the tokens spell the text, for the check of the graph.
    pub rows: Vec<TokenRows>,
    /// What the answer shows.
    pub shown: Vec<(String, InputTokens)>,
}

/// Turns inputs into tokens of one model.
pub struct InputReader<'a> {
    /// The model's tokenizer, if it has one.
    pub tokenizer: Option<&'a Tokenizer>,
    /// The model's sizes.
    pub tree: &'a Tree,
    /// What is allowed.
    pub limits: &'a Limits,
    /// Whether rows go on with sequences: no special tokens are added to them, and they may be empty.
    pub goes_on: bool,
}

impl InputReader<'_> {
    /// Tokenizes every row, and checks ids, lengths and the limits on rows and tokens.
    ///
    /// # Errors
    /// With a pointer to the row or the id.
    pub fn read(&self, inputs: &[Input]) -> Result<Tokenized, Problem> {
        let rows: usize = inputs.iter().map(|input| input.rows.len()).sum();
        if rows > self.limits.max_rows {
            let detail = format!("the inputs have {rows} rows, max_rows is {}", self.limits.max_rows);
            let most = inputs.iter().max_by_key(|input| input.rows.len()).map_or("", |input| &input.at);
            return Err(Problem::new(Code::TooLarge, detail).hint("send them in several requests").at(most));
        }
        let mut tokens = 0;
        let mut tokenized = Tokenized::default();
        for input in inputs {
            let encoded: Vec<Encoding> = (0..input.rows.len())
                .map(|row| {
                    let encoding = self.row(input, row)?;
                    tokens += encoding.ids.len();
                    match tokens > self.limits.max_tokens {
                        false => Ok(encoding),
                        true => Err(self.too_many_tokens(input)),
                    }
                })
                .collect::<Result<_, _>>()?;
            tokenized.push(input, encoded, self.tokenizer.is_some());
        }
        Ok(tokenized)
    }

    fn row(&self, input: &Input, row: usize) -> Result<Encoding, Problem> {
        let at = || input.place(row);
        let encoding = match &input.rows[row] {
            InputRow::Ids(ids) => self.ids(ids).map_err(|problem| {
                let pointer = format!("{}{}", at(), problem.pointer);
                problem.at(pointer)
            })?,
            InputRow::Text { text, add_special_tokens } => {
                let encoded = self.tokenizer(at)?.encode(text, add_special_tokens.unwrap_or(!self.goes_on));
                encoded.map_err(|error| refused(&error).at(at()))?
            }
            InputRow::Messages(conversation) => {
                let tokenizer = self.tokenizer(at)?;
                let text = tokenizer.apply_chat_template(&conversation.messages, &options(conversation));
                let encoded = text.and_then(|text| tokenizer.encode(&text, false));
                encoded.map_err(|error| refused(&error).at(at()))?
            }
        };
        let (length, context) = (encoding.ids.len(), self.tree.context);
        if length == 0 && !self.goes_on {
            return Err(Problem::new(Code::BadArgument, "this row has no tokens").hint("give at least one").at(at()));
        }
        if length > context {
            let detail = format!("this row has {length} tokens, the model takes at most {context}");
            return Err(Problem::new(Code::TooLarge, detail).hint("shorten it").at(at()));
        }
        Ok(encoding)
    }

    /// Ids as they came. Where they have no text, no quoted text can be found in them.
    fn ids(&self, ids: &[u32]) -> Result<Encoding, Problem> {
        let vocab = self.tree.vocab;
        if let Some((i, id)) = ids.iter().enumerate().find(|(_, id)| **id as usize >= vocab) {
            let problem = Problem::new(Code::IndexOutOfRange, format!("there is no token {id}")).under(i);
            return Err(problem.hint(format!("the vocabulary has ids 0 to {}", vocab - 1)));
        }
        let described = self.tokenizer.and_then(|tokenizer| tokenizer.describe_ids(ids).ok());
        // The vocabulary of the weights may be padded beyond the tokenizer's: such ids run, but spell nothing.
        Ok(described.unwrap_or_else(|| Encoding {
            ids: ids.to_vec(),
            tokens: ids.iter().map(|id| self.tokenizer.map_or_else(String::new, |t| t.token_text(*id))).collect(),
            text: String::new(),
            ends: vec![0; ids.len()],
        }))
    }

    fn tokenizer(&self, at: impl Fn() -> String) -> Result<&Tokenizer, Problem> {
        self.tokenizer.ok_or_else(|| {
            Problem::new(Code::Unsupported, "this model came without a tokenizer, so it takes no text")
                .hint("send token ids: [[1, 2, 3]]")
                .at(at())
        })
    }

    fn too_many_tokens(&self, input: &Input) -> Problem {
        let detail = format!("the inputs have more tokens than max_tokens, {}", self.limits.max_tokens);
        Problem::new(Code::TooLarge, detail).hint("send them in several requests").at(input.at.clone())
    }
}

impl Tokenized {
    fn push(&mut self, input: &Input, encoded: Vec<Encoding>, with_text: bool) {
        let mut shown = InputTokens { ids: Vec::new(), tokens: with_text.then(Vec::new), lengths: Vec::new() };
        let mut rows = TokenRows { name: input.name.clone(), rows: Vec::new() };
        for Encoding { ids, tokens, text, ends } in encoded {
            shown.lengths.push(ids.len());
            shown.ids.push(ids);
            if let Some(shown) = &mut shown.tokens {
                shown.push(tokens);
            }
            rows.rows.push(TokenRow { text, ends, ..TokenRow::default() });
        }
        self.ids.push(shown.ids.clone());
        self.rows.push(rows);
        self.shown.push((input.name.clone(), shown));
    }
}

/// What a chat template is given beside the messages.
fn options(conversation: &Conversation) -> ChatOptions {
    ChatOptions {
        add_generation_prompt: conversation.add_generation_prompt,
        continue_final_message: conversation.continue_final_message,
        tools: conversation.tools.clone(),
        documents: conversation.documents.clone(),
        extra: conversation.variables.clone(),
    }
}

/// What the tokenizer or the chat template says of a row.
fn refused(error: &CheckpointError) -> Problem {
    Problem::new(Code::BadArgument, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(rows: Vec<InputRow>, limits: &Limits) -> Result<Tokenized, Problem> {
        let tree =
            Tree { hidden: 4, vocab: 10, context: 3, fused: true, layers: Vec::new(), weights: Default::default() };
        let input = Input { name: "input".into(), at: "/input".into(), rows };
        InputReader { tokenizer: None, tree: &tree, limits, goes_on: false }.read(&[input])
    }

    #[test]
    fn ids_without_a_tokenizer() {
        let rows = vec![InputRow::Ids(vec![1, 2, 3]), InputRow::Ids(vec![9])];
        let tokenized = read(rows, &Limits::default()).unwrap();
        assert_eq!(tokenized.ids, [[vec![1, 2, 3], vec![9]]]);
        assert_eq!(tokenized.rows[0].lengths(), [3, 1]);
        assert_eq!(tokenized.rows[0].rows[0].find("x"), None);
        assert_eq!(tokenized.shown[0].1.tokens, None);
    }

    #[test]
    fn what_is_wrong_is_pointed_to() {
        let limits = Limits { max_rows: 2, max_tokens: 4, ..Limits::default() };
        let ids = |rows: &[&[u32]]| rows.iter().map(|row| InputRow::Ids(row.to_vec())).collect::<Vec<_>>();
        let fail = |rows| read(rows, &limits).map(drop).unwrap_err();
        let found = fail(ids(&[&[1], &[1, 10]]));
        assert_eq!(
            (found.pointer.as_str(), found.hint.as_deref()),
            ("/input/1/1", Some("the vocabulary has ids 0 to 9"))
        );
        assert_eq!(fail(ids(&[&[1], &[]])).pointer, "/input/1");
        assert_eq!(fail(ids(&[&[1, 2, 3, 4]])).code, Code::TooLarge);
        assert!(fail(ids(&[&[1], &[2], &[3]])).detail.contains("max_rows is 2"));
        assert!(fail(ids(&[&[1, 2, 3], &[2, 3]])).detail.contains("max_tokens, 4"));
        let text = InputRow::Text { text: "hi".into(), add_special_tokens: None };
        assert_eq!(fail(vec![text]).code, Code::Unsupported);
    }
}
