import dataclasses

import pytest

from sitelora.networks.vit import shapes

TOY_CINE = shapes.CineShape(
    width=24, depth=2, heads=2, epsilon=1e-5, steps=(2, 2, 2), channels=(4, 6), convolutions=2, reach=3,
    published="toy.safetensors of somebody",
)  # fmt: skip
TOY_PICTURE = shapes.PictureShape(
    width=24, depth=2, heads=2, epsilon=1e-6, patch=4, pool=shapes.TOKEN, published="toy of somebody"
)


@pytest.fixture(autouse=True)
def toys(monkeypatch):
    """Small architectures of the published ones' layout, beside them."""
    monkeypatch.setitem(shapes.CINE_SHAPES, "toy", TOY_CINE)
    monkeypatch.setitem(shapes.PICTURE_SHAPES, "toy", TOY_PICTURE)
    monkeypatch.setitem(shapes.PICTURE_SHAPES, "toy_mean", dataclasses.replace(TOY_PICTURE, pool=shapes.MEAN))
