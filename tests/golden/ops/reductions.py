"""Cases of the ops that reduce or run along axes."""

from recorder import Recorder
from values import INF, NAN, distinct, ints, log_probs, positive, probs, t, x

ROW = x([[1.0, INF, 2.0], [-INF, 0.5, 3.0], [NAN, 1.0, 2.0], [-INF, -INF, -INF]])
TIES = x([[1.0, 3.0, 3.0, 2.0], [2.0, 2.0, 0.0, 2.0]])
ZEROS = x([[1.5, 0.0, 2.0], [0.0, 3.0, 0.0], [2.0, -1.0, 0.5]])
HALVES = ("f64", "f16", "bf16")


def everything(rec: Recorder):
    """All of them."""
    sums(rec)
    spreads(rec)
    norms(rec)
    extremes(rec)
    products(rec)
    softmaxes(rec)
    orders(rec)
    similarity(rec)
    class_losses(rec)
    divergences(rec)


def sums(rec: Recorder):
    """`sum` and `mean`, over one axis, several or all."""
    for name in ("sum", "mean"):
        rec.case(name, t())
        rec.case(name, t(), -1)
        rec.case(name, t(5))
        rec.case(name, t(2, 3))
        rec.case(name, t(2, 3), 0)
        rec.case(name, t(2, 3), -1, True)
        rec.case(name, t(2, 3, 4), [0, -1])
        rec.case(name, t(2, 3, 4), dim=[-2, 0], keepdim=True)
        rec.case(name, t(2, 3, 4), dim=1)
        rec.case(name, t(1, 2, 1, 3, 2), dim=[1, 3], keepdim=True)
        rec.case(name, t(2, 3), dim=[])
        rec.case(name, t(2, 3), dim=None, keepdim=True)
        rec.case(name, t(2, 0, 3))
        rec.case(name, t(2, 0, 3), dim=1)
        rec.case(name, t(2, 0, 3), dim=-1, keepdim=True)
        for dtype in HALVES:
            rec.case(name, t(3, 4, dtype=dtype), dim=-1)
        rec.case(name, t(40, 50), dim=0)
        rec.case(name, ROW, dim=-1)
        rec.case(name, t(2, 3, dtype="i64"), dim=0, dtype="f32")
        rec.refuse(name, t(2, 3), dim=2)
        rec.refuse(name, t(2, 3), dim=-3)
        rec.refuse(name, t(2, 3), dim=[0, 0])
        rec.refuse(name, t(2, 3), dim=[1, -1])
        rec.refuse(name, t(2, 3), dim=0.5)
    for dtype in ("i64", "u8", "bool"):
        rec.case("sum", t(3, 4, dtype=dtype), dim=-1)
        rec.refuse("mean", t(3, 4, dtype=dtype), dim=-1)
    rec.case("sum", x([200, 100, 50], "u8"))
    rec.case("sum", x([2**63 - 1, 2, 3], "i64"))


def spreads(rec: Recorder):
    """`var` and `std`."""
    for name in ("var", "std"):
        rec.case(name, t(2, 3))
        rec.case(name, t(6), 0)
        rec.case(name, t(2, 3, 4), -1)
        rec.case(name, t(2, 3, 4), [0, 2], correction=0)
        rec.case(name, t(2, 3, 4), dim=[0, 1, 2], correction=1, keepdim=True)
        rec.case(name, t(2, 3, 4), dim=-2, correction=2, keepdim=True)
        rec.case(name, t(2, 4), dim=-1, correction=2)
        rec.case(name, t(2, 3), unbiased=False)
        rec.case(name, t(2, 3), dim=1, unbiased=True)
        rec.case(name, t(2, 3), dim=-1, unbiased=False, keepdim=True)
        rec.case(name, t(1, 2, 1, 3, 2), dim=[1, -1])
        rec.case(name, t(2, 3), dim=None, correction=0)
        # PyTorch's gradient of an empty list of axes is infinite
        rec.case(name, t(2, 3), dim=[], still=[t(2, 3)])
        rec.case(name, t(1))
        rec.case(name, t(2, 1), dim=1, correction=0)
        rec.case(name, t(3, 2), dim=1, correction=2)
        rec.case(name, t(3, 2), dim=1, correction=3)
        rec.case(name, x([2.0, 2.0, 2.0]))
        rec.case(name, x([100.25, 100.5, 100.0, 100.75]))
        rec.case(name, t(2, 0), dim=1)
        rec.case(name, ROW, dim=-1)
        for dtype in HALVES:
            rec.case(name, t(3, 4, dtype=dtype), dim=-1)
        rec.refuse(name, t(2, 3, dtype="i64"))
        rec.refuse(name, t(2, 3), dim=2)
        rec.refuse(name, t(2, 3), dim=[0, -2])
        rec.refuse(name, t(2, 3), correction=0, unbiased=False)


