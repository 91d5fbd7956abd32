//! What a wave computes: lanes of tokens, each of which joins at one moment and leaves at another.
//!
//! As long as nothing is changed, what a token becomes depends on its sequence's ids up to it and on nothing else. So the
//! rows of all requests in a wave are laid into one tree of ids, whose branches are computed once for all rows that begin
//! alike. From the first token and the first moment at which something is changed, a row has lanes of its own: their
//! residual stream is copied from the tree when they join, and they look on the tree's keys for the tokens before.

use std::collections::BTreeMap;

use super::mark::Mark;
use super::recall::{Known, Recalled};
use super::row::Row;

/// A run of tokens that are computed together, from one moment to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lane {
    /// Position of the first token.
    pub position: usize,
    /// How many tokens of its sequence earlier passes computed, and the number of the row of the wave whose they are.
    pub past: (usize, Option<usize>),
    /// Token ids.
    pub ids: Vec<u32>,
    /// Number of tokens of the whole sequence.
    pub length: usize,
    /// When it joins.
    pub from: Mark,
    /// Which requests use it, and how far each needs it to come.
    pub claims: Vec<(usize, Mark)>,
    /// The tokens before its first one.
    pub before: Vec<Piece>,
    /// Those of them whose keys earlier waves left.
    pub recalled: Vec<Recalled>,
    /// Where its residual stream is copied from when it joins, if it does not begin with the embedding.
    pub source: Vec<Piece>,
    /// Blocks that it does not run through: first and last.
    pub skips: Vec<(usize, usize)>,
}

/// Some neighbouring tokens of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Number of the first among those of its row in this pass.
    pub position: usize,
    /// Number of the lane.
    pub lane: usize,
    /// The first one's place in the lane.
    pub offset: usize,
    /// How many they are.
    pub len: usize,
}

/// Where a row's tokens are computed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// As the model makes them.
    pub clean: Vec<Piece>,
    /// In the row's own way; where such a lane has joined it stands for the token.
    pub own: Vec<Piece>,
    /// The tokens that are not computed, as their keys are there.
    pub recalled: Vec<Recalled>,
}

impl View {
    /// How many tokens there are up to the last one that is computed, if any is.
    pub fn end(&self) -> Option<usize> {
        self.own.iter().chain(&self.clean).map(|piece| piece.position + piece.len).max()
    }
}

impl Lane {
    /// How far it has to come for those requests that are `live`.
    pub fn need(&self, live: impl Fn(usize) -> bool) -> Option<Mark> {
        self.claims.iter().filter(|(track, _)| live(*track)).map(|(_, mark)| *mark).max()
    }

    /// Whether it does not run through a block.
    pub fn skips(&self, layer: usize) -> bool {
        self.skips.iter().any(|(first, last)| (*first..=*last).contains(&layer))
    }
}

/// The lanes of a wave, and where each row's tokens are.
#[derive(Clone, Debug)]
pub struct Lanes {
    /// The lanes.
    pub lanes: Vec<Lane>,
    /// Where the tokens of each row are, in the order in which the rows were given.
    pub views: Vec<View>,
}

