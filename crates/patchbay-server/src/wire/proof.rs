//! What is proven of a model.

use std::collections::HashSet;

use patchbay_model::Proof;
use serde::Serialize;
use utoipa::ToSchema;

use super::tree::TreeResponse;

/// What the golden data in the repository prove of an architecture, against Hugging Face transformers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = Proof, example = json!({
    "architecture": "llama", "status": "proven", "goldens": ["llama-gqa-tied"], "proven": ["logits"], "unproven": []
}))]
pub struct ProofView {
    /// The architecture.
    pub architecture: String,
    /// `proven` where every site of this model is, `partly`, or `unproven` where none is.
    pub status: &'static str,
    /// The golden models of this architecture.
    pub goldens: Vec<String>,
    /// The model's sites that are proven; `i` stands for the number of a layer.
    pub proven: Vec<String>,
    /// Its other sites.
    pub unproven: Vec<String>,
}

impl ProofView {
    /// What is proven of the sites of a model.
    pub fn new(architecture: &str, proof: Option<&Proof>, tree: &TreeResponse) -> Self {
        let known = |site: &String| proof.is_some_and(|proof| proof.sites.contains(site));
        let mut sites: Vec<String> = tree.sites.iter().map(|site| site.name.clone()).collect();
        let mut seen = HashSet::new();
        sites.retain(|site| seen.insert(site.clone()));
        let (proven, unproven): (Vec<_>, Vec<_>) = sites.into_iter().partition(known);
        let status = match (proven.is_empty(), unproven.is_empty()) {
            (true, _) => "unproven",
            (false, false) => "partly",
            (false, true) => "proven",
        };
        let goldens = proof.map(|proof| proof.goldens.clone()).unwrap_or_default();
        Self { architecture: architecture.to_owned(), status, goldens, proven, unproven }
    }

    /// What answers warn of.
    pub fn warning(&self) -> Option<String> {
        let Self { architecture, unproven, .. } = self;
        match self.status {
            "unproven" => {
                Some(format!("architecture `{architecture}` is not proven against Hugging Face transformers"))
            }
            "partly" => Some(format!(
                "of architecture `{architecture}` these sites are not proven against Hugging Face transformers: {}",
                unproven.join(", ")
            )),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use patchbay_graph::Tree;

    use super::*;

    #[test]
    fn what_is_not_recorded_is_warned_of() {
        let tree =
            Tree { hidden: 8, vocab: 9, context: 16, fused: true, layers: Vec::new(), weights: Default::default() };
        let tree = TreeResponse::new("m".into(), &tree);
        let names: Vec<String> = tree.sites.iter().map(|site| site.name.clone()).collect();
        let proof = |sites: &[String]| Proof { goldens: vec!["tiny".into()], sites: sites.to_vec() };
        let whole = ProofView::new("a", Some(&proof(&names)), &tree);
        assert_eq!((whole.status, whole.warning()), ("proven", None));
        let part = ProofView::new("a", Some(&proof(&names[1..])), &tree);
        assert_eq!((part.status, &part.unproven), ("partly", &names[..1].to_vec()));
        assert!(part.warning().unwrap().ends_with(&names[0]));
        let none = ProofView::new("a", None, &tree);
        assert_eq!((none.status, none.proven.len()), ("unproven", 0));
        assert!(none.warning().unwrap().contains("`a` is not proven"));
    }
}
