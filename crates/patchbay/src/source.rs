//! `[NAME=]SOURCE`, as models are given on the command line.

use std::path::Path;

use anyhow::Context;
use patchbay_checkpoint::Source;

/// A model to load, and the name it goes by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NamedSource {
    pub(crate) name: String,
    pub(crate) source: String,
}

impl NamedSource {
    /// A path that has `=` in it and lies there is taken as a path.
    pub(crate) fn parse(text: &str) -> anyhow::Result<Self> {
        let (name, source) = match text.split_once('=') {
            Some((name, source)) if !name.contains('/') && !Path::new(text).exists() => (Some(name), source),
            _ => (None, text),
        };
        let parsed = Source::parse(source)?;
        let name = name.map_or_else(|| parsed.default_name(), str::to_owned);
        patchbay_server::name::check_model(&name)
            .with_context(|| format!("give {source} another name: NAME={source}"))?;
        Ok(Self { name, source: source.to_owned() })
    }

    /// Several, whose names have to differ.
    pub(crate) fn parse_all(texts: &[String]) -> anyhow::Result<Vec<Self>> {
        let all: Vec<Self> = texts.iter().map(|text| Self::parse(text)).collect::<anyhow::Result<_>>()?;
        for (i, model) in all.iter().enumerate() {
            if let Some(other) = all[..i].iter().find(|other| other.name == model.name) {
                anyhow::bail!(
                    "two models are named `{}`: {} and {}; name one with NAME=SOURCE",
                    model.name,
                    other.source,
                    model.source
                );
            }
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_before_sources() {
        let parse = |text: &str| NamedSource::parse(text).map(|model| (model.name, model.source));
        assert_eq!(parse("tiny=org/name@main").unwrap(), ("tiny".into(), "org/name@main".into()));
        assert_eq!(parse("org/name").unwrap(), ("name".into(), "org/name".into()));
        assert!(parse("a b=org/name").is_err());
        assert!(parse("nothing-here").unwrap_err().to_string().contains("org/name"));
    }

    #[test]
    fn two_models_do_not_share_a_name() {
        let error = NamedSource::parse_all(&["a/x".into(), "b/x".into()]).unwrap_err().to_string();
        assert!(error.contains("two models are named `x`"), "{error}");
    }
}
