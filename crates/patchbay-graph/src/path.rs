//! Names of sites as people write them: `layers.5.output`, `layers[-1].mlp.neurons`, nnterp's `layers_output[5]`.

use crate::problem::{Code, Problem, Result};
use crate::site::{LayerSite, Site};
use crate::tree::Tree;

/// A site's name, parsed but not yet held against a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SitePath {
    /// Which layers, where the name has layers.
    pub layers: Option<Layers>,
    /// The name below the layer, or the whole name.
    pub name: String,
}

/// Which layers a name speaks of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Layers {
    /// One layer; negative ones count from the end.
    One(i64),
    /// Listed layers, stacked on a new first axis.
    Many(Vec<i64>),
    /// Every layer, stacked on a new first axis.
    All,
}

impl Layers {
    /// `layers.[5].output` lists one layer, and stacks it; `layers[5].output` is that layer.
    fn listed(self) -> Self {
        match self {
            Self::One(layer) => Self::Many(vec![layer]),
            layers => layers,
        }
    }
}

/// The sites that a name stands for in one model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolved {
    /// One site.
    One(Site),
    /// Several, to be stacked.
    Many(Vec<Site>),
    /// nnterp's `next_token_probs`: the softmax of the last token's logits.
    NextTokenProbs,
}

/// How many layers a name may list.
const MAX_LISTED: usize = 1024;

/// nnterp's accessors and what they stand for.
const LAYER_ALIASES: [(&str, LayerSite); 7] = [
    ("layers_input", LayerSite::Input),
    ("layers_output", LayerSite::Output),
    ("attentions_input", LayerSite::AttnInput),
    ("attentions_output", LayerSite::AttnOutput),
    ("mlps_input", LayerSite::MlpInput),
    ("mlps_output", LayerSite::MlpOutput),
    ("attention_probabilities", LayerSite::Probs),
];

/// Whether a word without dots is the name of a site, or begins the name of one or of a weight.
pub(crate) fn is_site_word(word: &str) -> bool {
    let outer = |site: Site| site.to_string() == word;
    ["layers", "next_token_probs", "token_embeddings", "weights"].contains(&word)
        || LAYER_ALIASES.iter().any(|(alias, _)| *alias == word)
        || Site::OUTER.into_iter().any(outer)
}

impl SitePath {
    /// Splits a string into the site's name and what follows it (an index in brackets, or nothing).
    pub fn parse(text: &str) -> Result<(Self, &str)> {
        if let Some((_, site)) = LAYER_ALIASES.iter().find(|(alias, _)| starts_with_word(text, alias)) {
            let alias =
                text.find('[').ok_or_else(|| malformed(text, "a layer in brackets, as in `layers_output[5]`"))?;
            let (layers, rest) = bracketed(text, &text[alias..])?;
            return Ok((Self { layers: Some(layers), name: site.name().into() }, rest));
        }
        let (layers, rest) = match text.strip_prefix("layers") {
            Some(rest) if rest.starts_with(".[") => {
                let (layers, rest) = bracketed(text, &rest[1..])?;
                (layers.listed(), rest)
            }
            Some(rest) if rest.starts_with('[') => bracketed(text, rest)?,
            Some(rest) if rest.starts_with('.') => dotted(text, &rest[1..])?,
            _ => {
                let (name, rest) = text.split_at(text.find('[').unwrap_or(text.len()));
                return Ok((Self { layers: None, name: name.into() }, rest));
            }
        };
        let rest = rest.strip_prefix('.').ok_or_else(|| malformed(text, "a site, as in `layers.5.output`"))?;
        let (name, rest) = rest.split_at(rest.find('[').unwrap_or(rest.len()));
        Ok((Self { layers: Some(layers), name: name.into() }, rest))
    }

    /// The sites of `tree` that the name stands for.
    pub fn resolve(&self, tree: &Tree) -> Result<Resolved> {
        let Some(layers) = &self.layers else { return self.resolve_outer(tree) };
        let Some(site) = LayerSite::from_name(&self.name) else {
            let detail = format!("blocks have no site `{}`", self.name);
            let there = LayerSite::ALL.into_iter().filter(|site| tree.packing(Site::Layer(0, *site)).is_some());
            return Err(Problem::new(Code::UnknownSite, detail)
                .hint("`output`, `self_attn.probs`, `mlp.neurons`, …: the model's tree lists every site")
                .suggest(&self.name, there.map(LayerSite::name)));
        };
        match layers {
            Layers::One(layer) => find_site(tree, *layer, site).map(Resolved::One),
            Layers::Many(layers) if layers.is_empty() => {
                Err(Problem::new(Code::UnknownSite, "the list of layers is empty").hint(layer_range(tree)))
            }
            Layers::Many(layers) if layers.len() > MAX_LISTED => {
                let detail = format!("{} layers are listed, the most that may be is {MAX_LISTED}", layers.len());
                Err(Problem::new(Code::TooLarge, detail).hint("`layers.*` is all of them"))
            }
            Layers::Many(layers) => {
                layers.iter().map(|layer| find_site(tree, *layer, site)).collect::<Result<_>>().map(Resolved::Many)
            }
            Layers::All => {
                let sites = (0..tree.layers.len() as i64).map(|layer| find_site(tree, layer, site));
                sites.collect::<Result<_>>().map(Resolved::Many)
            }
        }
    }

