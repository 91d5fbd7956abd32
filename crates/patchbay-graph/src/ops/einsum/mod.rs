//! Sums of products: `einsum` and every product that is one.
//!
//! Axes carry labels. A [`Product`] multiplies its operands where labels are equal and sums over every label that the output
//! does not have. It is done two operands at a time, the pair with the smallest result first.

mod equation;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use equation::equation;

use super::misfit;
use crate::problem::{Code, Problem, Result};
use crate::shape::{Ragged, Shape};

/// Operands of one product, at most: the search for the best pair takes time with their cube.
const MOST_OPERANDS: usize = 64;

/// A sum of products.
#[derive(Clone, Debug)]
pub struct Product {
    /// Labels of every operand's axes.
    pub operands: Vec<Vec<usize>>,
    /// Labels of the output's axes.
    pub output: Vec<usize>,
    /// Size of each label.
    sizes: BTreeMap<usize, usize>,
    /// Every operand's own sizes.
    dims: Vec<Vec<usize>>,
    ragged: Option<RaggedLabels>,
}

/// The label of rows, and those of tokens with their length in every row.
#[derive(Clone, Debug)]
struct RaggedLabels {
    rows: usize,
    tokens: BTreeMap<usize, Arc<[usize]>>,
}

/// Two terms that become one, which takes the place of the left one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The place of the one.
    pub left: usize,
    /// The place of the other.
    pub right: usize,
    /// The labels that stay; the others of the two are summed over.
    pub keep: Vec<usize>,
}

impl Product {
    /// # Errors
    /// A label has several sizes, rows that differ in length would be mixed.
    pub(super) fn new(
        operands: Vec<Vec<usize>>,
        output: Vec<usize>,
        shapes: &[&Shape],
        broadcasts: bool,
    ) -> Result<Self> {
        if operands.len() > MOST_OPERANDS {
            let detail = format!("{} operands; there may be {MOST_OPERANDS}", operands.len());
            return Err(Problem::new(Code::TooLarge, detail).hint("multiply some of them first"));
        }
        let mut sizes: BTreeMap<usize, usize> = BTreeMap::new();
        for (labels, shape) in operands.iter().zip(shapes) {
            for (axis, (label, size)) in labels.iter().zip(&shape.dims).enumerate() {
                if labels[..axis].iter().zip(&shape.dims).any(|(other, own)| other == label && own != size) {
                    let detail = format!("axes of shape {shape} with one label differ in size");
                    return Err(misfit(detail).hint("a diagonal has equal sides"));
                }
                let known = sizes.entry(*label).or_insert(*size);
                match (*known, *size) {
                    (a, b) if a == b => {}
                    (1, size) if broadcasts => *known = size,
                    (_, 1) if broadcasts => {}
                    (a, b) => {
                        let all: Vec<String> = shapes.iter().map(|shape| shape.to_string()).collect();
                        let detail = format!("shapes {} do not fit together: {a} against {b}", all.join(" and "));
                        return Err(misfit(detail).hint("axes with one label have one size, or 1"));
                    }
                }
            }
        }
        let dims = shapes.iter().map(|shape| shape.dims.clone()).collect();
        let mut product = Self { operands, output, sizes, dims, ragged: None };
        product.ragged = product.find_ragged(shapes)?;
        Ok(product)
    }

    fn find_ragged(&self, shapes: &[&Shape]) -> Result<Option<RaggedLabels>> {
        let mut found: Option<RaggedLabels> = None;
        for (labels, shape) in self.operands.iter().zip(shapes) {
            let Some(ragged) = &shape.ragged else { continue };
            let RaggedLabels { rows, tokens } =
                found.get_or_insert_with(|| RaggedLabels { rows: labels[ragged.rows], tokens: BTreeMap::new() });
            if *rows != labels[ragged.rows] {
                return Err(mixed("the rows of one operand are not the rows of the other"));
            }
            for (axis, lengths) in &ragged.axes {
                tokens.insert(labels[*axis], Arc::clone(lengths));
            }
        }
        let Some(RaggedLabels { tokens, .. }) = &found else { return Ok(None) };
        for (labels, shape) in self.operands.iter().zip(shapes) {
            for (axis, label) in labels.iter().enumerate().filter(|(axis, _)| shape.dims[*axis] != 1) {
                let lengths = shape.ragged.as_ref().and_then(|ragged| ragged.lengths(axis));
                if tokens.contains_key(label) && tokens.get(label) != lengths {
                    return Err(mixed("an axis of tokens meets one of other lengths"));
                }
            }
        }
        Ok(found)
    }

