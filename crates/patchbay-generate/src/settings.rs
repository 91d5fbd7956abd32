//! What a generation is asked for beside its graph.

use patchbay_graph::fields::{Fields, wrong};
use patchbay_graph::problem::Result;
use patchbay_graph::{Code, Problem};
use serde_json::Value;

use crate::constraint::Form;

/// New tokens where the request does not say how many.
const NEW_TOKENS: usize = 20;
/// Texts and ids that may end a generation.
const MOST_STOPS: usize = 64;
/// Bytes of a text that may end it.
const MOST_STOP_BYTES: usize = 256;
/// Tokens whose logits may be moved.
const MOST_BIASES: usize = 4096;
/// Likeliest tokens that may be told beside each new one.
pub(crate) const MOST_LOGPROBS: usize = 20;

/// What a generation is asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// New tokens of each row at most; nothing where the request does not say.
    pub max_new_tokens: Option<usize>,
    /// Whether rows have as many new tokens as there is room for, where the request does not say.
    pub fills: bool,
    /// New tokens of each row before it may end by itself.
    pub min_new_tokens: usize,
    /// Samples of each row of the input.
    pub samples: usize,
    /// The seed of sampling; nothing where one is to be drawn.
    pub seed: Option<u64>,
    /// How tokens are taken.
    pub sampling: Sampling,
    /// What ends it.
    pub stop: Stop,
    /// What it has to be.
    pub form: Option<Form>,
    /// Whether the logarithms of probabilities are told, and those of how many of the likeliest tokens beside.
    pub logprobs: Option<usize>,
    /// The same for the tokens of the prompts.
    pub prompt_logprobs: Option<usize>,
}

/// How tokens are taken from logits. The steps are in the order of the fields, as in transformers.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// What is added to the logits of single tokens.
    pub logit_bias: Vec<(u32, f32)>,
    /// Logits of tokens that stand in the prompt or were generated are divided by this where positive, multiplied where negative.
    pub repetition_penalty: f64,
    /// What is taken from the logits of tokens that were generated.
    pub presence_penalty: f64,
    /// What is taken from them as often as they were generated.
    pub frequency_penalty: f64,
    /// What logits are divided by; 0 takes the likeliest token.
    pub temperature: f64,
    /// Only so many of the likeliest tokens may be taken; 0 for all.
    pub top_k: usize,
    /// Only the likeliest tokens whose probabilities add up to this may be taken.
    pub top_p: f64,
    /// Only tokens may be taken that are this likely, measured by the likeliest.
    pub min_p: f64,
}

impl Default for Sampling {
    /// The likeliest token.
    fn default() -> Self {
        Self {
            logit_bias: Vec::new(),
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
        }
    }
}

/// What ends a generation before it has all its tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stop {
    /// Texts, which are not part of its text.
    pub strings: Vec<String>,
    /// Tokens, beside those that end a text.
    pub ids: Vec<u32>,
    /// Whether it goes on behind tokens that end a text.
    pub ignore_eos: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_new_tokens: None,
            fills: false,
            min_new_tokens: 0,
            samples: 1,
            seed: None,
            sampling: Sampling::default(),
            stop: Stop::default(),
            form: None,
            logprobs: None,
            prompt_logprobs: None,
        }
    }
}

impl Settings {
    /// Takes the fields of a generation out of a body.
    ///
    /// # Errors
    /// One of them is of the wrong kind, or out of its bounds.
    pub fn parse(fields: &mut Fields<'_>) -> Result<Self> {
        let max_new_tokens = whole(fields, "max_new_tokens", 1)?;
        let min_new_tokens = fields.count("min_new_tokens")?.unwrap_or(0);
        if max_new_tokens.is_some_and(|most| min_new_tokens > most) {
            let detail = format!("`min_new_tokens` is {min_new_tokens}, more than `max_new_tokens`");
            return Err(Problem::new(Code::BadArgument, detail).under("min_new_tokens"));
        }
        let stop = Stop::parse(fields.get("stop"), "stop")?;
        let stop = Stop { ignore_eos: fields.flag("ignore_eos")?.unwrap_or(false), ..stop };
        let seed = fields
            .get("seed")
            .map(|value| value.as_u64().ok_or_else(|| wrong("seed", "a whole number, 0 or more", value)));
        Ok(Self {
            max_new_tokens,
            fills: false,
            min_new_tokens,
            samples: whole(fields, "n", 1)?.unwrap_or(1),
            seed: seed.transpose()?,
            sampling: Sampling::parse(fields)?,
            stop,
            form: fields.get("constraint").map(Form::parse).transpose()?,
            logprobs: likeliest(fields, "logprobs")?,
            prompt_logprobs: likeliest(fields, "prompt_logprobs")?,
        })
    }