def norms(rec: Recorder):
    """`norm` of many orders, at zero too."""
    rec.case("norm", t(2, 3))
    rec.case("norm", t())
    for i, p in enumerate((1, 2, 3, INF, -INF, 0, 0.5, 2.5, -1)):
        rec.case("norm", t(2, 3), p)
        rec.case("norm", t(2, 3, 2), p, -1 - i % 3)
        rec.case("norm", t(2, 3, 2), p=p, dim=[0, 2], keepdim=bool(i % 2))
    for p in (1, 2, 3, INF, 0):
        rec.case("norm", x([[0.0, 0.0], [3.0, -4.0], [0.0, 2.0]]), p=p, dim=1)
    rec.case("norm", x([2.0, -2.0, 1.0]), INF)
    rec.case("norm", x([2.0, -2.0, 1.0, 1.0]), -INF)
    rec.case("norm", t(2, 3), "fro", 1)
    rec.case("norm", t(2, 3), dim=-1, keepdim=True)
    rec.case("norm", ROW, dim=1)
    rec.case("norm", t(2, 0), dim=1)
    for dtype in HALVES:
        rec.case("norm", t(3, 4, dtype=dtype), dim=-1)
    rec.refuse("norm", t(4, dtype="i64"))
    rec.refuse("norm", t(2, 3), 2, 2)
    rec.refuse("norm", t(2, 0), INF, 1)


def extremes(rec: Recorder):
    """`max`, `min`, `argmax` and `argmin`: the first of equals, and shares of the gradient for all of them."""
    for name in ("max", "min"):
        for values in (t(), t(5), t(2, 3, 4), TIES, t(2, 3, dtype="i64"), x([1.0, NAN, 3.0])):
            rec.case(name, values)
        rec.case(name, x([INF, 1.0, -INF]))
    for name in ("max", "min", "argmax", "argmin"):
        rec.case(name, t(), dim=0)
        rec.case(name, t(5), 0)
        rec.case(name, t(2, 3), -1)
        rec.case(name, t(2, 3, 4), 1, True)
        rec.case(name, t(2, 1, 2, 3), dim=-3)
        rec.case(name, t(1, 2, 1, 3, 2), dim=3, keepdim=True)
        rec.case(name, TIES, dim=1)
        rec.case(name, TIES, dim=0, keepdim=True)
        rec.case(name, ROW, dim=1)
        rec.case(name, t(2, 0, 3), dim=-1)
        for dtype in (*HALVES, "i64", "u8"):
            rec.case(name, t(3, 4, dtype=dtype), dim=-1)
        rec.refuse(name, t(2, 0, 3), dim=1)
        rec.refuse(name, t(2, 0))
        rec.refuse(name, t(2, 3), dim=2)
        rec.refuse(name, t(2, 3), dim=[0, 1])
    for name in ("max", "min"):
        rec.case(name, t(4, dtype="bool"))
        rec.case(name, t(2, 3, dtype="bool"), 1)
    for name in ("argmax", "argmin"):
        for values in (t(), t(5), t(2, 3, 4), TIES, x([1.0, NAN, 3.0])):
            rec.case(name, values)
        rec.case(name, t(2, 3), dim=None)
        rec.case(name, t(2, 3), keepdim=True)


