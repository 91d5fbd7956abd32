"""Cases of the ops that work element by element: arithmetic, functions of one number, comparisons, `where`."""

from recorder import Recorder
from values import INF, NAN, SPECIAL, ints, positive, t, x

SHAPES = [(), (1,), (5,), (2, 3), (3, 1, 4), (2, 0, 3), (2, 1, 2, 3), (1, 2, 1, 3, 2)]
PAIRS = [
    ((), ()),
    ((4,), ()),
    ((), (2, 3)),
    ((2, 3), (2, 3)),
    ((2, 3), (3,)),
    ((2, 1, 4), (3, 1)),
    ((1,), (3, 2)),
    ((2, 0), (1,)),
    ((1, 2, 1, 2, 3), (2, 1, 1)),
]
MIXED = [
    (("f32", (2, 3)), ("f64", (3,))),
    (("f16", (2, 3)), ("bf16", (2, 3))),
    (("f16", (4,)), ("f32", (4,))),
    (("bf16", (3,)), ("bf16", (2, 1))),
    (("i64", (2, 3)), ("f16", (3,))),
    (("u8", (4,)), ("i64", (4,))),
    (("u8", (4,)), ("u8", (4,))),
    (("i64", (2, 3)), ("i64", (3,))),
    (("f64", (2, 2)), ("f64", (2,))),
    # a tensor without axes counts less than one with axes, unless it is of a higher kind
    (("f32", (3,)), ("f64", ())),
    (("i64", (3,)), ("f32", ())),
    (("u8", (3,)), ("i64", ())),
    (("f16", ()), ("f32", (3,))),
]
LARGEST = 2**63 - 1
SPECIALS = (x([INF, -INF, NAN, 0.0, -0.0, 1.0, INF, 0.0]), x([1.0, INF, 2.0, 0.0, 0.0, NAN, INF, -3.0]))


def everything(rec: Recorder):
    """All of them."""
    real_functions(rec)
    whole_functions(rec)
    gates(rec)
    arithmetic(rec)
    division(rec)
    powers(rec)
    larger_and_smaller(rec)
    clamps(rec)
    comparisons(rec)
    logic(rec)
    where(rec)


def real_functions(rec: Recorder):
    """Functions whose values are real: integers become f32."""
    for i, name in enumerate("exp log sqrt rsqrt sin cos tanh sigmoid".split()):
        draw = positive if name in ("log", "sqrt", "rsqrt") else t
        for shape in (SHAPES[i % 2], SHAPES[2 + i % 2], SHAPES[4 + i % 2], SHAPES[6 + i % 2]):
            rec.case(name, draw(*shape))
        for dtype in ("f64", "f16", "bf16"):
            rec.case(name, draw(4, dtype=dtype))
        rec.case(name, t(5, dtype="i64"))
        rec.case(name, t(3, dtype="u8"))
        rec.case(name, t(3, dtype="bool"))
        rec.case(name, x(SPECIAL))
    for name in ("log", "sqrt", "rsqrt"):
        rec.case(name, x([0.0, -1.0, 1e-30, 4.0]))
    rec.case("exp", x([88.0, 89.0, -87.0, -104.0]))
    rec.case("exp", x([10.0, 12.0, -20.0], "f16"))
    rec.case("sigmoid", x([88.0, -88.0, 200.0, -200.0]))
    rec.case("tanh", x([1e-4, -8.0, 9.5]))


def whole_functions(rec: Recorder):
    """Functions that keep the type, and `relu` with its kink."""
    for i, name in enumerate("neg abs floor round sign relu".split()):
        for shape in (SHAPES[i % 2], SHAPES[3 + i % 2], SHAPES[5], SHAPES[6 + i % 2]):
            rec.case(name, t(*shape))
        for dtype in ("f64", "f16", "bf16", "i64", "u8"):
            rec.case(name, t(6, dtype=dtype))
        rec.case(name, x([0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 0.0, -0.0, 3.0]))
        rec.case(name, x(SPECIAL))
    for name in ("neg", "relu"):
        rec.refuse(name, t(3, dtype="bool"))
    rec.case("sign", t(3, dtype="bool"))
    rec.case("neg", x([0, 1, 255, 128], "u8"))
    rec.case("abs", x([-7, 0, 7, -LARGEST - 1], "i64"))
    rec.case("neg", x([-7, 0, 7, -LARGEST - 1], "i64"))
    rec.case("round", x([8388609.5, 4503.5, -4502.5]))
    rec.case("round", x([0.5, 2.5, 1e15 + 0.5], "f64"))
    rec.case("round", x([1.26, -3.14, 7.75]), decimals=1)
    rec.case("round", x([1250.0, -49.0, 150.0]), decimals=-2)