    /// How many new tokens rows with prompts of at most `prompt` tokens get, of a model that takes `context` tokens.
    ///
    /// # Errors
    /// More are asked for than there is room for.
    pub fn new_tokens(&self, prompt: usize, context: usize) -> Result<usize> {
        // the last token that is generated is not computed
        let room = (context + 1).saturating_sub(prompt);
        match self.max_new_tokens {
            None if self.fills => Ok(room),
            None => Ok(NEW_TOKENS.max(self.min_new_tokens).min(room)),
            Some(wanted) if wanted <= room => Ok(wanted),
            Some(wanted) => {
                let detail = format!(
                    "a prompt of {prompt} tokens and {wanted} new ones are more than the {context} tokens that the model takes"
                );
                let problem = Problem::new(Code::TooLarge, detail).under("max_new_tokens");
                Err(problem.hint(format!("there is room for {room} new tokens")))
            }
        }
    }

    /// Whether every token that is named is one of the vocabulary.
    ///
    /// # Errors
    /// One is not.
    pub fn check(&self, vocab: usize) -> Result<()> {
        let missing = |id: u32, field: &str| {
            let problem = Problem::new(Code::IndexOutOfRange, format!("there is no token {id}")).under(field);
            problem.hint(format!("the vocabulary has ids 0 to {}", vocab.saturating_sub(1)))
        };
        if let Some(id) = self.stop.ids.iter().find(|id| **id as usize >= vocab) {
            return Err(missing(*id, "stop"));
        }
        match self.sampling.logit_bias.iter().find(|(id, _)| *id as usize >= vocab) {
            Some((id, _)) => Err(missing(*id, "logit_bias")),
            None => Ok(()),
        }
    }
}

impl Sampling {
    fn parse(fields: &mut Fields<'_>) -> Result<Self> {
        let repetition_penalty = fields.number("repetition_penalty")?.unwrap_or(1.0);
        if repetition_penalty <= 0.0 {
            return Err(Problem::new(Code::BadArgument, "`repetition_penalty` is above 0").under("repetition_penalty"));
        }
        let top_p = within(fields, "top_p", 0.0, 1.0)?.unwrap_or(1.0);
        if top_p == 0.0 {
            let problem = Problem::new(Code::BadArgument, "`top_p` is above 0").under("top_p");
            return Err(problem.hint("\"temperature\": 0 takes the likeliest token"));
        }
        Ok(Self {
            logit_bias: fields
                .get("logit_bias")
                .map(|bias| biases(bias, "logit_bias"))
                .transpose()?
                .unwrap_or_default(),
            repetition_penalty,
            presence_penalty: fields.number("presence_penalty")?.unwrap_or(0.0),
            frequency_penalty: fields.number("frequency_penalty")?.unwrap_or(0.0),
            temperature: within(fields, "temperature", 0.0, 1e6)?.unwrap_or(0.0),
            top_k: fields.count("top_k")?.unwrap_or(0),
            top_p,
            min_p: within(fields, "min_p", 0.0, 1.0)?.unwrap_or(0.0),
        })
    }

    /// Whether nothing is left to chance.
    pub fn is_greedy(&self) -> bool {
        self.temperature == 0.0
    }
}

impl Stop {
    /// Of a text, a token's id, or a list of them, in the field `name`.
    ///
    /// # Errors
    /// Anything else, an empty text, or too much of it.
    pub fn parse(value: Option<&Value>, name: &str) -> Result<Self> {
        let items = match value {
            None => return Ok(Self::default()),
            Some(Value::Array(items)) => items.iter().collect(),
            Some(item) => vec![item],
        };
        if items.len() > MOST_STOPS {
            let detail = format!("`{name}` lists {} texts, it may list {MOST_STOPS}", items.len());
            return Err(Problem::new(Code::TooLarge, detail).under(name));
        }
        let mut stop = Self::default();
        for (i, item) in items.iter().enumerate() {
            let at =
                |problem: Problem| if items.len() > 1 { problem.under(i).under(name) } else { problem.under(name) };
            let id = || item.as_u64().and_then(|id| u32::try_from(id).ok());
            match (item.as_str(), id()) {
                (Some(text), _) if text.is_empty() || text.len() > MOST_STOP_BYTES => {
                    let detail = format!("a text that ends a generation has 1 to {MOST_STOP_BYTES} bytes");
                    return Err(at(Problem::new(Code::BadArgument, detail)));
                }
                (Some(text), _) => stop.strings.push(text.into()),
                (None, Some(id)) => stop.ids.push(id),
                (None, None) => return Err(wrong(name, "a text, a token's id, or a list of them", item)),
            }
        }
        Ok(stop)
    }
}

/// What is added to logits, by token id, from the object in the field `name`.
///
/// # Errors
/// It is no such object.
pub(crate) fn biases(value: &Value, name: &str) -> Result<Vec<(u32, f32)>> {
    let what = "an object of numbers by token id, such as {\"50256\": -100}";
    let object = value.as_object().ok_or_else(|| wrong(name, what, value))?;
    if object.len() > MOST_BIASES {
        let detail = format!("`{name}` has {} tokens, it may have {MOST_BIASES}", object.len());
        return Err(Problem::new(Code::TooLarge, detail).under(name));
    }
    let bias = |(id, bias): (&String, &Value)| {
        let pair = id.parse().ok().zip(bias.as_f64());
        pair.map(|(id, bias)| (id, bias as f32)).ok_or_else(|| wrong(id, "a token id with a number", bias).under(name))
    };
    object.iter().map(bias).collect()
}