    /// Shape of the result.
    ///
    /// # Errors
    /// Tokens of rows that differ in length would outlive their rows.
    pub(super) fn shape(&self) -> Result<Shape> {
        let dims = self.output.iter().map(|label| self.sizes[label]).collect();
        let Some(RaggedLabels { rows, tokens }) = &self.ragged else { return Ok(Shape::dense(dims)) };
        let place = |(axis, label): (usize, &usize)| Some((axis, Arc::clone(tokens.get(label)?)));
        let axes: Vec<_> = self.output.iter().enumerate().filter_map(place).collect();
        if axes.is_empty() {
            return Ok(Shape::dense(dims));
        }
        match self.output.iter().position(|label| label == rows) {
            Some(rows) => Ok(Shape { dims, ragged: Some(Ragged { rows, axes }) }),
            None => Err(mixed("rows that differ in length cannot be added up over rows")),
        }
    }

    /// The labels of an operand that are multiplied: each once, without those that are broadcast from size 1.
    pub fn labels(&self, operand: usize) -> Vec<usize> {
        let mut labels = Vec::new();
        for (label, size) in self.operands[operand].iter().zip(&self.dims[operand]) {
            if !labels.contains(label) && (*size != 1 || self.sizes[label] == 1) {
                labels.push(*label);
            }
        }
        labels
    }

    /// The labels of an operand after all that only it has, and the output lacks, are summed over.
    pub fn needed(&self, operand: usize) -> Vec<usize> {
        let all: Vec<Vec<usize>> = (0..self.operands.len()).map(|other| self.labels(other)).collect();
        let wanted = |label: &usize| {
            self.output.contains(label)
                || all.iter().enumerate().any(|(o, labels)| o != operand && labels.contains(label))
        };
        all[operand].iter().copied().filter(wanted).collect()
    }

    /// The pairs to multiply, in order.
    pub fn pairs(&self) -> Vec<Pair> {
        let mut terms: Vec<Option<Vec<usize>>> = (0..self.operands.len()).map(|o| Some(self.needed(o))).collect();
        let mut pairs = Vec::new();
        for _ in 1..terms.len() {
            let Some(best) = self.best_pair(&terms) else { break };
            terms[best.right] = None;
            terms[best.left] = Some(best.keep.clone());
            pairs.push(best);
        }
        pairs
    }

    /// The pair whose result is smallest beside what goes into it.
    fn best_pair(&self, terms: &[Option<Vec<usize>>]) -> Option<Pair> {
        // how many terms have each label
        let mut users: BTreeMap<usize, usize> = BTreeMap::new();
        terms.iter().flatten().flatten().for_each(|label| *users.entry(*label).or_insert(0) += 1);
        let mut best: Option<(f64, Pair)> = None;
        for (left, a) in terms.iter().enumerate() {
            let Some(a) = a else { continue };
            for (right, b) in terms.iter().enumerate().skip(left + 1) {
                let Some(b) = b else { continue };
                let stays = |label: &usize| {
                    let own = usize::from(a.contains(label)) + usize::from(b.contains(label));
                    self.output.contains(label) || users[label] > own
                };
                let both = a.iter().chain(b.iter().filter(|label| !a.contains(label)));
                let keep: Vec<usize> = both.copied().filter(stays).collect();
                let score = self.elements(&keep) - self.elements(a) - self.elements(b);
                if best.as_ref().is_none_or(|(least, _)| score < *least) {
                    best = Some((score, Pair { left, right, keep }));
                }
            }
        }
        best.map(|(_, pair)| pair)
    }

