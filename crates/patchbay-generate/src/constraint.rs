//! What a text has to be: which tokens may come next.
//!
//! The grammars are llguidance's. A token is allowed where its bytes go on with what the grammar reads next, so that a word may be
//! spelt by whichever tokens the model likes.

use std::sync::Arc;

use llguidance::api::TopLevelGrammar;
use llguidance::{Matcher, ParserFactory};
use patchbay_checkpoint::Tokenizer;
use patchbay_graph::fields::{Fields, wrong};
use patchbay_graph::problem::Result;
use patchbay_graph::{Code, Problem};
use serde_json::{Value, json};
use toktrie::{ApproximateTokEnv, SimpleVob, TokRxInfo, TokTrie};

/// Texts to choose from.
const MOST_CHOICES: usize = 4096;
/// Bytes of a schema or a grammar.
const MOST_BYTES: usize = 256 << 10;
/// Symbols in a grammar's productions.
const MOST_SYMBOLS: usize = 200_000;
/// States of a grammar's lexer, of 1 to 2 kB each.
const MOST_STATES: usize = 20_000;
/// Between the parts of a JSON text: nothing, a space, or one line's end and its indent. Models that may write as much of it as they
/// like write nothing else now and then.
const WHITESPACE: &str = r"[ \t]?(\n[ \t]{0,32})?";

/// What a text has to be.
#[derive(Clone, Debug, PartialEq)]
pub struct Form {
    kind: Kind,
    /// The field with it.
    field: &'static str,
}

#[derive(Clone, Debug, PartialEq)]
enum Kind {
    /// JSON that a schema is true of.
    Schema(Value),
    /// A match of a regular expression.
    Regex(String),
    /// One of some texts.
    Choice(Vec<String>),
    /// A text of a grammar in llguidance's Lark.
    Lark(String),
}

impl Form {
    /// Of the object in the field `constraint`.
    ///
    /// # Errors
    /// It is no such object, or too large.
    pub fn parse(value: &Value) -> Result<Self> {
        Self::read(value).map_err(|problem| problem.under("constraint"))
    }

    fn read(value: &Value) -> Result<Self> {
        let what = "{\"json_schema\": …}, {\"json\": true}, {\"regex\": \"…\"}, {\"choice\": […]} or {\"lark\": \"…\"}";
        let object = value.as_object().filter(|object| object.len() == 1);
        let object = object.ok_or_else(|| Problem::new(Code::BadArgument, format!("`constraint` is {what}")))?;
        if value.to_string().len() > MOST_BYTES {
            let detail = format!("a constraint has at most {MOST_BYTES} bytes");
            return Err(Problem::new(Code::TooLarge, detail));
        }
        let mut fields = Fields::new("`constraint`", object);
        let text = |name: &'static str, value: &Value| {
            let text = value.as_str().ok_or_else(|| wrong(name, "a text", value));
            text.map(str::to_owned)
        };
        let mut found = None;
        if let Some(schema) = fields.get("json_schema") {
            if !schema.is_object() && !schema.is_boolean() {
                return Err(wrong("json_schema", "a JSON Schema, which is an object", schema));
            }
            found = Some((Kind::Schema(schema.clone()), "json_schema"));
        }
        if fields.flag("json")?.is_some() {
            found = Some((Kind::Schema(json!({"type": "object"})), "json"));
        }
        if let Some(regex) = fields.get("regex") {
            found = Some((Kind::Regex(text("regex", regex)?), "regex"));
        }
        if let Some(choices) = fields.get("choice") {
            found = Some((Kind::Choice(texts(choices)?), "choice"));
        }
        if let Some(lark) = fields.get("lark") {
            found = Some((Kind::Lark(text("lark", lark)?), "lark"));
        }
        fields.finish()?;
        let (kind, field) = found.ok_or_else(|| Problem::new(Code::BadArgument, format!("`constraint` is {what}")))?;
        Ok(Self { kind, field })
    }

    fn grammar(&self) -> TopLevelGrammar {
        match &self.kind {
            Kind::Schema(schema) => TopLevelGrammar::from_json_schema(spaced(schema)),
            Kind::Regex(regex) => TopLevelGrammar::from_regex(regex),
            Kind::Choice(choices) => {
                let choices: Vec<String> = choices.iter().map(|choice| json!(choice).to_string()).collect();
                TopLevelGrammar::from_lark(format!("start: {}", choices.join(" | ")))
            }
            Kind::Lark(lark) => TopLevelGrammar::from_lark(lark.clone()),
        }
    }
}

/// A schema with what may stand between the parts of the text.
pub fn spaced(schema: &Value) -> Value {
    let mut schema = schema.clone();
    if let Some(object) = schema.as_object_mut() {
        object.entry("x-guidance").or_insert(json!({"whitespace_pattern": WHITESPACE}));
    }
    schema
}

