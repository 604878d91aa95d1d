"""LoRA is h = W0 x + s B A x on the chosen projections, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sitelora.adapters.base import adapter_tensor_names, insert_adapters
from sitelora.adapters.lora import LoRA
from sitelora.networks.sam import SamSegmenter

BOTH = (LoRA(where="image_encoder", rank=3, scale=0.5), LoRA(where="mask_decoder", rank=2))


def test_the_adapted_sam_is_the_base_bit_for_bit(tiny_sam: SamSegmenter, picture: Tensor) -> None:
    with torch.no_grad():
        before = tiny_sam(picture)
        insert_adapters(tiny_sam, BOTH, seed=0)
        assert torch.equal(tiny_sam(picture), before)


def test_every_pair_of_the_sam_matters(tiny_sam: SamSegmenter, picture: Tensor) -> None:
    """One B alone changes the output: no attention goes around its projection's hook."""
    insert_adapters(tiny_sam, BOTH, seed=0)
    factors = [p for name, p in tiny_sam.named_parameters() if name.endswith(".B")]
    assert len(factors) == 6 * 2 + 7 * 2
    with torch.no_grad():
        before = tiny_sam(picture)
        for factor in factors:
            factor.fill_(0.3)
            assert not torch.equal(tiny_sam(picture), before)
            factor.zero_()
        assert torch.equal(tiny_sam(picture), before)


@pytest.mark.parametrize("on", ["q", "v", "qv", "qkv", "k"])
def test_h_is_w0_x_plus_s_b_a_x_on_the_chosen_projections(
    projections: Any, x: Tensor, fill: Callable[[nn.Module], None], on: str
) -> None:
    with torch.no_grad():
        before = projections(x)
        scales = {"image_encoder": 0.5, "mask_decoder": 2.0}
        insert_adapters(projections, [LoRA(where=p, on=on, rank=3, scale=s) for p, s in scales.items()], seed=0)
        fill(projections)
        after = projections(x)
        tensors = dict(projections.named_parameters())
        for index, part in enumerate("qkv"):
            change = torch.zeros(2, 5, 12)
            separate = torch.zeros(2, 5, 6)
            if part in on:
                pair = f"image_encoder.attn.qkv.lora.{part}"
                change = 0.5 * x @ (tensors[f"{pair}.B"] @ tensors[f"{pair}.A"]).T
                pair = f"mask_decoder.attn.{part}_proj.lora"
                separate = 2.0 * x @ (tensors[f"{pair}.B"] @ tensors[f"{pair}.A"]).T
                assert float(change.abs().min()) > 0
            third = slice(12 * index, 12 * (index + 1))
            torch.testing.assert_close(after["qkv"][..., third] - before["qkv"][..., third], change, atol=1e-5, rtol=0)
            torch.testing.assert_close(after[f"{part}_proj"] - before[f"{part}_proj"], separate, atol=1e-5, rtol=0)
        for untouched in ("out_proj", "mlp"):
            assert torch.equal(after[untouched], before[untouched])


def values(seed: int, *specs: LoRA) -> dict[str, Tensor]:
    network = SamSegmenter(arch="sam_tiny", image_size=32, base=None, quiet=True, precision="fp32")
    torch.manual_seed(len(specs))  # the global generator must not matter
    insert_adapters(network, specs, seed=seed)
    state = network.state_dict()
    return {name: state[name] for name in adapter_tensor_names(network)}


def test_initial_factors_depend_on_seed_and_name_alone() -> None:
    first, backwards = values(7, *BOTH), values(7, *reversed(BOTH))
    assert first.keys() == backwards.keys()
    assert all(torch.equal(first[name], backwards[name]) for name in first)
    alone = values(7, BOTH[1])
    assert 0 < len(alone) < len(first)
    assert all(torch.equal(alone[name], first[name]) for name in alone)


def test_every_a_is_another_and_another_seed_gives_others() -> None:
    first, other = values(7, *BOTH), values(8, *BOTH)
    factors = [tensor for name, tensor in {**first, **{f"{n}'": t for n, t in other.items()}}.items() if ".A" in name]
    assert len({tuple(tensor.flatten()[:4].tolist()) for tensor in factors}) == len(factors) == 2 * 26
    assert all(not tensor.any() for name, tensor in first.items() if name.endswith(".B"))


def test_a_is_gaussian_with_deviation_one_over_root_d_in() -> None:
    a = torch.cat([t.flatten() * t.shape[1] ** 0.5 for n, t in values(0, *BOTH).items() if n.endswith(".A")])
    assert abs(float(a.mean())) < 0.03
    assert abs(float(a.std()) - 1) < 0.03
    assert abs(float((a**4).mean()) - 3) < 0.3  # kurtosis: no uniform draw


@pytest.mark.parametrize(("settings", "found"), [({"rank": 0}, "rank is 0"), ({"on": ""}, "on is empty")])
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], found: str) -> None:
    with pytest.raises(ValueError, match=found):
        LoRA(where="image_encoder", **settings)


def test_a_place_without_projections_is_an_error_that_says_what_is_there(projections: Any) -> None:
    with pytest.raises(ValueError, match=r"below 'neck'.*image_encoder.*mask_decoder"):
        LoRA(where="neck").insert(projections, seed=0)


def test_where_can_name_single_blocks() -> None:
    network = SamSegmenter(arch="sam_tiny", image_size=32, base=None, quiet=True)
    insert_adapters(network, [LoRA(where="image_encoder.blocks.5", on="q"), LoRA(where="**.layers.0", on="v")], seed=0)
    blocks = {name.split(".lora")[0] for name in adapter_tensor_names(network)}
    assert blocks == {
        "image_encoder.blocks.5.attn.qkv",
        *(
            f"mask_decoder.transformer.layers.0.{attention}.v_proj"
            for attention in ("self_attn", "cross_attn_token_to_image", "cross_attn_image_to_token")
        ),
    }