/// Lays rows out: each with the number of its request. Where values depend on the length of a sequence (`by_length`), only
/// sequences of equal length begin alike; then nothing is `known`.
pub fn lay_out(rows: &[(usize, &Row<'_>)], by_length: bool, known: &[Known<'_>]) -> Lanes {
    let mut tree = Tree::default();
    let paths: Vec<Vec<usize>> = rows.iter().map(|(track, row)| tree.insert(*track, row, by_length)).collect();
    tree.recall(known);
    let mut lanes = tree.lanes();
    let views = rows.iter().zip(&paths).enumerate();
    let views = views.map(|(number, (row, path))| own_lanes(&mut lanes, &tree, (number, *row), path)).collect();
    Lanes { lanes, views }
}

/// A tree of token ids.
#[derive(Default)]
struct Tree {
    nodes: Vec<Node>,
    /// First tokens, by the length of their sequences where that matters.
    roots: BTreeMap<(usize, u32), usize>,
    /// Each node's lane and its place there, for those that are needed.
    places: Vec<Option<(usize, usize)>>,
}

struct Node {
    id: u32,
    position: usize,
    length: usize,
    parent: Option<usize>,
    /// By their ids.
    children: Few<u32, usize>,
    /// By their requests.
    claims: Few<usize, Mark>,
    /// Whether nothing but its keys is wanted.
    keys_alone: bool,
    /// The known sequence that its keys are taken from.
    known: Option<usize>,
}

/// A map that has one entry as a rule: there is a node for every token of a wave.
struct Few<K, V>(Vec<(K, V)>);

impl<K: Ord, V> Few<K, V> {
    fn new() -> Self {
        Self(Vec::new())
    }

    /// The value of a key, which is `value` where there was none.
    fn entry(&mut self, key: K, value: V) -> &mut V {
        let place = self.0.binary_search_by(|(known, _)| known.cmp(&key));
        let place = place.unwrap_or_else(|place| {
            if self.0.is_empty() {
                self.0.reserve_exact(1);
            }
            self.0.insert(place, (key, value));
            place
        });
        &mut self.0[place].1
    }

    fn get(&self, key: &K) -> Option<&V> {
        let place = self.0.binary_search_by(|(known, _)| known.cmp(key)).ok()?;
        self.0.get(place).map(|(_, value)| value)
    }

    fn values(&self) -> impl DoubleEndedIterator<Item = &V> {
        self.0.iter().map(|(_, value)| value)
    }
}

impl Node {
    fn need(&self) -> Option<Mark> {
        self.claims.values().max().copied()
    }
}

impl Tree {
    /// The nodes of a row's tokens, with its claims on them.
    fn insert(&mut self, track: usize, row: &Row<'_>, by_length: bool) -> Vec<usize> {
        let mut path = Vec::with_capacity(row.ids.len());
        if row.parting.is_some_and(|parting| parting.from == Mark::EMBEDDED && parting.token == 0) {
            return path;
        }
        let length = row.ids.len();
        let mut parent = None;
        for (position, id) in row.ids.iter().enumerate() {
            let next = self.nodes.len();
            let known = match parent {
                None => self.roots.entry((if by_length { length } else { 0 }, *id)).or_insert(next),
                Some(parent) => {
                    let node: &mut Node = &mut self.nodes[parent];
                    node.children.entry(*id, next)
                }
            };
            let node = *known;
            if node == next {
                let (children, claims) = (Few::new(), Few::new());
                let (keys_alone, known) = (true, None);
                self.nodes.push(Node { id: *id, position, length, parent, children, claims, keys_alone, known });
            }
            if let Some(need) = row.clean_need(position) {
                let node = &mut self.nodes[node];
                let claim = node.claims.entry(track, need);
                *claim = need.max(*claim);
                node.keys_alone &= row.wants_keys_alone(position);
            }
            path.push(node);
            parent = Some(node);
        }
        path
    }

    /// Finds the nodes whose keys are known in as many layers as they are needed in.
    fn recall(&mut self, known: &[Known<'_>]) {
        for (number, Known { ids, layers }) in known.iter().enumerate() {
            let mut next = ids.first().and_then(|id| self.roots.get(&(0, *id))).copied();
            for place in 1.. {
                let Some(node) = next.map(|node| &mut self.nodes[node]) else { break };
                let need = node.need().map_or(0, Mark::layers_with_keys);
                if node.keys_alone && (1..=*layers).contains(&need) {
                    node.known.get_or_insert(number);
                }
                next = ids.get(place).and_then(|id| node.children.get(id)).copied();
            }
        }
    }

    /// The nodes of a path that are not computed.
    fn recalled(&self, path: &[usize]) -> Vec<Recalled> {
        let mut runs = Vec::new();
        for (position, node) in path.iter().enumerate() {
            if let Some(known) = self.nodes[*node].known {
                Recalled::push(&mut runs, position, known);
            }
        }
        runs
    }

    /// Unbranched runs of nodes that are needed equally far.
    fn lanes(&mut self) -> Vec<Lane> {
        let mut lanes: Vec<Lane> = Vec::new();
        self.places = vec![None; self.nodes.len()];
        let mut open: Vec<usize> = self.roots.values().rev().copied().collect();
        while let Some(number) = open.pop() {
            let node = &self.nodes[number];
            open.extend(node.children.values().rev().copied());
            if node.claims.0.is_empty() || node.known.is_some() {
                continue;
            }
            let parent = node.parent.filter(|parent| self.goes_on(*parent, node));
            let place = match parent.and_then(|parent| self.places[parent]) {
                Some((lane, offset)) => {
                    lanes[lane].ids.push(node.id);
                    for (track, mark) in &node.claims.0 {
                        match lanes[lane].claims.iter_mut().find(|(known, _)| known == track) {
                            Some((_, known)) => *known = (*known).max(*mark),
                            None => lanes[lane].claims.push((*track, *mark)),
                        }
                    }
                    (lane, offset + 1)
                }
                None => {
                    let before = self.ancestors(node);
                    lanes.push(Lane {
                        position: node.position,
                        past: (0, None),
                        ids: vec![node.id],
                        length: node.length,
                        from: Mark::EMBEDDED,
                        claims: node.claims.0.clone(),
                        before: self.pieces(&before, 0),
                        recalled: self.recalled(&before),
                        source: Vec::new(),
                        skips: Vec::new(),
                    });
                    (lanes.len() - 1, 0)
                }
            };
            self.places[number] = Some(place);
        }
        lanes
    }

    /// Whether a node belongs to its parent's lane.
    fn goes_on(&self, parent: usize, node: &Node) -> bool {
        let parent = &self.nodes[parent];
        parent.children.0.len() == 1 && parent.need() == node.need()
    }

    fn ancestors(&self, node: &Node) -> Vec<usize> {
        let mut path = Vec::new();
        let mut next = node.parent;
        while let Some(number) = next {
            path.push(number);
            next = self.nodes[number].parent;
        }
        path.reverse();
        path
    }

    /// Where the tokens of a path are computed that begins at this position; those that are not needed are nowhere.
    fn pieces(&self, path: &[usize], first: usize) -> Vec<Piece> {
        let mut pieces: Vec<Piece> = Vec::new();
        for (position, node) in (first..).zip(path) {
            let Some((lane, offset)) = self.places[*node] else { continue };
            match pieces.last_mut() {
                Some(last) if last.lane == lane && last.offset + last.len == offset => last.len += 1,
                _ => pieces.push(Piece { position, lane, offset, len: 1 }),
            }
        }
        pieces
    }
}

/// Adds the lanes that a row has for itself, and says where its tokens are.
fn own_lanes(
    lanes: &mut Vec<Lane>,
    tree: &Tree,
    (number, (track, row)): (usize, (usize, &Row<'_>)),
    path: &[usize],
) -> View {
    let clean = tree.pieces(path, 0);
    let mut own: Vec<Piece> = Vec::new();
    let mut token = row.parting.map_or(row.ids.len(), |parting| parting.token);
    let first = token;
    while token < row.ids.len() {
        let run = row.own_need(token);
        let len = (token..row.ids.len()).take_while(|next| row.own_need(*next) == run).count();
        if let Some((from, need)) = run {
            let clean = path.get(..first).unwrap_or_default();
            let mut before = tree.pieces(clean, 0);
            before.extend(own.iter().copied());
            let source = path.get(token..token + len).unwrap_or_default();
            let source = if from == Mark::EMBEDDED { Vec::new() } else { tree.pieces(source, token) };
            own.push(Piece { position: token, lane: lanes.len(), offset: 0, len });
            lanes.push(Lane {
                position: row.past + token,
                past: (row.past, (row.past > 0).then_some(number)),
                ids: row.ids[token..token + len].to_vec(),
                length: row.past + row.ids.len(),
                from,
                claims: vec![(track, need)],
                before,
                recalled: tree.recalled(clean),
                source,
                skips: row.skips.clone(),
            });
        }
        token += len;
    }
    View { clean, own, recalled: tree.recalled(path) }
}