fn texts(value: &Value) -> Result<Vec<String>> {
    let what = "a list of texts";
    let items = value.as_array().ok_or_else(|| wrong("choice", what, value))?;
    if items.is_empty() || items.len() > MOST_CHOICES {
        let detail = format!("`choice` lists {} texts, it lists 1 to {MOST_CHOICES}", items.len());
        return Err(Problem::new(Code::BadArgument, detail).under("choice"));
    }
    let text = |item: &Value| item.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    items.iter().map(|item| text(item).ok_or_else(|| wrong("choice", what, item))).collect()
}

/// What all tokens of a model spell, for grammars.
pub struct Vocabulary {
    factory: ParserFactory,
}

impl Vocabulary {
    /// Of a model with `size` logits, whose texts are ended by any of these tokens.
    ///
    /// # Errors
    /// llguidance cannot read the tokens.
    pub fn new(tokenizer: &Tokenizer, size: usize, ends: &[u32]) -> std::result::Result<Self, String> {
        let special = |id: u32| tokenizer.is_special(id) || ends.contains(&id);
        let mut words: Vec<Vec<u8>> = (0..size as u32)
            .map(|id| match special(id) {
                true => [&[TokTrie::SPECIAL_TOKEN_MARKER], tokenizer.token_bytes(id).as_slice()].concat(),
                false => tokenizer.token_bytes(id),
            })
            .collect();
        let ends = match ends.is_empty() {
            // a token that no model gives: the text ends where the grammar does
            true => {
                words.push(b"\xff<end>".to_vec());
                vec![size as u32]
            }
            false => ends.iter().copied().filter(|id| (*id as usize) < size).collect(),
        };
        let info = TokRxInfo::new(words.len() as u32, ends.first().copied().unwrap_or_default());
        let trie = TokTrie::from(&info, &words).with_eos_tokens(&ends);
        let environment: toktrie::TokEnv = Arc::new(ApproximateTokEnv::new(trie));
        let mut factory = ParserFactory::new_simple(&environment).map_err(|error| error.to_string())?;
        factory.quiet();
        let limits = factory.limits_mut();
        (limits.max_grammar_size, limits.max_lexer_states) = (MOST_SYMBOLS, MOST_STATES);
        limits.verbose_errors = false;
        Ok(Self { factory })
    }

    /// The beginning of a text of a form.
    ///
    /// # Errors
    /// The form is not well made, too large, or no text has it.
    pub fn constraint(&self, form: &Form) -> Result<Constraint> {
        let mut matcher = Matcher::new(self.factory.create_parser(form.grammar()));
        // what is too much to look at shows at the first look
        let looked = matcher.compute_mask_or_eos();
        match (matcher.get_error(), looked) {
            (None, Ok(_)) => Ok(Constraint(matcher)),
            (Some(detail), _) => Err(unreadable(form, &detail)),
            (None, Err(error)) => Err(unreadable(form, &error.to_string())),
        }
    }
}

impl std::fmt::Debug for Vocabulary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vocabulary").field("tokens", &self.factory.tok_env().tok_trie().vocab_size()).finish()
    }
}

fn unreadable(form: &Form, detail: &str) -> Problem {
    let first = detail.lines().next().unwrap_or_default();
    let problem = Problem::new(Code::BadArgument, format!("nothing can be written by this constraint: {first}"));
    let problem = problem.hint("docs/generation.md says which schemas and grammars there are");
    problem.under(form.field).under("constraint")
}

/// How far a text has come.
#[derive(Clone)]
pub struct Constraint(Matcher);

impl Constraint {
    /// The tokens that may come next.
    ///
    /// # Errors
    /// The grammar is too much to look at.
    pub fn allowed(&mut self) -> Result<Allowed> {
        self.0.compute_mask_or_eos().map(Allowed).map_err(|error| stuck(&error.to_string()))
    }

    /// Takes in the token that came, one of those. Whether the text is whole, so that nothing may follow.
    ///
    /// # Errors
    /// The grammar is too much to look at.
    pub fn take(&mut self, id: u32) -> Result<bool> {
        self.0.consume_token(id).map_err(|error| stuck(&error.to_string()))?;
        Ok(self.0.is_stopped())
    }
}

fn stuck(detail: &str) -> Problem {
    let first = detail.lines().next().unwrap_or_default();
    Problem::new(Code::TooLarge, format!("the constraint is too much to look at: {first}")).under("constraint")
}

impl std::fmt::Debug for Constraint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Constraint").field("stopped", &self.0.is_stopped()).finish()
    }
}

/// Some tokens of a vocabulary.
#[derive(Clone, Debug)]
pub struct Allowed(SimpleVob);

impl Allowed {
    /// Puts the scores of all others to minus infinity.
    pub(crate) fn keep(&self, scores: &mut [f32]) {
        for (word, scores) in self.0.as_slice().iter().zip(scores.chunks_mut(32)) {
            for (bit, score) in scores.iter_mut().enumerate() {
                if word >> bit & 1 == 0 {
                    *score = f32::NEG_INFINITY;
                }
            }
        }
        let known = self.0.as_slice().len() * 32;
        scores.iter_mut().skip(known).for_each(|score| *score = f32::NEG_INFINITY);
    }
}
