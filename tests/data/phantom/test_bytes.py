"""The phantom is the same, byte for byte, on every processor: how it is drawn, what vector units do, what it was."""

import ast
import gzip
import hashlib
import math
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import sitelora.data.phantom
from sitelora.data.nifti import write_nifti
from sitelora.data.phantom.arithmetic import Draws, blur, cos, exp, power, rotation, sin, stretch
from sitelora.data.phantom.make import SITES, TINY, PhantomSize, draw_case, make_phantom
from vector_units import WITHOUT, printed_without

SOURCES = sorted(Path(sitelora.data.phantom.__path__[0]).glob("*.py"))
# What IEEE 754 fixes to the last bit and numpy does in a step of its own, and what only moves numbers.
ROUNDED_ALIKE = {"sqrt", "rint", "floor", "ceil", "abs", "maximum", "minimum", "clip", "round", "gradient", "frexp"}
ONLY_MOVED = {
    "arange", "array", "ascontiguousarray", "empty", "eye", "flatnonzero", "full", "isin", "meshgrid", "moveaxis",
    "pad", "stack", "take", "where", "zeros",
}  # fmt: skip
TYPES = {"float64", "int16", "int64", "ndarray", "uint64", "uint8"}
SHA256 = {
    "images": "1efe2bbcaf4d688eea75acb7bd47bbf82bc3d13d28e542495b251072ca4113d0",
    "labels": "b80c9b2ced33bd8665db39f8f2625314e6f056ec095c7d49d7229bbf4c0c0821",
}
DRAW = """
import hashlib
from sitelora.data.phantom.make import SITES, PhantomSize, draw_case
told = hashlib.sha256()
for site in SITES:
    for part in draw_case(site, 0, size=PhantomSize(matrix=48, slices=8)):
        told.update(part.tobytes())
print(told.hexdigest())
"""


def dotted(node: ast.expr) -> str:
    """Return ``a.b.c`` of an attribute, or an empty text."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_only_operations_are_used_whose_last_bit_is_fixed(source: Path) -> None:
    allowed = {f"np.{name}" for name in ROUNDED_ALIKE | ONLY_MOVED | TYPES} | {"np.random", "np.random.PCG64"}
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        where = f"{source.name}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Attribute) and dotted(node).startswith("np."):
            assert dotted(node) in allowed, f"{where}: {dotted(node)} may differ between processors"
        if isinstance(node, ast.Attribute):
            assert node.attr not in {"mean", "std", "dot", "prod", "cumsum", "var", "trace"}, where
        if isinstance(node, ast.Attribute) and dotted(node).startswith("math."):
            assert node.attr in {"pi", "ceil", "factorial"}, where
        if isinstance(node, ast.BinOp):
            assert not isinstance(node.op, ast.MatMult), f"{where}: a matrix product adds in an order of its own"
            if isinstance(node.op, ast.Pow):
                assert isinstance(node.left, ast.Constant | ast.UnaryOp), f"{where}: pow of an array"
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            assert not {str(name).split(".")[0] for name in names} & {"torch", "scipy"}, where


@pytest.mark.parametrize("without", WITHOUT)
def test_other_vector_units_draw_the_same_voxels(without: str) -> None:
    here = hashlib.sha256()
    for site in SITES:
        for part in draw_case(site, 0, size=PhantomSize(matrix=48, slices=8)):
            here.update(part.tobytes())
    assert printed_without(without, DRAW) == here.hexdigest()


def test_the_files_are_those_that_were_committed(tmp_path: Path) -> None:
    """Unpacked, since another zlib packs otherwise."""
    dataset = make_phantom(tmp_path, size=TINY)
    found = {}
    for kind in SHA256:
        told = hashlib.sha256()
        for file in sorted(dataset.glob(f"*/{kind}/*.nii.gz")):
            told.update(f"{file.parent.parent.name}/{file.name}".encode() + gzip.decompress(file.read_bytes()))
        found[kind] = told.hexdigest()
    assert found == SHA256


def test_the_functions_are_what_they_are_called() -> None:
    x = np.linspace(-30, 30, 4001)
    assert np.allclose(exp(x), np.exp(x), rtol=1e-7)
    assert np.allclose(cos(x), np.cos(x), atol=1e-9)
    assert np.allclose(sin(x), np.sin(x), atol=1e-9)
    positive = np.linspace(1e-6, 9, 4001)
    for exponent in (0.8, 1.2, 1 / 1.2, 1.3):
        assert np.allclose(power(positive, exponent), positive**exponent, rtol=1e-7)
        assert power(np.zeros(3), exponent).tolist() == [0, 0, 0]
    assert rotation(30) == pytest.approx((math.sqrt(3) / 2, 0.5), abs=1e-9)


def test_stretching_keeps_corners_and_straight_lines() -> None:
    ramp = np.arange(3.0)[:, None, None] + 10 * np.arange(2.0)[None, :, None] + np.zeros((1, 1, 4))
    wide = stretch(ramp, (9, 5, 4))
    assert wide.shape == (9, 5, 4)
    assert np.allclose(wide[:, 0, 0], np.linspace(0, 2, 9))
    assert np.allclose(wide[0, :, 2], np.linspace(0, 10, 5))


def test_blurring_is_a_gaussian_that_keeps_flat_pictures_flat() -> None:
    assert np.allclose(blur(np.full((9, 8, 2), 3.0), 1.5, (0, 1)), 3.0)
    point = np.zeros((41, 41, 1))
    point[20, 20] = 1
    spread = blur(point, 2.0, (0, 1))[:, :, 0]
    assert spread.sum() == pytest.approx(1)
    assert (spread.sum(1) * (np.arange(41) - 20) ** 2).sum() == pytest.approx(4.0, rel=0.05)


def test_the_draws_have_the_moments_they_claim() -> None:
    draws = Draws(7)
    normal = draws.normals((50, 40, 20))
    assert normal.mean() == pytest.approx(0, abs=0.02)
    assert normal.std() == pytest.approx(1, abs=0.02)
    assert (normal**4).mean() == pytest.approx(2.9, abs=0.1)
    uniform = [draws.uniform(2, 4) for _ in range(4000)]
    assert 2 <= min(uniform) < 2.01 < 3.99 < max(uniform) < 4
    assert np.mean(uniform) == pytest.approx(3, abs=0.03)
    beta = [draws.beta_2_3() for _ in range(4000)]
    assert (np.mean(beta), np.var(beta)) == (pytest.approx(0.4, abs=0.02), pytest.approx(0.04, abs=0.004))


@pytest.mark.parametrize("axes", ["RAS", "LAS", "LPS", "LPI", "PIR"])
def test_the_header_says_the_same_twice_whichever_way_the_axes_point(tmp_path: Path, axes: str) -> None:
    affine = nib.orientations.inv_ornt_aff(
        nib.orientations.ornt_transform(nib.orientations.axcodes2ornt(axes), nib.orientations.axcodes2ornt("RAS")),
        (4, 5, 6),
    ) @ np.diag([0.72, 0.9, 3.6, 1])
    write_nifti(tmp_path / "a.nii.gz", np.zeros((4, 5, 6), np.int16), affine)
    header = nib.load(tmp_path / "a.nii.gz").header
    assert np.allclose(header.get_qform(), header.get_sform(), atol=1e-4)
    turn = [float(header[f"quatern_{name}"]) for name in "bcd"]
    assert not any(math.copysign(1, part) < 0 and part == 0 for part in turn)