    fn elements(&self, labels: &[usize]) -> f64 {
        labels.iter().map(|label| self.sizes[label] as f64).product()
    }

    /// Size of a label.
    pub fn size(&self, label: usize) -> usize {
        self.sizes.get(&label).copied().unwrap_or(1)
    }

    /// Floating-point operations.
    pub(super) fn flops(&self) -> f64 {
        let mut terms: Vec<Vec<usize>> = (0..self.operands.len()).map(|operand| self.needed(operand)).collect();
        let summed = |(labels, dims): (&Vec<usize>, &Vec<usize>), needed: &Vec<usize>| {
            if needed.len() < labels.len() { dims.iter().map(|dim| *dim as f64).product() } else { 0.0 }
        };
        let mut flops: f64 =
            self.operands.iter().zip(&self.dims).zip(&terms).map(|(operand, needed)| summed(operand, needed)).sum();
        for Pair { left, right, keep } in self.pairs() {
            let all = self.both(&terms[left], &terms[right]);
            let each = if all.len() > keep.len() { 2.0 } else { 1.0 };
            flops += each * self.elements(&all);
            terms[left] = keep;
        }
        flops
    }

    /// Elements held at the worst moment beside operands and result: terms whose axes lie in another order than they are
    /// multiplied in are copied, and so is the result where it comes out in another order than it is wanted in.
    pub(super) fn scratch(&self) -> u64 {
        let mut terms: Vec<Term> = (0..self.operands.len()).map(|operand| self.term(operand)).collect();
        let result = self.elements(&self.output);
        let mut most = terms.iter().map(|term| term.own).sum::<f64>();
        for Pair { left, right, keep } in self.pairs() {
            let own: f64 = terms.iter().map(|term| term.own).sum();
            let (found, way) = self.times(&terms[left].labels, &terms[right].labels, &keep);
            most = most.max(own + way + self.elements(&keep));
            terms[right] = Term { labels: Vec::new(), own: 0.0 };
            terms[left] = Term { own: self.elements(&keep), labels: found };
        }
        let last = &terms[0];
        let reordered = if self.in_order(&last.labels, &self.output) { 0.0 } else { last.own };
        (most.max(result + reordered) - result).max(0.0) as u64
    }

    /// An operand before it is multiplied, and what is made for it.
    fn term(&self, operand: usize) -> Term {
        let labels = self.needed(operand);
        let made = labels.len() < self.labels(operand).len();
        Term { own: if made { self.elements(&labels) } else { 0.0 }, labels }
    }

    /// The order of the labels of a product of two terms, and elements made on its way.
    fn times(&self, left: &[usize], right: &[usize], keep: &[usize]) -> (Vec<usize>, f64) {
        let part = |of: &[usize], shared: bool, kept: bool, others: &[usize]| -> Vec<usize> {
            of.iter().copied().filter(|l| others.contains(l) == shared && keep.contains(l) == kept).collect()
        };
        let (batch, summed) = (part(left, true, true, right), part(left, true, false, right));
        let (rows, columns) = (part(left, false, true, right), part(right, false, true, left));
        let copied = |labels: &[usize], order: Vec<usize>| match self.in_order(labels, &order) {
            true => 0.0,
            false => self.elements(labels),
        };
        let copies = copied(left, [&batch[..], &rows, &summed].concat())
            + copied(right, [&batch[..], &summed, &columns].concat());
        // where there are no matrices all products are made, and then added up
        let vectors = self.elements(&rows) == 1.0 && self.elements(&columns) == 1.0;
        let products = if vectors && !summed.is_empty() { self.elements(&self.both(left, right)) } else { 0.0 };
        ([batch, rows, columns].concat(), copies + products)
    }

    /// Whether axes in the one order lie in memory as those in the other.
    fn in_order(&self, labels: &[usize], order: &[usize]) -> bool {
        let long =
            |labels: &[usize]| -> Vec<usize> { labels.iter().copied().filter(|label| self.size(*label) > 1).collect() };
        long(labels) == long(order)
    }

