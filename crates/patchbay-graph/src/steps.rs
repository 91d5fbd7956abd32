//! At which steps of a generation a node acts.

use serde_json::{Value, json};

use crate::fields::{Fields, wrong};
use crate::problem::{Code, Problem, Result};

/// Steps of a generation: 0 is the pass over the prompt, each later one goes over the token that the one before gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Steps {
    /// `"prompt"`: the first.
    Prompt,
    /// `"new"`: all but the first.
    New,
    /// Those listed.
    Listed(Vec<usize>),
    /// From one to another, inclusive; to the end where no end is given.
    Range {
        /// The first.
        from: usize,
        /// The last.
        to: Option<usize>,
    },
}

impl Steps {
    /// Every step.
    pub const ALL: Self = Self::Range { from: 0, to: None };

    /// Parses the field `steps` of a node.
    ///
    /// # Errors
    /// It is none of the forms, or names no step.
    pub fn parse(value: &Value) -> Result<Self> {
        let forms = "\"all\", \"prompt\", \"new\", a step's number, a list of them, or {\"from\": a, \"to\": b}";
        let number = |value: &Value| value.as_u64().and_then(|step| usize::try_from(step).ok());
        match value {
            Value::String(word) => match word.as_str() {
                "all" => Ok(Self::ALL),
                "prompt" => Ok(Self::Prompt),
                "new" => Ok(Self::New),
                other => {
                    let problem = Problem::new(Code::BadArgument, format!("there are no steps {other:?}"));
                    Err(problem.suggest(other, ["all", "prompt", "new"]).under("steps"))
                }
            },
            Value::Number(_) => match number(value) {
                Some(step) => Ok(Self::Listed(vec![step])),
                None => Err(wrong("steps", forms, value)),
            },
            Value::Array(items) if !items.is_empty() => match items.iter().map(number).collect() {
                Some(steps) => Ok(Self::Listed(steps)),
                None => Err(wrong("steps", forms, value)),
            },
            Value::Object(object) => {
                let below = |problem: Problem| problem.under("steps");
                let mut fields = Fields::new("`steps`", object);
                let from = fields.count("from").map_err(below)?.unwrap_or(0);
                let to = fields.count("to").map_err(below)?;
                fields.finish().map_err(below)?;
                if to.is_some_and(|to| to < from) {
                    return Err(wrong("steps", "a range whose end is not before its beginning", value));
                }
                Ok(Self::Range { from, to })
            }
            _ => Err(wrong("steps", forms, value)),
        }
    }

    /// Whether a step is among them.
    pub fn contains(&self, step: usize) -> bool {
        match self {
            Self::Prompt => step == 0,
            Self::New => step > 0,
            Self::Listed(steps) => steps.contains(&step),
            Self::Range { from, to } => step >= *from && to.is_none_or(|to| step <= to),
        }
    }

    /// The steps at which something may begin or end: between two of them all steps are alike.
    pub fn bounds(&self) -> Vec<usize> {
        match self {
            Self::Prompt | Self::New => vec![1],
            Self::Listed(steps) => steps.iter().flat_map(|step| [*step, step.saturating_add(1)]).collect(),
            Self::Range { from, to } => std::iter::once(*from).chain(to.map(|to| to.saturating_add(1))).collect(),
        }
    }

    /// The JSON that parses to this.
    pub fn to_json(&self) -> Value {
        match self {
            Self::Prompt => json!("prompt"),
            Self::New => json!("new"),
            Self::Listed(steps) => json!(steps),
            Self::Range { from: 0, to: None } => json!("all"),
            Self::Range { from, to: None } => json!({"from": from}),
            Self::Range { from, to: Some(to) } => json!({"from": from, "to": to}),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_and_what_they_contain() {
        for (form, expected) in [
            (json!("all"), [true; 5]),
            (json!("prompt"), [true, false, false, false, false]),
            (json!("new"), [false, true, true, true, true]),
            (json!(2), [false, false, true, false, false]),
            (json!([0, 3]), [true, false, false, true, false]),
            (json!({"from": 1, "to": 2}), [false, true, true, false, false]),
            (json!({"from": 3}), [false, false, false, true, true]),
            (json!({"to": 1}), [true, true, false, false, false]),
        ] {
            let steps = Steps::parse(&form).unwrap();
            assert_eq!((0..5).map(|step| steps.contains(step)).collect::<Vec<_>>(), expected, "{form}");
            assert_eq!(Steps::parse(&steps.to_json()).unwrap(), steps);
            // between two bounds all steps are alike
            for step in 1..5 {
                let alike = steps.contains(step) == steps.contains(step - 1);
                assert!(alike || steps.bounds().contains(&step), "{form}: {step}");
            }
        }
    }

    #[test]
    fn what_names_no_steps() {
        for form in [
            json!("newest"),
            json!(-1),
            json!([]),
            json!([1, "x"]),
            json!({"from": 3, "to": 1}),
            json!(1.5),
            json!({"by": 2}),
        ] {
            assert!(Steps::parse(&form).unwrap_err().pointer.contains("steps"), "{form}");
        }
    }
}
