"""Cases of the ops that move elements about."""

from recorder import Recorder
from values import INF, NAN, ints, t, x

WHOLE = ("i64", "u8", "bool")


def everything(rec: Recorder):
    """All of them."""
    reshapes(rec)
    permutations(rec)
    sizes_of_one(rec)
    expansions(rec)
    joins(rec)
    splits(rec)
    indexed(rec)
    scattered(rec)
    masks(rec)
    triangles(rec)


def reshapes(rec: Recorder):
    """`reshape`."""
    for shape, into in (
        ((2, 3), [3, 2]),
        ((2, 3), [6]),
        ((2, 3), [-1]),
        ((2, 3, 4), [2, -1]),
        ((2, 3, 4), [-1, 4, 3, 1]),
        ((1,), []),
        ((), [1, 1]),
        ((), [-1]),
        ((2, 0), [0, 5]),
        ((2, 0), [-1, 2]),
        ((1, 2, 1, 3, 2), [3, 4]),
    ):
        rec.case("reshape", t(*shape), into)
    for dtype in WHOLE:
        rec.case("reshape", t(2, 3, dtype=dtype), [3, 2])
    rec.case("reshape", t(2, 3, dtype="bf16"), [1, -1])
    for shape, into in (
        ((2, 3), [4]),
        ((2, 3), [-1, -1]),
        ((2, 3), [-1, 4]),
        ((2, 3), [-2, 3]),
        ((2, 0), [-1, 0]),
        ((2, 3), []),
        ((2, 3), [0, -1]),
    ):
        rec.refuse("reshape", t(*shape), into)
    rec.refuse("reshape", t(2, 3))
    rec.refuse("reshape", t(2, 3), [1.5, 4])


def permutations(rec: Recorder):
    """`transpose`, `permute` and `flip`."""
    for shape, one, other in (
        ((2, 3), 0, 1),
        ((2, 3), -1, -2),
        ((2, 3, 4), 0, 2),
        ((2, 3, 4), 1, -1),
        ((2, 3, 4), 1, 1),
        ((3,), 0, -1),
        ((), 0, -1),
        ((2, 0, 3), 1, 2),
        ((1, 2, 1, 3, 2), 1, 3),
    ):
        rec.case("transpose", t(*shape), one, other)
    rec.case("transpose", t(2, 3, dtype="i64"), 0, 1)
    rec.refuse("transpose", t(2, 3), 0, 2)
    rec.refuse("transpose", t(2, 3), -3, 0)
    rec.refuse("transpose", t(2, 3), 0)
    for shape, order in (
        ((2, 3), [1, 0]),
        ((2, 3, 4), [2, 0, 1]),
        ((2, 3, 4), [-1, 0, -2]),
        ((2, 3, 4), [0, 1, 2]),
        ((3,), [0]),
        ((), []),
        ((2, 0, 3), [1, 2, 0]),
        ((1, 2, 1, 3, 2), [4, 3, 0, 2, 1]),
    ):
        rec.case("permute", t(*shape), order)
    rec.case("permute", t(2, 3, dtype="bool"), [1, 0])
    for order in ([0], [0, 0], [0, 2], [0, 1, 2], [1, -1]):
        rec.refuse("permute", t(2, 3), order)
    for shape, dims in (
        ((4,), [0]),
        ((2, 3), [0, 1]),
        ((2, 3), [-1]),
        ((2, 3, 4), [0, 2]),
        ((2, 3, 4), [-2, 0]),
        ((2, 3), []),
        ((), []),
        ((2, 0), [0, 1]),
        ((1, 2, 1, 3, 2), [1, 3, 4]),
    ):
        rec.case("flip", t(*shape), dims)
    rec.case("flip", t(5, dtype="i64"), [0])
    for dims in ([2], [0, 0], [0, -2], [-3]):
        rec.refuse("flip", t(2, 3), dims)