def products(rec: Recorder):
    """`prod`, with zeros, and `cumsum`."""
    for values in (t(), t(5), t(2, 3), ZEROS, t(2, 0), t(2, 3, dtype="i64"), x([1.5, 0.0, 2.0]), x([0.0, 0.0, 2.0])):
        rec.case("prod", values)
    for dim in (0, 1, -1):
        rec.case("prod", ZEROS, dim, dim == 1)
        rec.case("prod", t(2, 3, 4), dim, dim == 0)
    rec.case("prod", t(2, 0, 3), dim=1)
    rec.case("prod", ROW, dim=1, still=[ROW])
    for dtype in (*HALVES, "u8", "bool"):
        rec.case("prod", t(3, 4, dtype=dtype), dim=-1)
    rec.refuse("prod", t(2, 3), dim=2)
    rec.refuse("prod", t(2, 3), dim=[0, 1])
    for shape, dim in (
        ((), 0),
        ((5,), 0),
        ((2, 3), 0),
        ((2, 3), 1),
        ((2, 3, 4), -1),
        ((2, 3, 4), -3),
        ((2, 1, 3, 2, 1), -2),
        ((2, 0, 3), 1),
    ):
        rec.case("cumsum", t(*shape), dim)
    for dtype in (*HALVES, "i64", "u8", "bool"):
        rec.case("cumsum", t(3, 4, dtype=dtype), dim=-1)
    rec.case("cumsum", ROW, dim=1)
    rec.case("cumsum", t(3, dtype="i64"), 0, dtype="f32")
    rec.refuse("cumsum", t(2, 3), 2)
    rec.refuse("cumsum", t(2, 3), -3)
    rec.refuse("cumsum", t(2, 3))


def softmaxes(rec: Recorder):
    """`softmax`, `log_softmax` and `logsumexp`."""
    for name in ("softmax", "log_softmax", "logsumexp"):
        for shape, dim in (
            ((), 0),
            ((5,), -1),
            ((2, 3), 0),
            ((2, 3, 4), 1),
            ((2, 3, 4), -1),
            ((1, 2, 1, 3, 2), 3),
            ((2, 1), 1),
            ((2, 0), 0),
            ((3, 40), 1),
        ):
            rec.case(name, t(*shape), dim)
        for dtype in HALVES:
            rec.case(name, t(3, 4, dtype=dtype), -1)
        rec.case(name, x([[100.0, 101.0, -50.0], [-1000.0, -1001.0, -999.0]]), -1)
        rec.case(name, x([[0.5, -INF, 1.0], [-INF, -INF, 2.0]]), dim=1)
        rec.case(name, ROW, dim=-1)
        rec.refuse(name, t(2, 3), 2)
        rec.refuse(name, t(2, 3), -3)
        rec.refuse(name, t(2, 3))
    for name in ("softmax", "log_softmax"):
        rec.refuse(name, t(3, dtype="i64"), 0)
        rec.case(name, t(3, dtype="i64"), 0, dtype="f32")
    rec.case("logsumexp", t(3, dtype="i64"), 0)
    rec.case("logsumexp", t(2, 3, 4), [0, -1])
    rec.case("logsumexp", t(2, 3, 4), dim=[1, 2], keepdim=True)
    rec.case("logsumexp", t(2, 3), 1, True)
    rec.refuse("logsumexp", t(2, 3), dim=[0, 0])


