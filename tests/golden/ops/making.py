"""Cases of the ops that make tensors, and of `cast`, `detach` and `clone`."""

from recorder import Recorder
from values import DTYPES, INF, NAN, SPECIAL, ints, positive, t, x


def everything(rec: Recorder):
    """All of them."""
    constants(rec)
    ranges(rec)
    one_hots(rec)
    casts(rec)


def constants(rec: Recorder):
    """`zeros`, `ones`, `full` and `eye`."""
    for name in ("zeros", "ones"):
        for size in ([2, 3], [4], [], [2, 0]):
            rec.case(name, size)
        rec.case(name, 2, 3)
        rec.case(name, 3)
        for dtype in DTYPES:
            rec.case(name, [2], dtype=dtype)
        rec.refuse(name, [2, -1])
        rec.refuse(name, [1.5])
        rec.refuse(name, [2], dtype="f8")
    for size, value in (([2, 3], 1.5), ([4], 3), ([], 2.0), ([2, 0], 1), ([3], True), ([2], -INF), ([1, 1, 2], NAN)):
        rec.case("full", size, value)
    for dtype in DTYPES:
        rec.case("full", [2], 3, dtype=dtype)
    rec.refuse("full", [-2], 1.0)
    rec.refuse("full", [2])
    for n in (3, 1, 0):
        rec.case("eye", n)
    for n, m in ((2, 3), (3, 2), (2, 0)):
        rec.case("eye", n, m)
    for dtype in ("f64", "f16", "i64", "bool"):
        rec.case("eye", 2, dtype=dtype)
    rec.refuse("eye", -1)
    rec.refuse("eye", 2, -1)
    rec.refuse("eye", 1.5)


def ranges(rec: Recorder):
    """`arange`: whole numbers give i64, others f32."""
    for args in (
        (5,),
        (0,),
        (2, 6),
        (-2, 3),
        (0, 10, 3),
        (5, 0, -2),
        (3, 3),
        (2.5,),
        (0, 1, 0.25),
        (1.0, 4.0),
        (0.5, -1.0, -0.5),
        (0, 1, 0.1),
        (1, 2.0, 1),
    ):
        rec.case("arange", *args)
    rec.case("arange", start=1, end=7, step=2)
    rec.case("arange", end=4)
    for dtype in ("f64", "f16", "bf16", "u8", "i64", "f32"):
        rec.case("arange", 0, 6, 2, dtype=dtype)
    for args in ((5, 1), (0, 1, -1), (0, 1, 0), (-3,), (0, INF), (0, NAN)):
        rec.refuse("arange", *args)


def one_hots(rec: Recorder):
    """`one_hot` with the number of classes given: without it the shape would hang on the values."""
    for shape in ((), (1,), (4,), (2, 3), (2, 1, 2), (0,), (2, 0)):
        rec.case("one_hot", ints(*shape, below=3), 4)
    rec.case("one_hot", x([0, 0, 0], "i64"), 1)
    rec.case("one_hot", x([2, 0], "i64"), num_classes=3)
    rec.refuse("one_hot", t(3), 4)
    rec.refuse("one_hot", x([1, 0], "u8"), 4)
    rec.refuse("one_hot", x([0, 4], "i64"), 4, by_value=True)
    rec.refuse("one_hot", x([0, -1], "i64"), 4, by_value=True)


def casts(rec: Recorder):
    """`cast` from every type to every other, and `detach`."""
    values = x([0.0, 1.0, 2.5, 3.75, 100.0, 0.1], "f64")
    for source in DTYPES:
        for target in DTYPES:
            rec.case("cast", values.to(DTYPES[source]), target)
    rec.case("cast", x([-2.7, -0.5, 2.7, 1e6]), "i64")
    rec.case("cast", x([-1, 0, 255, 256, 300], "i64"), "u8")
    rec.case("cast", x(SPECIAL), "f16")
    rec.case("cast", x([NAN, INF, 0.0, -0.0, 1e-30]), "bool")
    rec.case("cast", x([65504.0, 65519.0, 65520.0, -1e6, 6e-8, 2e-8]), "f16")
    rec.case("cast", x([1.00390625, 1.01171875, 3.4e38, 1e-40]), "bf16")
    rec.case("cast", x([16777217, -16777219], "i64"), "f32")
    rec.case("cast", x([1e300, 1e-300, 0.1], "f64"), "f32")
    for shape in ((), (2, 3), (2, 0), (1, 2, 1, 3, 2)):
        rec.case("cast", t(*shape), "f64")
        rec.case("detach", t(*shape))
        rec.case("clone", t(*shape))
    for dtype in DTYPES:
        rec.case("detach", t(4, dtype=dtype))
        rec.case("clone", t(4, dtype=dtype))
    rec.case("detach", positive(3))