def sizes_of_one(rec: Recorder):
    """`squeeze` and `unsqueeze`."""
    for shape in ((1, 2, 1, 3), (2, 3), (1, 1), (), (1, 0, 1)):
        rec.case("squeeze", t(*shape))
    for shape, dim in (
        ((1, 2, 1, 3), 0),
        ((1, 2, 1, 3), -2),
        ((1, 2, 1, 3), 1),
        ((1, 2, 1, 3), [0, 2]),
        ((1, 2, 1, 3), [0, 1, -2]),
        ((1, 2, 1, 3), []),
        ((), 0),
        ((1, 0), 0),
    ):
        rec.case("squeeze", t(*shape), dim)
    rec.case("squeeze", t(1, 3, dtype="i64"), 0)
    rec.refuse("squeeze", t(1, 2), 2)
    rec.refuse("squeeze", t(1, 2), -3)
    rec.refuse("squeeze", t(1, 2), [0, -2])
    for shape, dim in (
        ((), 0),
        ((), -1),
        ((3,), 0),
        ((3,), 1),
        ((2, 3), -1),
        ((2, 3), -3),
        ((2, 3), 1),
        ((2, 0), 2),
        ((2, 1, 2, 3), -2),
    ):
        rec.case("unsqueeze", t(*shape), dim)
    rec.case("unsqueeze", t(3, dtype="u8"), -1)
    rec.refuse("unsqueeze", t(2, 3), 3)
    rec.refuse("unsqueeze", t(2, 3), -4)
    rec.refuse("unsqueeze", t(2, 3))


def expansions(rec: Recorder):
    """`expand` and `repeat`, with sizes as a list and as numbers."""
    for shape, sizes in (
        ((3,), [2, 3]),
        ((1, 3), [2, 3]),
        ((1, 3), [2, -1]),
        ((2, 1, 3), [-1, 4, -1]),
        ((2, 1), [3, 2, 2]),
        ((), [2, 2]),
        ((), []),
        ((1,), [0]),
        ((2, 3), [2, 3]),
        ((0, 1), [0, 3]),
        ((1, 2, 1), [2, 1, 2, 2, 3]),
    ):
        rec.case("expand", t(*shape), sizes)
    rec.case("expand", t(1, 3), 2, 3)
    rec.case("expand", t(1, 3), 4, -1, 3)
    rec.case("expand", t(3, 1, dtype="i64"), 3, 2)
    for sizes in ([3], [2, 4], [-1, 2, 3], [3, 3], [2, -2], [2, 0]):
        rec.refuse("expand", t(2, 3), sizes)
    for shape, counts in (
        ((3,), [2]),
        ((3,), [2, 2]),
        ((2, 3), [1, 2]),
        ((2, 3), [2, 1, 2]),
        ((2, 3), [0, 2]),
        ((), [3]),
        ((), []),
        ((2, 0), [2, 3]),
        ((1, 2, 1), [2, 2, 1, 3]),
    ):
        rec.case("repeat", t(*shape), counts)
    rec.case("repeat", t(2, 3), 2, 2)
    rec.case("repeat", t(2), 3, 1, 2)
    rec.case("repeat", t(2, 2, dtype="bool"), 1, 2)
    for counts in ([2], [2, -1], [], [-2, 0]):
        rec.refuse("repeat", t(2, 3), counts)


def joins(rec: Recorder):
    """`cat` and `stack`, with the tensors as one list and one by one."""
    for dim, *shapes in (
        (0, (2, 3), (1, 3)),
        (1, (2, 3), (2, 1), (2, 2)),
        (-1, (2, 1, 3), (2, 1, 2)),
        (-3, (1, 2, 2), (2, 2, 2)),
        (0, (3,)),
        (0, (3,), (0,)),
        (1, (2, 0), (2, 3)),
        # PyTorch lets an empty vector stand beside anything
        (1, (2, 3), (0,)),
    ):
        rec.case("cat", [t(*shape, seed=i) for i, shape in enumerate(shapes)], dim)
    rec.case("cat", [t(2), t(3)])
    rec.case("cat", t(2), t(3, seed=1))
    rec.case("cat", t(2, 2), t(2, 1), dim=-1)
    rec.case("cat", [t(2, 2), t(2, 2)], 1)
    for left, right in (("f32", "f64"), ("f16", "bf16"), ("i64", "f16"), ("u8", "bool"), ("bool", "bool")):
        rec.case("cat", [t(2, dtype=left), t(3, dtype=right)])
    for dim, *shapes in (
        (0, (2, 3), (2, 2)),
        (1, (2, 3), (1, 3)),
        (2, (2, 3), (2, 3)),
        (-3, (2, 3), (2, 3)),
        (0, (2, 3), (3,)),
        (0, (), ()),
        (0,),
    ):
        rec.refuse("cat", [t(*shape, seed=i) for i, shape in enumerate(shapes)], dim)
    for dim, *shapes in (
        (0, (2, 3), (2, 3)),
        (1, (2, 3), (2, 3), (2, 3)),
        (-1, (2, 3), (2, 3)),
        (-3, (2, 3), (2, 3)),
        (2, (2, 3), (2, 3)),
        (0, (), ()),
        (-1, (3,)),
        (1, (2, 0), (2, 0)),
    ):
        rec.case("stack", [t(*shape, seed=i) for i, shape in enumerate(shapes)], dim)
    rec.case("stack", [t(2), t(2, seed=1)])
    rec.case("stack", t(2), t(2, seed=1), dim=-1)
    for left, right in (("f32", "f64"), ("i64", "f16"), ("u8", "i64")):
        rec.case("stack", [t(2, dtype=left), t(2, dtype=right)])
    for dim, *shapes in ((0, (2, 3), (3,)), (0, (2,), (1,)), (3, (2, 3), (2, 3)), (-4, (2, 3)), (0,)):
        rec.refuse("stack", [t(*shape, seed=i) for i, shape in enumerate(shapes)], dim)