def orders(rec: Recorder):
    """`topk` and `sort`. Without `stable`, no two values along the axis are equal."""
    for shape, k, dim, largest in (
        ((6,), 2, -1, True),
        ((6,), 6, 0, False),
        ((3, 4), 2, 1, True),
        ((3, 4), 1, 0, False),
        ((2, 3, 4), 3, -2, True),
        ((2, 3, 4), 0, 1, True),
        ((2, 1, 4), 1, 1, False),
        ((2, 0, 3), 2, 2, True),
    ):
        rec.case("topk", distinct(*shape), k, dim, largest)
    rec.case("topk", distinct(5), 3)
    rec.case("topk", distinct(), 1)
    rec.case("topk", distinct(50), 7, sorted=True)
    for dtype in (*HALVES, "i64", "u8"):
        rec.case("topk", distinct(2, 5, dtype=dtype), 2)
    rec.case("topk", x([1.0, NAN, INF, -INF, 2.0]), 3)
    rec.case("topk", x([1.0, NAN, INF, -INF, 2.0]), 3, largest=False)
    rec.refuse("topk", t(2, 3), 4)
    rec.refuse("topk", t(2, 3), 3, 0)
    rec.refuse("topk", t(2, 3), -1)
    rec.refuse("topk", t(2, 3), 1, 2)
    rec.refuse("topk", t(2, 3))
    rec.refuse("topk", t(3), 1.5)
    for shape, dim, descending in (
        ((), -1, False),
        ((6,), 0, True),
        ((3, 4), 1, False),
        ((3, 4), 0, True),
        ((2, 3, 4), -2, False),
        ((2, 1, 4), 1, True),
        ((2, 0), 1, False),
        ((2, 1, 3, 1, 2), 2, True),
    ):
        rec.case("sort", distinct(*shape), dim, descending)
    rec.case("sort", distinct(5))
    rec.case("sort", distinct(3, 4), descending=True)
    for dtype in (*HALVES, "i64", "u8"):
        rec.case("sort", distinct(2, 5, dtype=dtype))
    rec.case("sort", TIES, stable=True)
    rec.case("sort", TIES, dim=1, descending=True, stable=True)
    rec.case("sort", t(5, dtype="bool"), stable=True)
    rec.case("sort", x([1.0, NAN, INF, -INF, 2.0]))
    rec.case("sort", x([1.0, NAN, INF, -INF, 2.0]), descending=True)
    rec.refuse("sort", t(2, 3), 2)
    rec.refuse("sort", t(2, 3), -3)


def similarity(rec: Recorder):
    """`cosine_similarity`, of vectors of length zero too."""
    for left, right, dim in (
        ((4,), (4,), 0),
        ((2, 3), (2, 3), 1),
        ((2, 3), (2, 3), -2),
        ((2, 3), (3,), -1),
        ((2, 1, 4), (3, 4), -1),
        ((2, 3, 4), (2, 3, 4), 1),
        ((2, 3, 1, 2), (1, 2), 1),
        ((), (3,), 0),
        ((2, 0), (2, 0), 0),
        ((2, 0), (2, 0), 1),
    ):
        rec.case("cosine_similarity", t(*left), t(*right, seed=1), dim)
    rec.case("cosine_similarity", t(2, 3), t(2, 3, seed=1))
    rec.case("cosine_similarity", t(2, 3), t(2, 3, seed=1), dim=1, eps=1e-6)
    # PyTorch's gradient takes no notice of `eps`, which holds the lengths here
    long = (t(2, 3), t(2, 3, seed=1))
    rec.case("cosine_similarity", *long, dim=1, eps=8.0, still=long)
    rec.case("cosine_similarity", t(3), t(3), dim=0)
    zeros = (x([[0.0, 0.0], [1.0, 2.0]]), x([[1.0, 2.0], [0.0, 0.0]]))
    rec.case("cosine_similarity", *zeros, dim=1, eps=0.01)
    rec.case("cosine_similarity", *zeros, dim=1, still=zeros)
    for left, right in (("f64", "f64"), ("f32", "f64"), ("f16", "f16"), ("bf16", "bf16"), ("f32", "i64")):
        rec.case("cosine_similarity", t(2, 4, dtype=left), t(2, 4, dtype=right, seed=1), dim=-1)
    rec.refuse("cosine_similarity", t(3, dtype="i64"), t(3, dtype="i64"), dim=0)
    rec.refuse("cosine_similarity", t(3), t(3), dim=1)
    rec.refuse("cosine_similarity", t(2, 3), t(2), dim=0)


