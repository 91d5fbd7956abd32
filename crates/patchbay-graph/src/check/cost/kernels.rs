//! The kernels of a block, priced: the fast ones, and those that a gradient is taken through.
//!
//! Products count two operations a multiply-add. What is done once an element is left out: beside the products it is little.

use super::meter::{F32, Meter, Tensor, Way};

/// Tokens of some rows, packed, and the pairs of them that attention looks at.
#[derive(Clone, Debug, Default)]
pub(super) struct Packed {
    pub(super) tokens: u64,
    /// Pairs of a token and a key up to that of its segment's last one.
    pub(super) pairs: u64,
    /// Those that are not masked.
    pub(super) seen: u64,
    /// Tokens and keys of each segment.
    segments: Vec<(u64, u64)>,
}

impl Packed {
    /// Segments of so many tokens from a position on, where a token sees so many back, itself included, or as many of its own
    /// chunk.
    pub(super) fn new(segments: &[(usize, usize)], window: Option<usize>, chunk: Option<usize>) -> Self {
        let mut packed = Self::default();
        // what the tokens up to this one see
        let up_to = |length: u64| {
            let chunk = chunk.map_or(length, |chunk| length.min(chunk as u64)).max(1);
            length / chunk * seen(chunk, window) + seen(length % chunk, window)
        };
        for (len, position) in segments {
            let (len, position) = (*len as u64, *position as u64);
            packed.tokens += len;
            packed.pairs += len * (position + len);
            packed.seen += up_to(position + len) - up_to(position);
            packed.segments.push((len, position + len));
        }
        packed
    }
}

/// Pairs of tokens that are not masked among so many of one chunk.
fn seen(length: u64, window: Option<usize>) -> u64 {
    let window = window.map_or(length, |window| length.min(window as u64));
    window * (window + 1) / 2 + (length - window) * window
}

/// Sizes of attention.
#[derive(Clone, Copy, Debug)]
pub(super) struct Heads {
    pub(super) heads: u64,
    pub(super) key: u64,
    pub(super) value: u64,
    /// Whether each has a sink in its softmax.
    pub(super) sinks: bool,
}

/// Queries that share a pass over the keys.
const QUERIES: u64 = 24;

/// The derivative of SiLU, with which gates go.
const SILU: Way = Way::Function(8);
/// The derivative of GELU's tanh approximation, the largest of those that go without a gate.
const GELU: Way = Way::Function(15);

/// Tensors that xIELU makes on its way.
const XIELU: u64 = 5;

/// The kernels of a block.
#[derive(Clone, Copy)]
pub(super) struct Kernels<'m> {
    pub(super) meter: &'m Meter,
    /// Whether they are made of operations that have a derivative.
    pub(super) plain: bool,
}

