"""Cases of the products: `matmul`, `einsum`, `dot`, `outer`."""

from recorder import Recorder
from values import INF, t, x


def everything(rec: Recorder):
    """All of them."""
    matmul(rec)
    einsum(rec)
    einsum_refusals(rec)
    vectors(rec)


def matmul(rec: Recorder):
    """Every rule of ranks."""
    for left, right in (
        ((4,), (4,)),
        ((4,), (4, 3)),
        ((2, 4), (4,)),
        ((2, 4), (4, 3)),
        ((1, 4), (4, 1)),
        ((4,), (2, 4, 3)),
        ((2, 3, 4), (4,)),
        ((2, 3, 4), (4, 5)),
        ((3, 4), (2, 4, 2)),
        ((2, 3, 4), (2, 4, 2)),
        ((1, 3, 4), (2, 4, 2)),
        ((2, 1, 2, 3), (3, 3, 2)),
        ((2, 2, 2, 3), (2, 2, 3, 2)),
        ((2, 1, 1, 2, 3), (1, 2, 1, 3, 2)),
        ((4,), (1, 2, 4, 1)),
        ((2, 3, 2, 4), (4,)),
        ((0, 4), (4, 3)),
        ((2, 0), (0, 3)),
        ((0,), (0,)),
        ((2, 0, 3), (3, 4)),
    ):
        rec.case("matmul", t(*left), t(*right, seed=1))
    rec.case("matmul", t(20, 30), t(30, 10, seed=1))
    for dtype in ("f64", "f16", "bf16", "i64", "u8"):
        rec.case("matmul", t(2, 3, dtype=dtype), t(3, 2, dtype=dtype, seed=1))
        rec.case("matmul", t(2, 2, 3, dtype=dtype), t(3, dtype=dtype, seed=1))
    rec.case("matmul", t(3, 3), t(3, 3))
    rec.case("matmul", x([[INF, 1.0], [0.0, 2.0]]), x([[0.0, 1.0], [1.0, -INF]]))
    for left, right in (
        ((), (3,)),
        ((3,), ()),
        ((3,), (4,)),
        ((2, 3), (2, 3)),
        ((2, 3), (2,)),
        ((2,), (3, 2)),
        ((2, 2, 3), (3, 3, 2)),
        ((2, 2, 3), (2, 2, 3)),
    ):
        rec.refuse("matmul", t(*left), t(*right, seed=1))
    rec.refuse("matmul", t(2, 3), t(3, 2, dtype="f64"))
    rec.refuse("matmul", t(2, 3, dtype="i64"), t(3, 2))


def einsum(rec: Recorder):
    """Contractions, diagonals, ellipses, outputs left out."""
    for equation, *shapes in (
        ("ij,jk->ik", (2, 3), (3, 4)),
        ("ij,jk", (2, 3), (3, 4)),
        ("ba,cb", (2, 3), (4, 2)),
        ("ij,jk->ki", (2, 3), (3, 4)),
        ("ij,kj->", (2, 3), (4, 3)),
        ("i,j->ij", (2,), (3,)),
        ("i,i->", (4,), (4,)),
        ("i,i", (4,), (4,)),
        ("i->", (4,)),
        ("i->i", (4,)),
        ("ij->ji", (2, 3)),
        ("ba", (2, 3)),
        ("ij->j", (2, 3)),
        ("ii->i", (3, 3)),
        ("ii->", (3, 3)),
        ("ii", (3, 3)),
        ("iij->ij", (2, 2, 3)),
        ("iji->j", (2, 3, 2)),
        ("ii,i->i", (3, 3), (3,)),
        ("ii,ij->j", (3, 3), (3, 2)),
        ("iji,kk->jk", (2, 3, 2), (2, 2)),
        ("...ij->...ji", (2, 1, 3, 2)),
        ("...i,i->...", (2, 3, 4), (4,)),
        ("...ij,...jk->...ik", (2, 1, 2, 3), (3, 3, 2)),
        ("...ij,...jk", (2, 2, 3), (3, 2)),
        ("i...,i->...", (3, 2), (3,)),
        ("i...j,j->i...", (2, 2, 3), (3,)),
        ("...,...->...", (2, 3), (3,)),
        ("...->...", (2, 3)),
        ("...i->i", (2, 2, 3)),
        ("...i->i...", (2, 2, 3)),
        ("...ii->...i", (2, 3, 3)),
        ("b...,b->", (2, 3), (2,)),
        ("bhqd,bhkd->bhqk", (1, 2, 2, 3), (1, 2, 3, 3)),
        ("bhqk,bhkd->bqhd", (1, 2, 2, 3), (1, 2, 3, 2)),
        ("ij,jk,kl->il", (2, 3), (3, 2), (2, 2)),
        ("i,j,k->ijk", (2,), (3,), (2,)),
        ("bi,oij,bj->bo", (2, 3), (2, 3, 2), (2, 2)),
        ("ij,ij,ij->i", (2, 3), (2, 3), (2, 3)),
        ("a,ab,b,c->c", (2,), (2, 3), (3,), (2,)),
        (" i j , j k -> i k ", (2, 3), (3, 4)),
        ("ij,jk->ik", (2, 1), (3, 4)),
        ("ij,jk->ijk", (2, 1), (3, 4)),
        ("ij,ij->ij", (1, 3), (2, 3)),
        ("Aa,aB->AB", (2, 3), (3, 2)),
        ("aB,Bc", (2, 3), (3, 2)),
        (",->", (), ()),
        ("i,->i", (3,), ()),
        ("->", ()),
        ("ij,jk->ik", (2, 0), (0, 3)),
        ("ij->i", (0, 3)),
        ("ij,j->i", (1, 1), (1,)),
    ):
        rec.case("einsum", equation, *(t(*shape, seed=i) for i, shape in enumerate(shapes)))
    rec.case("einsum", "ij,jk->ik", [t(2, 3), t(3, 4, seed=1)])
    rec.case("einsum", "ij,kj->ik", t(2, 3), t(2, 3))
    for dtype in ("f64", "f16", "bf16", "i64"):
        rec.case("einsum", "bij,jk->bik", t(2, 2, 3, dtype=dtype), t(3, 2, dtype=dtype, seed=1))
    rec.case("einsum", "ii->i", t(3, 3, dtype="i64"))


