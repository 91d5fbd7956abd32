//! The names that callers give: to models, to tensors and to edits.

use crate::Failure;

const LONGEST: usize = 128;

/// A model's name stands in paths and, followed by `+`, before the names of edits.
///
/// # Errors
/// Status 422.
pub fn check_model(name: &str) -> Result<(), Failure> {
    check(name, "model", &['.', '_', '-', ':'])
}

/// A tensor's name stands in operands, where a dot ends it.
///
/// # Errors
/// Status 422.
pub fn check_tensor(name: &str) -> Result<(), Failure> {
    check(name, "tensor", &['_', '-'])
}

/// An edit's name stands behind a model's, after `+`.
///
/// # Errors
/// Status 422.
pub fn check_edit(name: &str) -> Result<(), Failure> {
    check(name, "edit", &['.', '_', '-'])
}

fn check(name: &str, what: &str, marks: &[char]) -> Result<(), Failure> {
    let fits = name.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || marks.contains(&c))
        && name.len() <= LONGEST;
    if fits {
        return Ok(());
    }
    let short: String = name.chars().take(60).collect();
    let marks: Vec<String> = marks.iter().map(|mark| format!("`{mark}`")).collect();
    let hint = format!("take letters, digits, {}; a letter or digit first; at most {LONGEST}", marks.join(", "));
    Err(Failure::new(422, "bad_name", format!("{short:?} cannot name a {what}")).hint(hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert!(check_model("SmolLM2-135M-Instruct.Q4_1").is_ok());
        assert!(check_tensor("joy_2").is_ok());
        for name in ["", ".", "-x", "a+b", "a/b", "a b", "é", &"x".repeat(129)] {
            assert!(check_model(name).is_err() && check_tensor(name).is_err() && check_edit(name).is_err(), "{name}");
        }
        assert!(check_tensor("joy.v1").is_err(), "a dot would end the name in `@joy.v1`");
    }
}
