"""A malicious base that writes a picture into the gradient of B, where A is known: IAT, FFA-LoRA, ``share_b``.

``dL/dB = sum_t d_t (A x_t)^T`` holds r numbers of every token, mixed over tokens by ``d_t``. The base unmixes them: its
attention looks at nothing but the token itself, its projection writes channel c of v into the place channel c, and a
hidden unit of its MLP passes that on at token c alone, because only there its place is set (imprinting, after Fowl et
al. 2022, arXiv:2110.13057). So row c of B's gradient is ``A x_c`` of token c, up to a number. With the seeded A of six
blocks that is 48 numbers for the 64 pixels of a patch; neighbours that are alike give the rest. The base sets the size
of that gradient too, so small that AdamW's first step is proportional to it: the message stays honest.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from imprint_a import CODE, LEVEL, PATCH, PIXELS, PLACES, SMALL, TOKENS, UNUSED, embedding
from one_step import SIDE, attackers_network, parameters_called
from torch import Tensor

BLOCKS, CHANNELS = 6, 192
SMOOTH = 0.1
"""Weight of neighbours' difference beside the equations; chosen on another picture than the one that is reported."""


def malicious_state(channel: float = 1.0) -> dict[str, Tensor]:
    """Return the tensors of a sam_tiny that sorts tokens into the rows of B; ``channel`` scales what passes."""
    state = embedding()
    for block in range(BLOCKS):
        own = {
            name.partition(f"image_encoder.blocks.{block}.")[2]: value
            for name, value in state.items()
            if name.startswith(f"image_encoder.blocks.{block}.")
        }
        for name, value in own.items():
            value.fill_(1.0 if name in ("norm1.weight", "norm2.weight") else 0.0)
        for token in range(TOKENS):
            place = PLACES.start + token
            own["attn.qkv.weight"][token, place] = own["attn.qkv.weight"][CHANNELS + token, place] = 1.5
            own["attn.proj.weight"][place, token] = channel
            own["mlp.lin1.weight"][token, place] = 1.0
            own["mlp.lin1.weight"][token, UNUSED] = -1 / (UNUSED.stop - UNUSED.start)  # so that the mean does not count
            own["mlp.lin1.bias"][token] = -6.0
            own["mlp.lin2.weight"][LEVEL, token] = 1.0
        at_rest = CODE / (2 * CODE**2 / CHANNELS) ** 0.5 - 6.0
        own["mlp.lin2.bias"][LEVEL] = -at_rest
    state["image_encoder.neck.0.weight"][:, PLACES] = 0
    return state


def rows_of(values: Mapping[str, Tensor]) -> list[str]:
    """Return the names of the encoder's factors B of v, in the order of its blocks."""
    return sorted(name for name in values if name.startswith("image_encoder.") and name.endswith(".v.B"))


def sized_base(
    method: Any, received: Mapping[str, Tensor], guess: Tensor, loss: Any, path: str, *, size: float = SMALL
) -> None:
    """Write the base to ``path`` so that gradients of B are proportional to the step that they make.

    Args:
        method: of the run. received: what an honest server will send. guess: any picture ``[H, W]``.
        loss: of the bundle. path: where to write.
        size: median gradient that it is set for.
    """
    torch.save(malicious_state(), path)
    network = attackers_network(method, received, path)
    parameters = parameters_called(network, rows_of(received))
    mask = (guess > guess.mean()).float()
    made = torch.autograd.grad(loss(network(guess[None, None]), mask[None, None]), parameters)
    found = float(torch.cat([one[:TOKENS].abs().flatten() for one in made]).median())
    torch.save(malicious_state(size / found), path)


def read_picture(
    gradients: Mapping[str, Tensor], factors: Mapping[str, Tensor], *, smooth: float = SMOOTH
) -> Tensor | None:
    """Return the picture ``[H, W]`` in 0..1 that gradients of B on this base hold, None without any.

    Args:
        gradients: by name. factors: the seeded A, by name, ``[r, d_in]``. smooth: weight of neighbours' difference.
    """
    names = [name for name in rows_of(gradients) if bool(gradients[name][:TOKENS].abs().max() > 0)]
    if not names:
        return None
    equations = torch.zeros(TOKENS, PATCH * PATCH, PATCH * PATCH, dtype=torch.float64)
    wanted = torch.zeros(TOKENS, PATCH * PATCH, dtype=torch.float64)
    for name in names:
        made = gradients[name][:TOKENS].double()
        factor = factors[f"{name[:-1]}A"].double()
        of_pixels = factor[:, PIXELS] - factor[:, UNUSED].mean(1, keepdim=True)
        of_places = CODE * (factor[:, PLACES] - factor[:, LEVEL : LEVEL + 1]).T  # [tokens, r]
        along = made / made.norm(dim=1, keepdim=True).clamp_min(1e-30)
        across = torch.eye(factor.shape[0], dtype=torch.float64) - along[:, :, None] * along[:, None]
        left = across @ of_pixels  # A x is parallel to the row: what lies across it is zero
        equations += left.transpose(1, 2) @ left
        wanted -= (left.transpose(1, 2) @ of_places[:, :, None])[..., 0]
    side = SIDE // PATCH
    order = torch.arange(SIDE * SIDE).view(side, PATCH, side, PATCH).permute(0, 2, 1, 3).reshape(TOKENS, -1)
    system, right = torch.zeros(SIDE * SIDE, SIDE * SIDE, dtype=torch.float64), torch.zeros(SIDE * SIDE).double()
    for token in range(TOKENS):
        system[order[token][:, None], order[token][None]] = equations[token]
        right[order[token]] = wanted[token]
    places = torch.arange(SIDE * SIDE).view(SIDE, SIDE)
    for one, other in ((places[1:], places[:-1]), (places[:, 1:], places[:, :-1])):
        first, second = one.flatten(), other.flatten()
        for row, column, sign in ((first, first, 1), (second, second, 1), (first, second, -1), (second, first, -1)):
            system.index_put_((row, column), torch.full(row.shape, sign * smooth).double(), accumulate=True)
    return (torch.linalg.solve(system, right).view(SIDE, SIDE) + 0.5).clamp(0, 1).nan_to_num(0.5).float()
