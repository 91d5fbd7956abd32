//! Tensors without elements: what they would take, and the work of making them.
//!
//! The price of a plan is found by going through its run with these in the place of tensors: memory is held from where one is
//! made to where the last that stands on it is dropped, as the executor's own tensors are. While a stage is recorded for a
//! gradient, everything that its variables go into is kept too, and [`Meter::backward`] takes what the way back takes.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

/// Bytes of an activation.
pub(super) const F32: u64 = 4;

/// What was counted so far.
#[derive(Clone, Copy, Debug, Default)]
struct Books {
    flops: f64,
    now: u64,
    most: u64,
}

/// Counts operations and bytes.
#[derive(Debug, Default)]
pub(super) struct Meter {
    books: Rc<Cell<Books>>,
    /// What was recorded, each after what it is made of.
    tape: RefCell<Vec<Node>>,
}

/// What something takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taken {
    flops: f64,
    /// Bytes at its worst moment beyond those that were held before.
    most: u64,
}

/// Bytes that are taken until this is dropped.
#[derive(Debug)]
pub(super) struct Held {
    books: Rc<Cell<Books>>,
    bytes: u64,
}

impl Drop for Held {
    fn drop(&mut self) {
        let books = self.books.get();
        self.books.set(Books { now: books.now.saturating_sub(self.bytes), ..books });
    }
}

/// A tensor as far as its price goes. Copies stand on the same memory.
#[derive(Clone, Debug)]
pub(super) struct Tensor {
    memory: Rc<Held>,
    pub(super) elements: u64,
    /// Whether its elements lie in memory in their own order.
    pub(super) dense: bool,
    /// Its number among what is recorded.
    node: Option<usize>,
}

/// Something recorded.
#[derive(Debug)]
struct Node {
    args: Vec<Tensor>,
    /// Operations of its derivative.
    flops: f64,
    way: Way,
    variable: bool,
}

/// What the derivatives of something are made of. Where that is something recorded, candle keeps all of it until the derivative
/// it goes into is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// The derivative with respect to the result as it is.
    View,
    /// That times something constant.
    Linear,
    /// That times the other argument.
    Product,
    /// That by the second argument; for the second, three tensors more.
    Quotient,
    /// So many tensors made of argument and result.
    Function(u64),
}

impl Way {
    /// For the argument of this number: how many tensors are made for its derivative, and whether they are kept.
    fn share(self, number: usize, args: &[Tensor]) -> (u64, bool) {
        let varies = |number: usize| args.get(number).is_some_and(|arg| arg.node.is_some());
        match self {
            Self::View => (0, false),
            Self::Linear => (1, false),
            Self::Product => (1, (0..args.len()).any(|other| other != number && varies(other))),
            Self::Quotient if number == 1 => (3, true),
            Self::Quotient => (1, varies(1)),
            Self::Function(tensors) => (tensors, true),
        }
    }
}

/// A derivative on its way, and what is kept because of it.
struct Derivative {
    sum: Tensor,
    kept: Vec<Tensor>,
}

/// Derivatives by the number of what they belong to.
pub(super) struct Derivatives {
    of: HashMap<usize, Derivative>,
    /// Those with respect to what does not vary, which are made too.
    _others: Vec<Derivative>,
}

impl Derivatives {
    pub(super) fn get(&self, variable: &Tensor) -> Option<&Tensor> {
        self.of.get(&variable.node?).map(|found| &found.sum)
    }
}

impl Meter {
    pub(super) fn flops(&self) -> f64 {
        self.books.get().flops
    }

    /// Bytes at the worst moment.
    pub(super) fn most(&self) -> u64 {
        self.books.get().most
    }

    pub(super) fn work(&self, flops: f64) {
        let books = self.books.get();
        self.books.set(Books { flops: books.flops + flops, ..books });
    }

    /// Does something, and says what it takes.
    pub(super) fn taken<T>(&self, work: impl FnOnce() -> T) -> (T, Taken) {
        let before = self.books.get();
        self.books.set(Books { flops: 0.0, most: before.now, ..before });
        let made = work();
        let after = self.books.get();
        let (flops, most) = (before.flops + after.flops, before.most.max(after.most));
        self.books.set(Books { flops, most, ..after });
        (made, Taken { flops: after.flops, most: after.most - before.now })
    }

    /// Takes what something took that was done before.
    pub(super) fn take_again(&self, taken: Taken) {
        self.work(taken.flops);
        drop(self.hold(taken.most));
    }

    pub(super) fn hold(&self, bytes: u64) -> Held {
        let books = self.books.get();
        let now = books.now.saturating_add(bytes);
        self.books.set(Books { now, most: books.most.max(now), ..books });
        Held { books: Rc::clone(&self.books), bytes }
    }