def class_losses(rec: Recorder):
    """`cross_entropy` with classes and with probabilities, of one item, of many, and with further axes."""
    name, weight = "cross_entropy", positive(5)
    for reduction in ("mean", "sum", "none"):
        rec.case(name, t(4, 5), ints(4, below=5), reduction=reduction)
        rec.case(name, t(4, 5), x([1, -100, 4, 0], "i64"), reduction=reduction)
        rec.case(name, t(4, 5), x([1, 2, 4, 2], "i64"), ignore_index=2, reduction=reduction)
        rec.case(name, t(5), x(3, "i64"), reduction=reduction)
        rec.case(name, t(2, 3, 4), ints(2, 4, below=3), reduction=reduction)
        rec.case(name, t(4, 5), ints(4, below=5), weight, still=[weight], reduction=reduction)
        smooth = {"label_smoothing": 0.2, "reduction": reduction}
        rec.case(name, t(4, 5), ints(4, below=5), weight, still=[weight], **smooth)
        rec.case(name, t(4, 5), ints(4, below=5), **smooth)
        rec.case(name, t(3, 4), probs(3, 4), reduction=reduction)
        rec.case(name, t(2, 3, 4), probs(2, 3, 4), label_smoothing=0.1, reduction=reduction)
        rec.case(name, t(3, 4), probs(3, 4), positive(4), reduction=reduction)
        rec.case(name, t(4), probs(4), reduction=reduction)
    rec.case(name, t(2, 3), ints(2, below=3))
    rec.case(name, t(2, 3, 2, 2), ints(2, 2, 2, below=3), ignore_index=0)
    rec.case(name, t(2, 3), x([-100, -100], "i64"))
    rec.case(name, x([[0.0, -INF, 1.0], [2.0, 1.0, -INF]]), x([0, 1], "i64"))
    rec.case(name, x([[0.0, -INF, 1.0], [2.0, 1.0, -INF]]), x([1, 0], "i64"), reduction="none")
    rec.case(name, x([[100.0, -50.0, 3.0], [-200.0, 10.0, 300.0]]), x([1, 2], "i64"))
    for dtype in HALVES:
        rec.case(name, t(3, 4, dtype=dtype), ints(3, below=4))
    rec.case(name, t(0, 3), ints(0, below=3), reduction="sum")
    rec.case(name, t(0, 3), ints(0, below=3))
    rec.refuse(name, t(4, 5), ints(3, below=5))
    rec.refuse(name, t(4, 5), ints(4, 5, below=5))
    rec.refuse(name, t(4, 5), x([0, 1, 5, 2], "i64"), by_value=True)
    rec.refuse(name, t(4, 5), x([0, 1, -1, 2], "i64"), by_value=True)
    rec.refuse(name, t(4, 5), t(4))
    rec.refuse(name, t(4, 5), t(4, 4))
    rec.refuse(name, t(4, 5, dtype="i64"), ints(4, below=5))
    rec.refuse(name, t(4, 5), ints(4, below=5), positive(4))
    rec.refuse(name, t(4, 5), ints(4, below=5), reduction="max")
    rec.refuse(name, t(4, 5), ints(4, below=5), label_smoothing=1.5)
    rec.refuse(name, t(), ints(below=1))


def divergences(rec: Recorder):
    """`kl_div`."""
    for reduction in ("mean", "sum", "none", "batchmean"):
        rec.case("kl_div", log_probs(3, 4), probs(3, 4), reduction=reduction)
        rec.case("kl_div", log_probs(3, 4), log_probs(3, 4, seed=1), log_target=True, reduction=reduction)
        rec.case("kl_div", log_probs(2, 3, 2), probs(2, 3, 2), reduction=reduction)
    rec.case("kl_div", log_probs(3, 4), probs(3, 4))
    rec.case("kl_div", log_probs(4), probs(4), reduction="sum")
    rec.case("kl_div", log_probs(2, 3), x([[0.0, 0.25, 0.75], [1.0, 0.0, 0.0]]), reduction="none")
    rec.case("kl_div", x([[-INF, 0.0], [-1.0, -0.5]]), x([[0.0, 1.0], [0.5, 0.5]]), reduction="none")
    rec.case("kl_div", log_probs(2, 3), probs(1, 3), reduction="sum")
    rec.case("kl_div", log_probs(2, 3), x([[-1.0, -INF, -0.5], [-INF, 0.0, -INF]]), log_target=True, reduction="none")
    for dtype in HALVES:
        rec.case("kl_div", log_probs(3, 4, dtype=dtype), probs(3, 4, dtype=dtype), reduction="batchmean")
    rec.refuse("kl_div", log_probs(3, 4), probs(3, 3))
    rec.refuse("kl_div", log_probs(3, 4), probs(3, 4), reduction="max")
