"""A malicious base and message that write a picture into the gradient of A: FedIT and others that share it.

The base's patch embedding writes the 64 pixels of a patch into 64 channels as they are, its position table writes which
patch it is into 64 others, and its blocks hardly change either, so that every adapter reads pixels and place side by
side. The gradient of A, ``sum_t c_t x_t``, then holds the unknown weights ``c`` in the channels of the place and the
same weights times the pixels in the others: a linear system, solved by least squares over the pairs of all blocks
(after Fowl et al. 2022, arXiv:2110.13057, and Sami et al. 2025, arXiv:2506.04453, who attack adapters). The server's
message sets every A to 0 and every B so small that AdamW's first step is no sign any more but proportional to the
gradient. No mask, no prior, no search. Sizes, seed and where the channels lie are our choice.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from one_step import ADAM_EPS, SIDE, attackers_network, parameters_called
from torch import Tensor

from sitelora.networks.sam import SamSegmenter

PATCH = 8
TOKENS = (SIDE // PATCH) ** 2
PIXELS, PLACES, LEVEL, UNUSED = slice(0, 64), slice(64, 128), 128, slice(129, 192)
"""Channels of sam_tiny's 192: of a patch, of its place, two kinds that keep the mean at zero."""
CODE = 20.0
QUIET = 1e-5
SMALL = 3e-10
"""Median gradient that the message is set for: below AdamW's eps of 1e-8."""
EXACT = 1e-4
"""Singular values below this share of the largest count as none."""
SEED = 0


def embedding() -> dict[str, Tensor]:
    """Return sam_tiny's tensors with an embedding that writes pixels and places into channels of their own."""
    network = SamSegmenter(arch="sam_tiny", image_size=SIDE, base="embedded", precision="fp32")
    state = {name: value.clone() for name, value in network.state_dict().items()}
    weight, bias = state["image_encoder.patch_embed.proj.weight"], state["image_encoder.patch_embed.proj.bias"]
    weight.zero_(), bias.zero_()
    weight[PIXELS, 0] = torch.eye(PATCH * PATCH).view(-1, PATCH, PATCH)
    bias[PIXELS] = -0.5
    unused = UNUSED.stop - UNUSED.start
    weight[UNUSED, 0], bias[UNUSED] = -1 / unused, 0.5 * PATCH * PATCH / unused  # the mean is zero whatever the pixels
    table = state["image_encoder.pos_embed"].zero_().view(TOKENS, -1)
    table[:, PLACES] = CODE * torch.eye(TOKENS)
    table[:, LEVEL] = -CODE
    return state


def malicious_state() -> dict[str, Tensor]:
    """Return the tensors of a sam_tiny whose adapters read pixels and places."""
    state = embedding()
    generator = torch.Generator().manual_seed(SEED)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    for name, value in state.items():
        if "image_encoder.blocks." not in name:
            continue
        if name.endswith("norm1.weight"):
            value.fill_(1)
        elif name.endswith(("norm1.bias", "qkv.bias", "proj.bias", "lin2.bias", "rel_pos_h", "rel_pos_w")):
            value.zero_()
        elif name.endswith("qkv.weight"):
            value.zero_()
            value[:, PLACES] = 0.15 * drawn(value.shape[0], TOKENS)
        elif name.endswith("attn.proj.weight"):
            value.copy_(QUIET * drawn(*value.shape))
        elif name.endswith("lin2.weight"):
            value.mul_(QUIET)
    return state


def pairs_of(values: Mapping[str, Tensor]) -> list[str]:
    """Return the names of the encoder's factors A, of q and of v, in order."""
    return sorted(name for name in values if name.startswith("image_encoder.") and name.endswith(".A"))


def malicious_message(
    method: Any, received: Mapping[str, Tensor], base: str, guess: Tensor, loss: Any, *, size: float = SMALL
) -> dict[str, Tensor]:
    """Return the values that a server sends so that gradients of A are proportional to the step that they make.

    Args:
        method: of the run. received: what an honest server would send. base: the path of the base.
        guess: any picture ``[H, W]``, for the size of the gradient. loss: of the bundle.
        size: median gradient that it is set for.
    """
    generator = torch.Generator().manual_seed(SEED + 1)
    values = {name: value.clone() for name, value in received.items()}
    names = pairs_of(values)
    for name in names:
        other = f"{name[:-1]}B"
        values[name].zero_()
        if other in values:
            values[other] = torch.randn(values[other].shape, generator=generator)
    if not names or f"{names[0][:-1]}B" not in values:
        return values
    network = attackers_network(method, values, base)
    parameters = parameters_called(network, sorted(values))
    mask = (guess > guess.mean()).float()
    made = torch.autograd.grad(loss(network(guess[None, None]), mask[None, None]), parameters, allow_unused=True)
    found = dict(zip(sorted(values), made, strict=True))
    median = float(torch.cat([found[name].abs().flatten() for name in names]).median())
    for name in names:
        values[f"{name[:-1]}B"] *= size / median
    return values


def gradients_from(steps: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Undo AdamW's first step: from ``g / (|g| + eps)`` to ``g``, up to one factor that a clipped update carries."""
    largest = max(float(value.abs().max()) for value in steps.values())
    shares = {name: (value / largest).clamp(-1 + 1e-6, 1 - 1e-6) for name, value in steps.items()}
    return {name: ADAM_EPS * share / (1 - share.abs()) for name, share in shares.items()}


def read_picture(gradients: Mapping[str, Tensor], *, cut: float = EXACT) -> Tensor | None:
    """Return the picture ``[H, W]`` in 0..1 that gradients of A on the malicious base hold, None without any.

    Rows are ``sum_t c_t x_t``; ``x_t`` is normalised by one number a token, which the channels of the place carry too.
    """
    names = pairs_of(gradients)
    if not names:
        return None
    rows = torch.cat([gradients[name] for name in names]).double()
    rows = rows[rows.abs().amax(1) > 0]
    if not len(rows):
        return None
    rows = rows / rows.norm(dim=1, keepdim=True)
    patches = torch.linalg.lstsq(rows[:, PLACES] / CODE, rows[:, PIXELS], rcond=cut, driver="gelsd").solution + 0.5
    side = SIDE // PATCH
    picture = patches.view(side, side, PATCH, PATCH).permute(0, 2, 1, 3).reshape(SIDE, SIDE)
    return picture.clamp(0, 1).nan_to_num(0.5).float()
