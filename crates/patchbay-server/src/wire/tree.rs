//! A model's tree, for people and programs.

use patchbay_graph::{Axis, LayerSite, Packing, Site, Tree};
use serde::Serialize;
use utoipa::ToSchema;

/// Every site of a model.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct TreeResponse {
    /// The model.
    pub model: String,
    /// Number of blocks.
    pub layer_count: usize,
    /// Width of the residual stream (D).
    pub hidden: usize,
    /// Size of the vocabulary (V).
    pub vocab: usize,
    /// The longest sequence, in tokens.
    pub context: usize,
    /// The sites, in the order of the forward pass; those inside of the blocks once for all blocks alike.
    pub sites: Vec<SiteView>,
}

/// One site, or the same one of several blocks.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(example = json!({
    "name": "layers.i.self_attn.q", "axes": ["B", "H", "S", "d"], "shape": ["B", 9, "S", 64],
    "layers": [0, 29], "about": "query projection, before rotation"
}))]
pub struct SiteView {
    /// Its name; `i` stands for the number of a layer.
    pub name: String,
    /// What the axes are: B rows, S tokens, D hidden size, H heads, K key/value heads, d head size, F MLP size, E experts,
    /// V vocabulary.
    pub axes: Vec<&'static str>,
    /// The same with the sizes that the model fixes.
    pub shape: Vec<Size>,
    /// First and last of the layers that have it in this shape; absent for sites outside of the blocks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layers: Option<(usize, usize)>,
    /// What it holds.
    pub about: &'static str,
}

/// A size that the model fixes, or the letter of one that the request does.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(untagged)]
pub enum Size {
    /// Fixed by the model.
    Fixed(usize),
    /// Fixed by the request: `B` rows or `S` tokens.
    #[schema(value_type = String)]
    Letter(&'static str),
}

impl TreeResponse {
    /// The tree of the model that is named.
    pub fn new(model: String, tree: &Tree) -> Self {
        let outer = |site| view(tree, site, None);
        let inner = LayerSite::ALL.into_iter().flat_map(|site| layer_views(tree, site));
        let sites = outer(Site::EmbedTokens)
            .into_iter()
            .chain(inner)
            .chain([Site::LnFinalInput, Site::LnFinalOutput, Site::LmHead, Site::Logits].into_iter().filter_map(outer));
        Self {
            model,
            layer_count: tree.layers.len(),
            hidden: tree.hidden,
            vocab: tree.vocab,
            context: tree.context,
            sites: sites.collect(),
        }
    }
}

/// One view for each run of neighbouring layers that have the site in one shape.
fn layer_views(tree: &Tree, site: LayerSite) -> Vec<SiteView> {
    let packings: Vec<Option<Packing>> = (0..tree.layers.len()).map(|i| tree.packing(Site::Layer(i, site))).collect();
    let mut first = 0;
    let mut views = Vec::new();
    for run in packings.chunk_by(|a, b| a == b) {
        views.extend(view(tree, Site::Layer(first, site), Some((first, first + run.len() - 1))));
        first += run.len();
    }
    views
}

fn view(tree: &Tree, site: Site, layers: Option<(usize, usize)>) -> Option<SiteView> {
    let packing = tree.packing(site)?;
    let name = match site {
        Site::Layer(_, site) => format!("layers.i.{}", site.name()),
        site => site.to_string(),
    };
    let axes = letters(site, packing);
    let size = |(axis, letter): (Axis, &&'static str)| match axis {
        Axis::Fixed(size) => Size::Fixed(size),
        Axis::Rows | Axis::Tokens | Axis::Keys => Size::Letter(letter),
    };
    let shape = packing.axes().into_iter().zip(&axes).map(size).collect();
    Some(SiteView { name, axes, shape, layers, about: site.about() })
}

fn letters(site: Site, packing: Packing) -> Vec<&'static str> {
    use LayerSite as L;
    match (packing, site) {
        (Packing::Pairs { .. }, _) => vec!["B", "H", "S", "S"],
        (Packing::Heads { .. }, Site::Layer(_, L::K | L::V | L::KRot)) => vec!["B", "K", "S", "d"],
        (Packing::Heads { .. }, Site::Layer(_, L::Heads)) => vec!["B", "H", "S", "D"],
        (Packing::Heads { .. }, _) => vec!["B", "H", "S", "d"],
        (Packing::Channels { .. }, Site::Layer(_, L::Gate | L::Up | L::Neurons)) => vec!["B", "S", "F"],
        (Packing::Channels { .. }, Site::Layer(_, L::RouterLogits | L::RouterProbs)) => vec!["B", "S", "E"],
        (Packing::Channels { .. }, Site::LmHead | Site::Logits) => vec!["B", "S", "V"],
        (Packing::Channels { .. }, _) => vec!["B", "S", "D"],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use patchbay_graph::LayerTree;

    fn layer(mlp: usize) -> LayerTree {
        LayerTree {
            heads: 9,
            kv_heads: 3,
            head_dim: 64,
            value_dim: 64,
            mlp: Some(mlp),
            gate: true,
            experts: None,
            window: None,
            chunk: None,
            sequential: true,
            norms: Vec::new(),
        }
    }

    #[test]
    fn alike_layers_are_one_line_and_others_are_not() {
        let tree = Tree {
            hidden: 576,
            vocab: 100,
            context: 8,
            fused: true,
            layers: vec![layer(8), layer(8), layer(16)],
            weights: Default::default(),
        };
        let response = TreeResponse::new("m".into(), &tree);
        let find = |name: &str| response.sites.iter().filter(|site| site.name == name).collect::<Vec<_>>();
        let k = find("layers.i.self_attn.k");
        assert_eq!((k.len(), k[0].layers, k[0].axes.as_slice()), (1, Some((0, 2)), ["B", "K", "S", "d"].as_slice()));
        assert_eq!(k[0].shape, [Size::Letter("B"), Size::Fixed(3), Size::Letter("S"), Size::Fixed(64)]);
        let up: Vec<_> = find("layers.i.mlp.up").into_iter().map(|site| site.layers).collect();
        assert_eq!(up, [Some((0, 1)), Some((2, 2))]);
        assert!(find("layers.i.mlp.router.logits").is_empty());
        assert_eq!(
            (response.sites[0].name.as_str(), response.sites.last().unwrap().name.as_str()),
            ("embed_tokens.output", "logits")
        );
    }
}