    /// A tensor made of nothing that varies.
    pub(super) fn fresh(&self, elements: u64, size: u64) -> Tensor {
        let memory = Rc::new(self.hold(elements.saturating_mul(size)));
        Tensor { memory, elements, dense: true, node: None }
    }

    /// A tensor in memory of its own, made of others.
    pub(super) fn make(&self, elements: u64, args: &[&Tensor]) -> Tensor {
        self.made(elements, args, Way::Linear)
    }

    /// The same with derivatives of their own way.
    pub(super) fn made(&self, elements: u64, args: &[&Tensor], way: Way) -> Tensor {
        let made = self.fresh(elements, F32);
        Tensor { node: self.record(args, 0.0, way), ..made }
    }

    /// The same for a product that takes so many operations, and twice as many on the way back.
    pub(super) fn product(&self, elements: u64, args: &[&Tensor], flops: f64) -> Tensor {
        self.sized(elements, F32, args, flops)
    }

    /// The same for the product with a weight, with respect to which nobody takes a derivative.
    pub(super) fn projected(&self, elements: u64, x: &Tensor, flops: f64) -> Tensor {
        self.work(flops);
        let made = self.fresh(elements, F32);
        if x.varies() {
            let _copied = self.hold(F32 * elements);
        }
        Tensor { node: self.record(&[x], flops, Way::Linear), ..made }
    }

    /// The same for elements of so many bytes.
    pub(super) fn sized(&self, elements: u64, size: u64, args: &[&Tensor], flops: f64) -> Tensor {
        self.work(flops);
        let made = self.fresh(elements, size);
        Tensor { node: self.record(args, 2.0 * flops, Way::Product), ..made }
    }

    /// Another look at a tensor's memory.
    pub(super) fn view(&self, of: &Tensor, elements: u64) -> Tensor {
        Tensor { elements, node: self.record(&[of], 0.0, Way::View), ..of.clone() }
    }

    /// The tensor with its elements in their own order.
    pub(super) fn contiguous(&self, of: &Tensor) -> Tensor {
        if of.dense { of.clone() } else { self.make(of.elements, &[of]) }
    }

    /// A variable that begins as a copy of a tensor.
    pub(super) fn variable(&self, elements: u64) -> Tensor {
        let made = self.fresh(elements, F32);
        let mut tape = self.tape.borrow_mut();
        tape.push(Node { args: Vec::new(), flops: 0.0, way: Way::View, variable: true });
        Tensor { node: Some(tape.len() - 1), ..made }
    }

    fn record(&self, args: &[&Tensor], flops: f64, way: Way) -> Option<usize> {
        if args.iter().all(|arg| arg.node.is_none()) {
            return None;
        }
        let mut tape = self.tape.borrow_mut();
        tape.push(Node { args: args.iter().map(|arg| (*arg).clone()).collect(), flops, way, variable: false });
        Some(tape.len() - 1)
    }

    /// The way back from the sum of some tensors.
    pub(super) fn backward(&self, terms: &[Tensor]) -> Derivatives {
        let tape = self.tape.borrow();
        let mut of: HashMap<usize, Derivative> = HashMap::new();
        let mut others = Vec::new();
        for term in terms.iter().filter_map(|term| term.node) {
            of.insert(term, Derivative { sum: self.fresh(1, F32), kept: Vec::new() });
        }
        for (number, node) in tape.iter().enumerate().rev().filter(|(_, node)| !node.variable) {
            let Some(own) = of.remove(&number) else { continue };
            self.work(node.flops);
            for (place, arg) in node.args.iter().enumerate() {
                let (tensors, keeps) = node.way.share(place, &node.args);
                let shares: Vec<Tensor> = (0..tensors).map(|_| self.fresh(arg.elements, F32)).collect();
                let before = arg.node.and_then(|node| of.remove(&node));
                let before =
                    before.unwrap_or_else(|| Derivative { sum: self.fresh(arg.elements, F32), kept: Vec::new() });
                let mut found = Derivative { sum: self.fresh(arg.elements, F32), kept: before.kept };
                if keeps {
                    found.kept.extend(shares);
                    found.kept.extend([before.sum, own.sum.clone()]);
                }
                match arg.node {
                    Some(node) => drop(of.insert(node, found)),
                    None => others.push(found),
                }
            }
        }
        Derivatives { of, _others: others }
    }

    /// Forgets what was recorded.
    pub(super) fn forget(&self) {
        self.tape.borrow_mut().clear();
    }
}

impl Tensor {
    /// Whether this is the very same tensor.
    pub(super) fn is(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.memory, &other.memory) && self.elements == other.elements
    }

    /// Whether nothing else stands on its memory.
    pub(super) fn is_alone(&self) -> bool {
        Rc::strong_count(&self.memory) == 1
    }

    /// Whether it is made of something that varies.
    pub(super) fn varies(&self) -> bool {
        self.node.is_some()
    }

    pub(super) fn dense(self, dense: bool) -> Self {
        Self { dense, ..self }
    }
}