    fn both(&self, left: &[usize], right: &[usize]) -> Vec<usize> {
        left.iter().chain(right.iter().filter(|label| !left.contains(label))).copied().collect()
    }
}

/// A term on the way: the order of its labels, and elements of its own.
struct Term {
    labels: Vec<usize>,
    own: f64,
}

fn mixed(detail: &str) -> Problem {
    misfit(detail).hint("index the token axis first, for example `[:, -1]`")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn product(text: &str, shapes: &[&[usize]]) -> Result<Product> {
        let shapes: Vec<Shape> = shapes.iter().map(|dims| Shape::dense(dims.to_vec())).collect();
        let ranks: Vec<usize> = shapes.iter().map(Shape::rank).collect();
        let (operands, output) = equation(text, &ranks)?;
        Product::new(operands, output, &shapes.iter().collect::<Vec<_>>(), true)
    }

    #[test]
    fn small_results_come_first() {
        // (a b) (b c) is large, (b c) (c d) is small
        let chain = product("ab,bc,cd->ad", &[&[1000, 10], &[10, 1000], &[1000, 2]]).unwrap();
        assert_eq!((chain.pairs()[0].left, chain.pairs()[0].right), (1, 2));
        assert_eq!(chain.flops(), 2.0 * (10.0 * 1000.0 * 2.0 + 1000.0 * 10.0 * 2.0));
        // three sums of one element each
        assert_eq!(product("i,j,k->", &[&[1 << 20], &[1 << 20], &[1 << 20]]).unwrap().scratch(), 3);
    }

    #[test]
    fn terms_in_another_order_are_copied() {
        let scratch = |text: &str| product(text, &[&[30, 40], &[40, 50]]).unwrap().scratch();
        assert_eq!(scratch("ij,jk->ik"), 0);
        assert_eq!(scratch("ij,jk->ki"), 1500);
        let scratch = |text: &str| product(text, &[&[30, 30], &[30, 30]]).unwrap().scratch();
        assert_eq!(
            (scratch("ij,kj->ik"), scratch("ji,kj->ik"), scratch("ij,ij->ij"), scratch("ij,ij->")),
            (900, 1800, 0, 900)
        );
    }

    #[test]
    fn axes_of_size_one_are_broadcast() {
        let found = product("...ij,...jk->...ik", &[&[5, 1, 2, 3], &[4, 3, 6]]).unwrap();
        assert_eq!(found.shape().unwrap().dims, [5, 4, 2, 6]);
        assert_eq!(found.labels(0).len(), 3);
        assert!(product("ij,jk->ik", &[&[2, 3], &[4, 5]]).is_err());
        assert_eq!(product("ij,jk->ik", &[&[2, 1], &[4, 5]]).unwrap().shape().unwrap().dims, [2, 5]);
    }

    #[test]
    fn tokens_need_their_rows() {
        let lengths: Arc<[usize]> = [2, 3].into();
        let shape = Shape { dims: vec![2, 3, 8], ragged: Some(Ragged { rows: 0, axes: vec![(1, lengths)] }) };
        let dense = Shape::dense([2, 3, 8]);
        let multiply = |text: &str, shapes: &[&Shape]| {
            let ranks: Vec<usize> = shapes.iter().map(|shape| shape.rank()).collect();
            let (operands, output) = equation(text, &ranks)?;
            Product::new(operands, output, shapes, true)?.shape()
        };
        assert_eq!(multiply("bsd,btd->bst", &[&shape, &shape]).unwrap().to_string(), "[2, 2..3, 2..3]");
        assert_eq!(multiply("bsd,bse->bde", &[&shape, &shape]).unwrap().to_string(), "[2, 8, 8]");
        assert_eq!(multiply("bsd->d", &[&shape]).unwrap().to_string(), "[8]");
        assert!(multiply("bsd->sd", &[&shape]).is_err());
        assert!(multiply("bsd,bsd->bs", &[&shape, &dense]).is_err());
        assert!(multiply("bsd,ctd->bsct", &[&shape, &shape]).is_err());
    }
}