def gates(rec: Recorder):
    """`gelu` and `silu`, which take floats only."""
    for name in ("gelu", "silu"):
        for shape in SHAPES:
            rec.case(name, t(*shape))
        for dtype in ("f64", "f16", "bf16"):
            rec.case(name, t(6, dtype=dtype))
        rec.refuse(name, t(3, dtype="i64"))
    for dtype in ("f32", "f64", "f16"):
        rec.case("gelu", t(6, dtype=dtype), approximate="tanh")
    rec.case("gelu", t(2, 3), approximate="none")
    rec.case("silu", x(SPECIAL))
    # of infinity PyTorch makes NaN or infinity, as its vector registers fall
    rec.case("gelu", x(SPECIAL[2:]))
    rec.case("gelu", x(SPECIAL[2:]), approximate="tanh")
    rec.refuse("gelu", t(3), approximate="erf")


def arithmetic(rec: Recorder):
    """`add`, `sub` and `mul`."""
    for name in ("add", "sub", "mul"):
        for left, right in PAIRS:
            rec.case(name, t(*left), t(*right, seed=1))
        for (dtype, shape), (other, beside) in MIXED:
            rec.case(name, t(*shape, dtype=dtype), t(*beside, dtype=other, seed=1))
        rec.case(name, t(2, 3), 2)
        rec.case(name, t(2, 3), -0.75)
        rec.case(name, 1.5, t(2, 3))
        rec.case(name, 3, t(4, dtype="i64"))
        rec.case(name, t(4, dtype="i64"), 0.5)
        rec.case(name, t(4, dtype="u8"), 250)
        rec.case(name, t(4, dtype="f16"), 1.5)
        rec.case(name, t(4, dtype="bf16"), 2)
        rec.case(name, t(dtype="f16"), 1.25)
        rec.case(name, *SPECIALS)
        rec.case(name, t(3), t(3))
        rec.refuse(name, t(2, 3), t(2, seed=1))
        rec.refuse(name, t(4), t(2, 3))
    for name in ("add", "mul"):
        rec.case(name, t(4, dtype="bool"), t(4, dtype="bool", seed=1))
        rec.case(name, t(4, dtype="bool"), t(4, dtype="u8"))
        rec.case(name, t(4, dtype="bool"), 2)
        rec.case(name, t(4, dtype="bool"), 0.5)
        rec.case(name, t(4, dtype="bool"), True)
        rec.case(name, t(4, dtype="i64"), True)
    for left, right in (("bool", "bool"), ("bool", "i64"), ("i64", "bool")):
        rec.refuse("sub", t(2, dtype=left), t(2, dtype=right))
    for name in ("add", "sub"):
        rec.case(name, t(2, 3), t(3, seed=1), alpha=2)
        rec.case(name, t(2, 3), t(3, seed=1), alpha=-0.5)
        rec.case(name, t(4, dtype="i64"), t(4, dtype="i64", seed=1), alpha=3)
        rec.case(name, t(4), 2, alpha=0.5)
        rec.case(name, t(4, dtype="f16"), t(4, dtype="f16", seed=1), alpha=2)
        rec.refuse(name, t(4, dtype="i64"), t(4, dtype="i64", seed=1), alpha=1.5)
    for name, values in (("add", [LARGEST, -LARGEST]), ("sub", [-LARGEST, LARGEST]), ("mul", [LARGEST, 2**62])):
        rec.case(name, x(values, "i64"), x([3, 2], "i64"))
    rec.case("mul", x([1e30, -1e30, 1e-30]), x([1e10, 1e10, 1e-30]))
    rec.case("sub", x([0, 3, 200], "u8"), x([1, 3, 250], "u8"))


def division(rec: Recorder):
    """`div` and its rounding."""
    for left, right in PAIRS:
        rec.case("div", t(*left), positive(*right))
    for (dtype, shape), (other, beside) in MIXED:
        rec.case("div", t(*shape, dtype=dtype), t(*beside, dtype=other, seed=1))
    rec.case("div", t(3), t(3))
    rec.case("div", 1.5, positive(2, 3))
    rec.case("div", 3, ints(4, low=1, below=6))
    rec.case("div", t(4, dtype="i64"), 2)
    rec.case("div", t(4, dtype="bool"), 2)
    rec.case("div", t(4, dtype="f16"), 4)
    rec.case("div", *SPECIALS)
    rec.case("div", x([1.0, -1.0, 0.0]), 0)
    left, right = x([7.0, -7.0, 7.0, -7.0, 6.0, -6.0, 0.5, -0.5]), x([2.0, 2.0, -2.0, -2.0, 3.0, 3.0, 2.0, 2.0])
    for mode in ("floor", "trunc"):
        rec.case("div", left, right, rounding_mode=mode)
        rec.case("div", left.long(), right.long(), rounding_mode=mode)
        rec.case("div", left.abs().byte(), right.abs().byte(), rounding_mode=mode)
        rec.case("div", left.double(), right[:4].double()[:, None], rounding_mode=mode)
        rec.case("div", t(6, dtype="i64"), -4, rounding_mode=mode)
        rec.case("div", t(2, 3), 0.5, rounding_mode=mode)
        rec.case("div", *SPECIALS, rounding_mode=mode)
        rec.refuse("div", x([1, 2], "i64"), x([1, 0], "i64"), rounding_mode=mode, by_value=True)
    rec.refuse("div", t(3), t(3), rounding_mode="up")
    rec.refuse("div", t(2, 3), t(3, 2))