def einsum_refusals(rec: Recorder):
    """Equations that mean nothing, and shapes that do not follow them."""
    for equation, *shapes in (
        ("ij,jk->ik", (2, 3), (4, 2)),
        ("ij,jk->ik", (2, 3)),
        ("ij->ji", (2, 3), (2, 3)),
        ("ijk->i", (2, 3)),
        ("i->i", (2, 3)),
        ("ij->ik", (2, 3)),
        ("ij->iji", (2, 3)),
        ("ii->i", (2, 3)),
        ("i1->i", (2, 3)),
        ("ij-i", (2, 3)),
        ("ij->i->j", (2, 3)),
        ("..ij->ij", (2, 3)),
        ("...i...->i", (2, 3)),
        ("i->...i...", (3,)),
        ("ij->i.j", (2, 3)),
        ("", (2, 3)),
        ("ij;jk", (2, 3), (3, 2)),
        ("...i,...i->...i", (2, 3), (4, 3)),
        ("ij>i", (2, 3)),
    ):
        rec.refuse("einsum", equation, *(t(*shape, seed=i) for i, shape in enumerate(shapes)))
    rec.refuse("einsum", "ij,jk->ik")
    rec.refuse("einsum", "ij,jk->ik", t(2, 3), t(3, 2, dtype="f64"))


def vectors(rec: Recorder):
    """`dot` and `outer`."""
    for size in (1, 3, 5, 17, 0):
        rec.case("dot", t(size), t(size, seed=1))
    for dtype in ("f64", "f16", "bf16", "i64", "u8"):
        rec.case("dot", t(4, dtype=dtype), t(4, dtype=dtype, seed=1))
    rec.case("dot", t(4), t(4))
    rec.case("dot", x([INF, 1.0]), x([0.0, 1.0]))
    rec.refuse("dot", t(3), t(4))
    rec.refuse("dot", t(2, 3), t(3))
    rec.refuse("dot", t(), t(3))
    rec.refuse("dot", t(1), t(3))
    rec.refuse("dot", t(3), t(3, dtype="f64"))
    for left, right in ((1, 1), (3, 2), (2, 5), (0, 3)):
        rec.case("outer", t(left), t(right, seed=1))
    for left, right in (
        ("f64", "f64"),
        ("f16", "f16"),
        ("bf16", "f32"),
        ("i64", "f32"),
        ("u8", "i64"),
        ("bool", "i64"),
    ):
        rec.case("outer", t(3, dtype=left), t(2, dtype=right, seed=1))
    rec.case("outer", t(3), t(3))
    rec.refuse("outer", t(2, 3), t(3))
    rec.refuse("outer", t(3), t())