/// How many of the likeliest tokens are told.
fn likeliest<'a>(fields: &mut Fields<'a>, name: &'a str) -> Result<Option<usize>> {
    match fields.count(name)? {
        Some(count) if count > MOST_LOGPROBS => {
            Err(Problem::new(Code::TooLarge, format!("`{name}` is at most {MOST_LOGPROBS}")).under(name))
        }
        count => Ok(count),
    }
}

fn whole<'a>(fields: &mut Fields<'a>, name: &'a str, least: usize) -> Result<Option<usize>> {
    match fields.count(name)? {
        Some(count) if count < least => {
            Err(Problem::new(Code::BadArgument, format!("`{name}` is {least} or more")).under(name))
        }
        count => Ok(count),
    }
}

fn within<'a>(fields: &mut Fields<'a>, name: &'a str, least: f64, most: f64) -> Result<Option<f64>> {
    match fields.number(name)? {
        Some(number) if !(least..=most).contains(&number) => {
            Err(Problem::new(Code::BadArgument, format!("`{name}` is from {least} to {most}, found {number}"))
                .under(name))
        }
        number => Ok(number),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(body: &Value) -> Result<Settings> {
        let mut fields = Fields::new("a generation", body.as_object().unwrap());
        let settings = Settings::parse(&mut fields)?;
        fields.finish().map(|()| settings)
    }

    #[test]
    fn nothing_said_is_greedy() {
        assert_eq!(parse(&json!({})).unwrap(), Settings::default());
        assert!(Settings::default().sampling.is_greedy());
        let found = parse(&json!({"stop": ["a", 7], "logit_bias": {"3": -1.5}, "n": 2, "top_p": 0.5})).unwrap();
        assert_eq!(found.stop, Stop { strings: vec!["a".into()], ids: vec![7], ignore_eos: false });
        assert_eq!((found.sampling.logit_bias, found.samples), (vec![(3, -1.5)], 2));
    }

    #[test]
    fn what_is_out_of_bounds_is_pointed_to() {
        for (body, pointer) in [
            (json!({"max_new_tokens": 0}), "/max_new_tokens"),
            (json!({"max_new_tokens": 3, "min_new_tokens": 4}), "/min_new_tokens"),
            (json!({"temperature": -1}), "/temperature"),
            (json!({"top_p": 0}), "/top_p"),
            (json!({"top_p": 1.5}), "/top_p"),
            (json!({"min_p": 2}), "/min_p"),
            (json!({"top_k": -1}), "/top_k"),
            (json!({"repetition_penalty": 0}), "/repetition_penalty"),
            (json!({"seed": 1.5}), "/seed"),
            (json!({"n": 0}), "/n"),
            (json!({"stop": ["a", ""]}), "/stop/1"),
            (json!({"stop": {}}), "/stop"),
            (json!({"stop": vec!["x"; 10_000]}), "/stop"),
            (json!({"logit_bias": {"x": 1}}), "/logit_bias/x"),
            (json!({"logprobs": 21}), "/logprobs"),
            (json!({"prompt_logprobs": 21}), "/prompt_logprobs"),
            (json!({"temprature": 1}), "/temprature"),
            (json!({"constraint": "json"}), "/constraint"),
            (json!({"constraint": {}}), "/constraint"),
            (json!({"constraint": {"regexp": "a"}}), "/constraint/regexp"),
            (json!({"constraint": {"regex": 1}}), "/constraint/regex"),
            (json!({"constraint": {"choice": []}}), "/constraint/choice"),
            (json!({"constraint": {"json_schema": "x"}}), "/constraint/json_schema"),
            (json!({"constraint": {"lark": "x".repeat(300_000)}}), "/constraint"),
        ] {
            assert_eq!(parse(&body).unwrap_err().pointer, pointer, "{body}");
        }
    }

    #[test]
    fn room_for_new_tokens() {
        let wanted = |max_new_tokens| Settings { max_new_tokens, ..Settings::default() };
        assert_eq!(wanted(None).new_tokens(5, 1000).unwrap(), NEW_TOKENS);
        assert_eq!(wanted(None).new_tokens(8, 8).unwrap(), 1);
        assert_eq!(wanted(Some(4)).new_tokens(5, 8).unwrap(), 4);
        let problem = wanted(Some(5)).new_tokens(5, 8).unwrap_err();
        assert_eq!(problem.hint.as_deref(), Some("there is room for 4 new tokens"));
    }

    #[test]
    fn tokens_beyond_the_vocabulary() {
        let settings = parse(&json!({"stop": [9]})).unwrap();
        assert_eq!(settings.check(9).unwrap_err().pointer, "/stop");
        settings.check(10).unwrap();
        assert_eq!(parse(&json!({"logit_bias": {"9": 1}})).unwrap().check(9).unwrap_err().pointer, "/logit_bias");
    }
}