impl Kernels<'_> {
    fn one(&self, elements: u64, of: &Tensor) -> Tensor {
        self.meter.make(elements, &[of])
    }

    /// A constant of the model, broadcast. It lies in memory that is not counted.
    fn constant(&self, elements: u64) -> Tensor {
        self.meter.fresh(elements, 0)
    }

    /// A projection of `x: [tokens, input]` to `[tokens, output]`.
    pub(super) fn linear(&self, x: &Tensor, [input, output]: [u64; 2], bias: bool) -> Tensor {
        let tokens = x.elements / input.max(1);
        let flops = 2.0 * x.elements as f64 * output as f64;
        let x = self.meter.contiguous(x);
        let y = self.meter.projected(tokens * output, &x, flops);
        if self.plain && bias {
            let _sum = self.meter.hold(F32 * y.elements);
        }
        y
    }

    /// A norm of rows of this width; with a mean and a bias where it is a LayerNorm.
    pub(super) fn norm(&self, x: &Tensor, width: u64, layer_norm: bool) -> Tensor {
        let (n, small) = (x.elements, x.elements / width.max(1));
        let m = self.meter;
        if !self.plain {
            return self.one(n, &m.contiguous(x));
        }
        let x = if layer_norm { m.make(n, &[x, &m.view(&self.one(small, x), n)]) } else { x.clone() };
        let root = self.one(small, &self.one(small, &m.made(n, &[&x], Way::Function(2))));
        let normed = m.made(n, &[&x, &m.view(&root, n)], Way::Quotient);
        let scaled = m.made(n, &[&normed, &self.constant(n)], Way::Product);
        if layer_norm { m.make(n, &[&scaled, &self.constant(n)]) } else { scaled }
    }

    /// Rotates heads by their positions.
    pub(super) fn rotate(&self, x: &Tensor) -> Tensor {
        let (n, m) = (x.elements, self.meter);
        if !self.plain {
            return self.one(n, x);
        }
        let (a, b) = (m.view(x, n / 2), m.view(x, n / 2));
        let turned = |a: &Tensor, b: &Tensor| {
            let product = |x: &Tensor| m.made(n / 2, &[x, &self.constant(n / 2)], Way::Product);
            m.make(n / 2, &[&product(a), &product(b)])
        };
        m.make(n, &[&turned(&a, &b), &turned(&b, &a)])
    }

    /// Heads first, in memory of their own, one for every query head.
    fn heads_first(&self, x: &Tensor, elements: u64) -> Tensor {
        self.one(elements, &self.meter.view(x, elements))
    }

    /// The parts that are made of each row of so many tokens, put together.
    fn each_row(&self, packed: &Packed, part: impl Fn(u64, u64) -> Tensor) -> Tensor {
        let mut parts: Vec<Tensor> = packed.segments.iter().map(|(len, keys)| part(*len, *keys)).collect();
        if parts.len() == 1 {
            return parts.swap_remove(0);
        }
        self.meter.make(parts.iter().map(|part| part.elements).sum(), &parts.iter().collect::<Vec<_>>())
    }

    pub(super) fn scores(&self, q: &Tensor, k: &Tensor, packed: &Packed, sizes: Heads) -> Tensor {
        let m = self.meter;
        let flops = |pairs: u64| 2.0 * (pairs * sizes.heads) as f64 * sizes.key as f64;
        if !self.plain {
            return m.product(packed.pairs * sizes.heads, &[q, k], flops(packed.seen));
        }
        self.each_row(packed, |len, keys| {
            let (n, each) = (len * keys * sizes.heads, sizes.heads * sizes.key);
            let (q, k) = (self.heads_first(q, len * each), self.heads_first(k, keys * each));
            let scaled = self.one(n, &m.product(n, &[&q, &k], flops(len * keys)));
            let masked = m.make(n, &[&scaled, &self.constant(n)]);
            m.view(&masked, n)
        })
    }

    pub(super) fn probs(&self, scores: &Tensor, packed: &Packed, sizes: Heads) -> Tensor {
        let (m, heads) = (self.meter, sizes.heads);
        if !self.plain {
            return self.one(scores.elements, scores);
        }
        self.each_row(packed, |len, keys| {
            let (n, small) = (len * keys * heads, len * heads);
            // a sink is one more key
            let rest = if sizes.sinks { small } else { 0 };
            let matrices = m.view(scores, n);
            let matrices = if sizes.sinks { self.one(n + rest, &matrices) } else { matrices };
            let n = n + rest;
            let below = m.make(n, &[&matrices, &m.view(&self.one(small, &matrices), n)]);
            let raised = m.made(n, &[&below], Way::Function(1));
            let sum = self.one(small, &raised);
            let probs = m.made(n, &[&raised, &m.view(&sum, n)], Way::Quotient);
            if sizes.sinks { self.one(n - rest, &m.view(&probs, n - rest)) } else { m.view(&probs, n) }
        })
    }

    pub(super) fn mix(&self, probs: &Tensor, v: &Tensor, packed: &Packed, sizes: Heads) -> Tensor {
        let (m, each) = (self.meter, sizes.heads * sizes.value);
        let flops = |pairs: u64| 2.0 * (pairs * sizes.heads) as f64 * sizes.value as f64;
        if !self.plain {
            return m.product(packed.tokens * each, &[probs, v], flops(packed.pairs));
        }
        self.each_row(packed, |len, keys| {
            let v = self.heads_first(v, keys * each);
            let matrices = m.view(probs, len * keys * sizes.heads);
            self.one(len * each, &m.product(len * each, &[&matrices, &v], flops(len * keys)))
        })
    }

    /// Scores, softmax and mix at once.
    pub(super) fn attention(&self, qkv: [&Tensor; 3], packed: &Packed, sizes: Heads) -> Tensor {
        let [q, k, v] = qkv;
        if self.plain {
            let scores = self.scores(q, k, packed, sizes);
            return self.mix(&self.probs(&scores, packed, sizes), v, packed, sizes);
        }
        // some rows of scores
        let longest = packed.segments.iter().map(|(_, keys)| *keys).max().unwrap_or(0);
        let _rows = self.meter.hold(4 * QUERIES * longest);
        let flops = 2.0 * (packed.seen * sizes.heads) as f64 * (sizes.key + sizes.value) as f64;
        self.meter.product(packed.tokens * sizes.heads * sizes.value, &qkv, flops)
    }

    /// The activation of `x`, times `up` where there is one.
    pub(super) fn activate(&self, x: &Tensor, up: Option<&Tensor>, learned: bool) -> Tensor {
        let (n, m) = (x.elements, self.meter);
        if self.plain && learned {
            drop(m.hold(XIELU * F32 * n));
            return m.made(n, &[x], Way::Function(XIELU));
        }
        match (self.plain, up) {
            (true, Some(up)) => m.made(n, &[&m.made(n, &[x], SILU), up], Way::Product),
            (true, None) => m.made(n, &[x], GELU),
            (false, Some(up)) => m.make(n, &[x, up]),
            (false, None) => self.one(n, x),
        }
    }
}
