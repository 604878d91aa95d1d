"""What scoring and serving take in place of MONAI's argmax gives MONAI's labels, and nothing else is replaced."""

from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Activationsd, AsDiscreted

from sitelora.serving.answer import Largestd, quick


@pytest.mark.parametrize("shape", [(1, 5), (2, 7, 6), (2, 9, 8, 3), (5, 6, 7), (3, 4, 4, 4)])
@pytest.mark.parametrize("kind", ["drawn", "equal", "not a number"])
def test_labels_are_monais(shape: tuple[int, ...], kind: str) -> None:
    values = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    if kind == "equal":
        values = values.sign()
    if kind == "not a number":
        values[:, values[0] > 0.5] = torch.nan
    turned = values.permute(0, *range(values.ndim - 1, 0, -1)) if values.ndim > 2 else values
    for given in (values, turned, MetaTensor(values, affine=torch.diag(torch.tensor([2.0, 3, 4, 1])))):
        theirs = AsDiscreted(keys="pred", argmax=True)
        ours = quick(theirs)
        assert isinstance(ours, Largestd)
        found, expected = ours({"pred": given})["pred"], theirs({"pred": given})["pred"]
        assert torch.equal(found, expected)
        assert (type(found), found.dtype, found.shape) == (type(expected), expected.dtype, expected.shape)
        if isinstance(given, MetaTensor):
            assert torch.equal(found.affine, given.affine)


def test_every_other_step_stays() -> None:
    for step in (
        Activationsd(keys="pred", softmax=True),
        AsDiscreted(keys="pred", threshold=0.5),
        AsDiscreted(keys="pred", argmax=True, to_onehot=2),
        AsDiscreted(keys="pred", argmax=True, dim=1),
        Largestd(keys="pred"),
    ):
        assert quick(step) is step