    fn resolve_outer(&self, tree: &Tree) -> Result<Resolved> {
        match self.name.as_str() {
            "next_token_probs" => return Ok(Resolved::NextTokenProbs),
            "token_embeddings" => return Ok(Resolved::One(Site::EmbedTokens)),
            _ => {}
        }
        if let Some(site) = Site::OUTER.into_iter().find(|site| site.to_string() == self.name) {
            return Ok(Resolved::One(site));
        }
        let layer = number_in(&self.name).filter(|layer| *layer < tree.layers.len()).unwrap_or(0);
        let mut names: Vec<String> =
            tree.sites().filter(|site| site.layer().is_none_or(|l| l == layer)).map(|site| site.to_string()).collect();
        names.extend(["next_token_probs", "token_embeddings"].map(String::from));
        names.extend(LAYER_ALIASES.iter().map(|(alias, _)| format!("{alias}[{layer}]")));
        let problem = Problem::new(Code::UnknownSite, format!("there is no site `{}`", self.name))
            .hint("`layers.5.output`, `logits`, …: the model's tree lists every site");
        Err(problem.suggest(&self.name, names.iter().map(String::as_str)))
    }
}

/// The layer with this number, negative ones counted from the end.
pub fn find_layer(tree: &Tree, layer: i64) -> Result<usize> {
    let count = tree.layers.len() as i64;
    let found = if layer < 0 { layer.saturating_add(count) } else { layer };
    if (0..count).contains(&found) {
        return Ok(found as usize);
    }
    Err(Problem::new(Code::UnknownSite, format!("there is no layer {layer}")).hint(layer_range(tree)))
}

fn layer_range(tree: &Tree) -> String {
    format!("this model has layers 0 to {}", tree.layers.len().saturating_sub(1))
}

/// A site of the layer with this number, if the model has it.
pub(crate) fn find_site(tree: &Tree, layer: i64, name: LayerSite) -> Result<Site> {
    let layer = find_layer(tree, layer)?;
    let site = Site::Layer(layer, name);
    if tree.packing(site).is_some() {
        return Ok(site);
    }
    let there: Vec<Site> = tree.sites().filter(|site| site.layer() == Some(layer)).collect();
    let names: Vec<&str> = there
        .iter()
        .filter_map(|site| match site {
            Site::Layer(_, name) => Some(name.name()),
            _ => None,
        })
        .collect();
    let detail = format!("layer {layer} of this model has no `{}`", name.name());
    Err(Problem::new(Code::UnknownSite, detail).hint(format!("it has {}", names.join(", "))))
}

/// The first number that stands in a name.
fn number_in(name: &str) -> Option<usize> {
    name.split(|c: char| !c.is_ascii_digit()).find(|digits| !digits.is_empty())?.parse().ok()
}

fn starts_with_word(text: &str, word: &str) -> bool {
    text.strip_prefix(word).is_some_and(|rest| rest.is_empty() || rest.starts_with('['))
}

fn malformed(text: &str, expected: &str) -> Problem {
    Problem::new(Code::UnknownSite, format!("`{text}`: expected {expected}"))
        .hint("a site of a block is written `layers.5.output` or `layers[5].output`")
}

/// `5.…`, `-1.…`, `*.…`
fn dotted<'a>(text: &str, rest: &'a str) -> Result<(Layers, &'a str)> {
    let (layer, rest) = rest.split_at(rest.find('.').unwrap_or(rest.len()));
    Ok((layers(text, layer)?, rest))
}

/// `[5]…`, `[*]…`, `[3, 9]…`
fn bracketed<'a>(text: &str, rest: &'a str) -> Result<(Layers, &'a str)> {
    let close = rest.find(']').ok_or_else(|| malformed(text, "a closing `]`"))?;
    let inside = &rest[1..close];
    let found = match inside.contains(',') {
        true => Layers::Many(inside.split(',').map(|layer| number(text, layer)).collect::<Result<_>>()?),
        false => layers(text, inside)?,
    };
    Ok((found, &rest[close + 1..]))
}

fn layers(text: &str, layer: &str) -> Result<Layers> {
    match layer.trim() {
        "*" => Ok(Layers::All),
        layer => number(text, layer).map(Layers::One),
    }
}

fn number(text: &str, layer: &str) -> Result<i64> {
    layer.trim().parse().map_err(|_| malformed(text, "a layer's number, a list of numbers or `*`"))
}

impl std::fmt::Display for SitePath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.layers {
            None => f.write_str(&self.name),
            Some(Layers::One(layer)) => write!(f, "layers.{layer}.{}", self.name),
            Some(Layers::All) => write!(f, "layers.*.{}", self.name),
            Some(Layers::Many(layers)) => {
                let layers: Vec<String> = layers.iter().map(i64::to_string).collect();
                write!(f, "layers.[{}].{}", layers.join(", "), self.name)
            }
        }
    }
}