def powers(rec: Recorder):
    """`pow`: tensors and numbers on either side."""
    for left, right in PAIRS:
        rec.case("pow", positive(*left), t(*right, seed=1))
    for exponent in (2, 3, 0, 1, -1, -2, 0.5, -0.5, 2.0, 2.5):
        rec.case("pow", x([-2.0, -0.5, 0.0, 1.5, 3.0]), exponent)
    for base in (2, 0.5, 0, -2.0, 1):
        rec.case("pow", base, x([2.0, -1.0, 0.0, 3.0]))
    rec.case("pow", 2, x([0, 1, 5], "i64"))
    rec.case("pow", 2.5, x([0, 1, 5], "i64"))
    rec.case("pow", x([-2.0, -2.0, 0.0, 0.0, 0.0, 3.0]), x([3.0, 0.5, 0.0, 2.0, -1.0, -2.0]))
    rec.case("pow", *SPECIALS)
    rec.case("pow", x([-3, 0, 2, 5], "i64"), 3)
    rec.case("pow", x([-3, 0, 2, 5], "i64"), 0.5)
    rec.case("pow", x([-3, 0, 2, 5], "i64"), x([3, 0, 10, 1], "i64"))
    rec.case("pow", x([1, 2, 3], "u8"), x([6, 7, 5], "u8"))
    rec.case("pow", x([10, -3, 2], "i64"), x([30, 41, 64], "i64"))
    rec.case("pow", x([1, -1, 2], "i64"), x([-1, -3, -2], "i64"))
    rec.case("pow", x([1, 4, 9], "u8"), 2.5)
    rec.case("pow", t(3, dtype="bool"), 2)
    rec.case("pow", positive(4, dtype="f64"), 1.7)
    rec.case("pow", positive(4, dtype="f16"), 2)
    rec.case("pow", positive(4, dtype="bf16"), x([2.0, 1.0, 0.5, 0.0], "bf16"))
    rec.case("pow", positive(4), x([2, 1, -1, 0], "i64"))
    rec.refuse("pow", x([1, 2], "i64"), -1)
    rec.refuse("pow", t(2, 3), t(2))


def larger_and_smaller(rec: Recorder):
    """`maximum` and `minimum`; ties share the gradient."""
    for name in ("maximum", "minimum"):
        for left, right in PAIRS:
            rec.case(name, t(*left), t(*right, seed=1))
        for (dtype, shape), (other, beside) in MIXED:
            rec.case(name, t(*shape, dtype=dtype), t(*beside, dtype=other, seed=1))
        rec.case(name, x([1.0, 2.0, 2.0, -0.0]), x([1.0, 2.0, 3.0, 0.0]))
        rec.case(name, x([1.0, 2.0, 3.0]), 2)
        rec.case(name, t(2, 3), 0.25)
        rec.case(name, t(4, dtype="bool"), t(4, dtype="bool", seed=1))
        rec.case(name, *SPECIALS)
        rec.refuse(name, t(2, 3), t(2))


def clamps(rec: Recorder):
    """`clamp`, with numbers and tensors for bounds."""
    for i, shape in enumerate(SHAPES):
        rec.case("clamp", t(*shape), (-1, -0.5, -2.0)[i % 3], (1, 0.75)[i % 2])
    for dtype in ("f64", "f16", "bf16"):
        rec.case("clamp", t(6, dtype=dtype), -0.5, 1)
    rec.case("clamp", t(2, 3), min=0)
    rec.case("clamp", t(2, 3), max=0.5)
    rec.case("clamp", t(2, 3), None, 1)
    rec.case("clamp", x([-2.0, -1.0, 0.0, 1.0, 2.0]), -1, 1)
    rec.case("clamp", x([-2.0, 0.0, 2.0]), 1, -1)
    rec.case("clamp", x(SPECIAL), -5, 5)
    rec.case("clamp", t(4), -INF, 0.5)
    rec.case("clamp", t(4), NAN, 0.5)
    rec.case("clamp", t(6, dtype="i64"), -2, 3)
    rec.case("clamp", t(6, dtype="i64"), 0.5)
    rec.case("clamp", t(6, dtype="u8"), 2, 5)
    rec.case("clamp", t(2, 3), t(3, seed=1), t(2, 1, seed=2))
    rec.case("clamp", t(2, 3), min=t(3, seed=1))
    rec.case("clamp", t(3), max=t(2, 3, seed=1))
    rec.case("clamp", x([1.0, 1.0, 2.0]), x([1.0, 0.0, 3.0]), x([1.0, 1.0, 2.0]))
    rec.refuse("clamp", t(3))
    rec.refuse("clamp", t(2, 3), t(2), t(3))