def splits(rec: Recorder):
    """`split` into equal parts and into given ones."""
    for shape, parts, dim in (
        ((6,), 2, 0),
        ((5,), 2, 0),
        ((2, 3), 1, -1),
        ((2, 3), 5, 1),
        ((5, 2), [1, 4], 0),
        ((2, 5), [2, 0, 3], 1),
        ((2, 3, 4), [1, 3], -1),
        ((2, 0), 1, 1),
        ((2, 0), 0, 1),
        ((1, 2, 1, 3, 2), [2, 1], 3),
    ):
        rec.case("split", t(*shape), parts, dim)
    rec.case("split", t(4, 2), 3)
    rec.case("split", t(4, dtype="i64"), [3, 1])
    for shape, parts, dim in (
        ((5,), 0, 0),
        ((5,), -1, 0),
        ((5,), [2, 2], 0),
        ((5,), [6, -1], 0),
        ((2, 3), 1, 2),
        ((), 1, 0),
    ):
        rec.refuse("split", t(*shape), parts, dim)


def indexed(rec: Recorder):
    """`index_select` and `gather`."""
    for shape, dim, index in (
        ((5,), 0, [4, 0, 0]),
        ((2, 3), 1, [2, 1]),
        ((2, 3), -2, [1, 1, 0]),
        ((2, 3, 4), 1, [0]),
        ((2, 3, 4), -1, [3, 3, 1, 0]),
        ((2, 3), 0, []),
        ((1, 2, 1, 3, 2), 3, [2, 0]),
    ):
        rec.case("index_select", t(*shape), dim, x(index, "i64"))
    rec.case("index_select", t(3), 0, x(1, "i64"))
    for dtype in WHOLE:
        rec.case("index_select", t(4, dtype=dtype), 0, x([3, 1], "i64"))
    rec.refuse("index_select", t(2, 3), 1, x([3], "i64"), by_value=True)
    rec.refuse("index_select", t(2, 3), 1, x([-1], "i64"), by_value=True)
    rec.refuse("index_select", t(2, 3), 2, x([0], "i64"))
    rec.refuse("index_select", t(2, 3), 1, x([[0]], "i64"))
    rec.refuse("index_select", t(2, 3), 1, x([0.0]))
    rec.refuse("index_select", t(2, 3), 1, x([0], "u8"))
    for shape, dim, picks in (
        ((5,), 0, (3,)),
        ((2, 3), 1, (2, 2)),
        ((2, 3), 0, (1, 3)),
        ((2, 3), -1, (1, 4)),
        ((2, 3, 4), 1, (2, 5, 4)),
        ((2, 3, 4), -3, (4, 1, 2)),
        ((3, 4), 0, (0, 4)),
        ((), 0, ()),
        ((1, 2, 1, 3, 2), 3, (1, 2, 1, 2, 1)),
    ):
        below = shape[dim] if shape else 1
        rec.case("gather", t(*shape), dim, ints(*picks, below=below))
    rec.case("gather", t(2, 3, dtype="i64"), 1, ints(2, 1, below=3))
    rec.case("gather", t(2, 3, dtype="bf16"), 1, ints(2, 4, below=3))
    rec.refuse("gather", t(2, 3), 1, ints(3, 1, below=3))
    rec.refuse("gather", t(2, 3), 1, ints(2, below=3))
    rec.refuse("gather", t(2, 3), 2, ints(2, 1, below=3))
    rec.refuse("gather", t(2, 3), 1, t(2, 1))
    rec.refuse("gather", t(2, 3), 1, x([[3], [0]], "i64"), by_value=True)
    rec.refuse("gather", t(2, 3), 1, x([[-1], [0]], "i64"), by_value=True)


