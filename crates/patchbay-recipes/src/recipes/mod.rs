//! The recipes, by name.

mod attention_patterns;
mod attribution;
mod lens;
mod object_attention;
mod patching;
mod patchscope;
mod probe;
mod sae;
mod steer;
mod tracked;
mod tuned_lens;

use patchbay_graph::fields::Fields;
use patchbay_graph::problem::{Code, Problem, Result};
use serde_json::{Map, Value};

use crate::Ask;
use crate::draft::{Draft, Made};

/// Makes a recipe of its fields.
type Maker = fn(&mut Fields<'_>, &Ask<'_>, &mut Draft) -> Result<()>;

/// Logits of the next token as a value of the graph, and the layers where they are `[N, L, V]` and not `[N, V]`.
pub(crate) type Logits = (String, Option<Vec<usize>>);

/// Every recipe.
const RECIPES: [(&str, Maker); 16] = [
    ("next-token-probs", lens::next_token_probs),
    ("logit-lens", lens::logit_lens),
    ("activations", lens::activations),
    ("patchscope", patchscope::patchscope),
    ("patchscope-generate", patchscope::patchscope_generate),
    ("object-attention-lens", object_attention::object_attention_lens),
    ("steer", steer::steer),
    ("steering-sweep", steer::steering_sweep),
    ("targets", tracked::targets),
    ("patching-sweep", patching::patching_sweep),
    ("attribution-patching", patching::attribution_patching),
    ("direct-logit-attribution", attribution::direct_logit_attribution),
    ("tuned-lens", tuned_lens::tuned_lens),
    ("sae", sae::sae),
    ("probe", probe::probe),
    ("attention-patterns", attention_patterns::attention_patterns),
];

/// The names of all recipes.
pub const NAMES: [&str; RECIPES.len()] = {
    let mut names = [""; RECIPES.len()];
    let mut i = 0;
    while i < names.len() {
        names[i] = RECIPES[i].0;
        i += 1;
    }
    names
};

/// Fields that go on to the trace as they are.
const PASSED: [&str; 5] = ["model", "edit_args", "output", "async", "timeout_ms"];

/// Makes the recipe of this name, one of [`NAMES`], of its body.
///
/// # Errors
/// A field is missing, unknown, of the wrong kind or out of its bounds, with a pointer to it.
pub fn make(name: &str, body: &Value, ask: &Ask<'_>) -> Result<Made> {
    let object = body.as_object().ok_or_else(|| Problem::new(Code::Malformed, "the body is a JSON object"))?;
    let Some((_, maker)) = RECIPES.iter().find(|(known, _)| *known == name) else {
        return Err(Problem::new(Code::Unsupported, format!("there is no recipe `{name}`")).suggest(name, NAMES));
    };
    let mut fields = Fields::new("this recipe", object);
    let mut passed = Map::new();
    for name in PASSED {
        passed.extend(fields.get(name).map(|value| (name.to_owned(), value.clone())));
    }
    fields.flag("explain")?;
    let mut draft = Draft::default();
    maker(&mut fields, ask, &mut draft)?;
    fields.finish()?;
    draft.finish(passed)
}