def comparisons(rec: Recorder):
    """The six comparisons."""
    for i, name in enumerate("eq ne lt le gt ge".split()):
        for left, right in (PAIRS[i], PAIRS[(i + 2) % 9], PAIRS[(i + 4) % 9]):
            rec.case(name, t(*left, dtype="i64"), t(*right, dtype="i64", seed=1))
        for (dtype, shape), (other, beside) in MIXED[i % 2 :: 2]:
            rec.case(name, t(*shape, dtype=dtype), t(*beside, dtype=other, seed=1))
        rec.case(name, x([1.0, 2.0, 3.0, NAN, INF, -INF, 0.0]), x([1.0, 3.0, 2.0, NAN, INF, INF, -0.0]))
        rec.case(name, t(4, dtype="bool"), t(4, dtype="bool", seed=1))
        rec.case(name, x([1.0, 2.0, 3.0]), 2)
        rec.case(name, 2, x([1, 2, 3], "i64"))
        rec.case(name, x([1, 2, 3], "i64"), 1.5)
        rec.case(name, x([0.1, 0.2, 0.3]), 0.2)
        rec.case(name, x([0.1, 0.2, 0.3]), x([0.1, 0.2, 0.3], "f64"))
        rec.case(name, x([0, 2, 255], "u8"), -1)
        rec.case(name, x([0.0, 1.0, 2.0]), True)
        rec.refuse(name, t(2, 3), t(2, dtype="i64"))


def logic(rec: Recorder):
    """`logical_and`, `logical_or` and `logical_not`: everything but zero is true."""
    for name in ("logical_and", "logical_or"):
        for left, right in PAIRS:
            rec.case(name, t(*left, dtype="bool"), t(*right, dtype="bool", seed=1))
        for left, right in (("f32", "i64"), ("u8", "bool"), ("f16", "f64")):
            rec.case(name, t(2, 3, dtype=left), t(3, dtype=right, seed=1))
        rec.case(name, x([0.0, -0.0, NAN, INF, 0.5]), t(5, dtype="bool"))
        rec.case(name, t(4, dtype="bool"), 0)
        rec.case(name, t(4, dtype="i64"), 2.5)
        rec.refuse(name, t(2, 3, dtype="bool"), t(2, dtype="bool"))
    for shape in SHAPES[:6]:
        rec.case("logical_not", t(*shape, dtype="bool"))
    rec.case("logical_not", x([0.0, -0.0, NAN, INF, 0.5]))
    for dtype in ("i64", "u8", "f16", "bf16", "f64"):
        rec.case("logical_not", t(6, dtype=dtype))


def where(rec: Recorder):
    """`where` with tensors and numbers."""
    for left, right in PAIRS:
        rec.case("where", t(*right, dtype="bool", seed=3), t(*left), t(*right, seed=1))
    rec.case("where", t(2, 1, dtype="bool"), t(3), t(2, 3, seed=1))
    for (dtype, shape), (other, beside) in MIXED[::2]:
        rec.case("where", t(*shape, dtype="bool"), t(*shape, dtype=dtype), t(*beside, dtype=other, seed=1))
    mask = t(2, 3, dtype="bool")
    rec.case("where", mask, t(2, 3), 0)
    rec.case("where", mask, 1.5, t(2, 3))
    rec.case("where", mask, t(2, 3, dtype="f16"), -INF)
    rec.case("where", mask, t(2, 3, dtype="i64"), 2.5)
    rec.case("where", mask, 1, 0)
    rec.case("where", mask, 1.0, 0)
    rec.case("where", mask, True, 2)
    rec.case("where", x([True, False, True], "bool"), x([1.0, NAN, INF]), x([NAN, 2.0, 3.0]))
    rec.case("where", mask, t(3), t(3))
    rec.refuse("where", mask, t(2), t(2, 3))
    rec.refuse("where", t(2, 3), t(2, 3), t(2, 3))
    rec.refuse("where", t(2, 3, dtype="i64"), t(2, 3), 0)