def scattered(rec: Recorder):
    """`scatter_add`."""
    for shape, dim, picks, source in (
        ((5,), 0, (3,), (3,)),
        ((5,), 0, (3,), (4,)),
        ((2, 3), 1, (2, 5), (2, 5)),
        ((2, 3), 0, (4, 2), (4, 3)),
        ((2, 3), -1, (1, 2), (2, 3)),
        ((2, 3, 4), 1, (2, 2, 3), (2, 3, 4)),
        ((3, 4), 0, (0, 4), (2, 4)),
        ((), 0, (), ()),
        ((1, 2, 1, 3, 2), -2, (1, 1, 1, 4, 2), (1, 2, 1, 4, 2)),
    ):
        below = shape[dim] if shape else 1
        values = t(*source, seed=1)
        # PyTorch has no gradient for a source larger than the index
        still = [values] if picks != source else []
        rec.case("scatter_add", t(*shape), dim, ints(*picks, below=below), values, still=still)
    for dtype in ("f64", "f16", "i64", "u8"):
        rec.case("scatter_add", t(4, dtype=dtype), 0, x([1, 3, 0], "i64"), t(3, dtype=dtype, seed=1))
    rec.refuse("scatter_add", t(2, 3), 1, ints(2, 4, below=3), t(2, 3))
    rec.refuse("scatter_add", t(2, 3), 1, ints(3, 1, below=3), t(3, 1))
    rec.refuse("scatter_add", t(2, 3), 1, ints(2, below=3), t(2, 3))
    rec.refuse("scatter_add", t(2, 3), 2, ints(2, 1, below=3), t(2, 3))
    rec.refuse("scatter_add", t(2, 3), 1, ints(2, 1, below=3), t(2, 1, dtype="f64"))
    rec.refuse("scatter_add", t(2, 3), 1, t(2, 1), t(2, 1))
    rec.refuse("scatter_add", t(2, 3), 1, x([[0], [3]], "i64"), t(2, 1), by_value=True)


def masks(rec: Recorder):
    """`masked_fill`."""
    for shape, mask, value in (
        ((2, 3), (2, 3), 0),
        ((2, 3), (3,), -1.5),
        ((2, 3), (2, 1), -INF),
        ((2, 3, 4), (3, 1), NAN),
        ((), (), 2.0),
        ((2, 0), (2, 1), 1),
        ((1, 2, 1, 3, 2), (2, 1, 1, 2), 7),
        # PyTorch widens the input as well
        ((3,), (2, 3), 5.0),
    ):
        rec.case("masked_fill", t(*shape), t(*mask, dtype="bool"), value)
    rec.case("masked_fill", t(2, 3), t(2, 3, dtype="bool"), t(seed=1))
    rec.case("masked_fill", t(2, 3), t(2, 3, dtype="bool"), x(2, "i64"))
    for dtype, value in (("f16", 0.5), ("bf16", -INF), ("f64", 0.1), ("i64", 3), ("u8", 9), ("bool", True)):
        rec.case("masked_fill", t(4, dtype=dtype), t(4, dtype="bool", seed=1), value)
    rec.refuse("masked_fill", t(2, 3), t(2, dtype="bool"), 0)
    rec.refuse("masked_fill", t(2, 3), t(2, 3), 0)
    rec.refuse("masked_fill", t(2, 3), t(2, 3, dtype="i64"), 0)
    rec.refuse("masked_fill", t(2, 3), t(2, 3, dtype="bool"), t(2))
    rec.refuse("masked_fill", t(2, 3), t(2, 3, dtype="bool"))


def triangles(rec: Recorder):
    """`tril` and `triu`."""
    for name in ("tril", "triu"):
        rec.case(name, t(3, 3))
        for shape, diagonal in (
            ((3, 4), 1),
            ((4, 3), -1),
            ((2, 3, 3), 0),
            ((2, 2, 2, 3), -2),
            ((2, 3), 9),
            ((2, 3), -9),
            ((0, 3), 0),
            ((1, 2, 1, 3, 2), -1),
        ):
            rec.case(name, t(*shape), diagonal)
        for dtype in ("f16", *WHOLE):
            rec.case(name, t(3, 3, dtype=dtype))
        rec.case(name, x([[1.0, NAN], [INF, 2.0]]))
        rec.refuse(name, t(3))
        rec.refuse(name, t())
