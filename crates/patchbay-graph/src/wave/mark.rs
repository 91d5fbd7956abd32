//! How far a token has come in a pass.

use crate::site::{LayerSite, Site};

/// A moment in the life of a token, in the order of the forward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mark(usize);

impl Mark {
    /// It has its embedding.
    pub const EMBEDDED: Self = Self(0);

    /// What comes before a layer has computed its residual stream, which nobody has looked at yet.
    pub const fn handed(layer: usize) -> Self {
        Self(3 * layer + 1)
    }

    /// Its residual stream is looked at, and written, between two layers: before this one.
    pub const fn stream(layer: usize) -> Self {
        Self(3 * layer + 2)
    }

    /// This layer has computed its keys and values.
    pub const fn keys(layer: usize) -> Self {
        Self(3 * layer + 3)
    }

    /// How far a token has to come for its value at a site.
    pub fn of(site: Site, layers: usize) -> Self {
        use LayerSite as S;
        match site {
            Site::EmbedTokens => Self::EMBEDDED,
            Site::Layer(layer, S::Input) => Self::stream(layer),
            Site::Layer(layer, S::Output) => Self::stream(layer + 1),
            Site::Layer(layer, _) if has_all_rows(site) => Self::keys(layer),
            Site::Layer(layer, _) => Self::handed(layer + 1),
            Site::LnFinalInput | Site::LnFinalOutput | Site::LmHead | Site::Logits => Self::stream(layers),
        }
    }

    /// From when on a token that is written at a site is not what it would be without.
    pub fn parting(site: Site, layers: usize) -> Self {
        match site {
            Site::EmbedTokens => Self::EMBEDDED,
            Site::Layer(layer, LayerSite::Output) => Self::stream(layer + 1),
            Site::Layer(layer, _) => Self::stream(layer),
            _ => Self::stream(layers),
        }
    }

    /// How far the tokens before one have to come, so that it can come this far: it looks on their keys.
    pub fn before(self) -> Option<Self> {
        let layer = self.0.checked_sub(1)? / 3;
        layer.checked_sub(1).map(Self::keys)
    }

    /// Blocks that lie behind a token that has come this far.
    pub fn blocks(self) -> usize {
        self.0.saturating_sub(1) / 3
    }

    /// Layers in which a token that has come this far has keys and values, from the first one on.
    pub fn layers_with_keys(self) -> usize {
        self.0 / 3
    }

    /// The moment at which a copy of a token's stream is taken for one that parts from it now.
    pub fn copied(self) -> Option<Self> {
        self.0.checked_sub(1).map(Self)
    }
}

/// Whether all rows that come have a value at this site; at others those alone have one which go on after a block's keys and
/// values, or the final norm, are made.
pub fn has_all_rows(site: Site) -> bool {
    use LayerSite as S;
    matches!(
        site,
        Site::LnFinalInput | Site::LnFinalOutput | Site::Layer(_, S::Input | S::AttnInput | S::K | S::V | S::KRot)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_follow_one_another() {
        let moments = [
            Mark::EMBEDDED,
            Mark::handed(0),
            Mark::stream(0),
            Mark::keys(0),
            Mark::handed(1),
            Mark::stream(1),
            Mark::keys(1),
            Mark::handed(2),
            Mark::stream(2),
        ];
        assert!(moments.is_sorted_by(|a, b| a < b));
        let before: Vec<_> = moments.iter().map(|mark| mark.before()).collect();
        let (first, second) = (Some(Mark::keys(0)), Some(Mark::keys(1)));
        assert_eq!(before, [None, None, None, None, first, first, first, second, second]);
        assert_eq!(Mark::stream(1).copied(), Some(Mark::handed(1)));
        assert_eq!(Mark::EMBEDDED.copied(), None);
        let blocks: Vec<_> = moments.iter().map(|mark| mark.blocks()).collect();
        assert_eq!(blocks, [0, 0, 0, 0, 1, 1, 1, 2, 2]);
        let keys: Vec<_> = moments.iter().map(|mark| mark.layers_with_keys()).collect();
        assert_eq!(keys, [0, 0, 0, 1, 1, 1, 2, 2, 2]);
    }

    #[test]
    fn sites_have_their_moments() {
        let at = |site| Mark::of(Site::Layer(1, site), 2);
        assert_eq!(at(LayerSite::Input), Mark::stream(1));
        assert_eq!(at(LayerSite::KRot), Mark::keys(1));
        assert_eq!(at(LayerSite::Q), Mark::handed(2));
        assert_eq!(at(LayerSite::Output), Mark::stream(2));
        assert_eq!(Mark::of(Site::Logits, 2), Mark::stream(2));
        assert_eq!(Mark::parting(Site::Layer(1, LayerSite::Output), 2), Mark::stream(2));
        assert_eq!(Mark::parting(Site::Layer(1, LayerSite::Z), 2), Mark::stream(1));
    }
}
