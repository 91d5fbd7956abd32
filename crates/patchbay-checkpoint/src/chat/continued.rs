//! Going on with the last message instead of beginning another: transformers' `continue_final_message`.

use serde_json::{Map, Value};

/// Marks the place in the rendered text where the message ends. The space at its end shows whether the template trims.
const TAG: &str = "CONTINUE_FINAL_MESSAGE_TAG ";

/// Puts the mark behind the last message, and gives what it said.
pub(super) fn mark(messages: &mut [Map<String, Value>]) -> Result<String, String> {
    let content = messages.last_mut().and_then(|message| message.get_mut("content"));
    let text = match content {
        Some(Value::Array(blocks)) => blocks.iter_mut().rev().find_map(|block| block.get_mut("text")),
        content => content,
    };
    match text {
        Some(Value::String(text)) => {
            let said = text.clone();
            text.push_str(TAG);
            Ok(said)
        }
        _ => Err("the last message has no text to go on with".to_owned()),
    }
}

/// The rendered text up to the mark.
pub(super) fn cut(mut rendered: String, said: &str) -> Result<String, String> {
    let at = rendered.rfind(TAG.trim_end()).filter(|_| rendered.contains(said.trim()));
    let at = at.ok_or("it does not write the last message as it is, so that nothing can go on with it")?;
    let keeps_spaces = rendered[at..].starts_with(TAG);
    rendered.truncate(at);
    if !keeps_spaces {
        rendered.truncate(rendered.trim_end().len());
    }
    Ok(rendered)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn messages(content: &Value) -> Vec<Map<String, Value>> {
        json!([{"role": "assistant", "content": content}])
            .as_array()
            .unwrap()
            .iter()
            .map(|m| m.as_object().unwrap().clone())
            .collect()
    }

    #[test]
    fn up_to_the_end_of_the_message() {
        let mut marked = messages(&json!("It is "));
        assert_eq!(mark(&mut marked).unwrap(), "It is ");
        let text = marked[0]["content"].as_str().unwrap().to_owned();
        assert_eq!(cut(format!("<a>{text}</a>"), "It is ").unwrap(), "<a>It is ");
        // a template that trims takes the space at the end of the text too
        assert_eq!(cut(format!("<a>{}</a>", text.trim()), "It is ").unwrap(), "<a>It is");
        let mut blocks = messages(&json!([{"type": "text", "text": "x"}, {"type": "image"}]));
        assert_eq!(mark(&mut blocks).unwrap(), "x");
    }

    #[test]
    fn what_cannot_be_gone_on_with() {
        assert!(mark(&mut messages(&Value::Null)).is_err());
        assert!(mark(&mut messages(&json!([{"type": "image"}]))).is_err());
        assert!(cut("<a></a>".to_owned(), "It is").is_err());
    }
}
