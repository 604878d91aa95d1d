"""A network that is not SAM: patches, two mixing blocks, a decoder; what methods ask for, it names."""

import torch
from torch import Tensor, nn

from sitelora.networks.parts import Parts, Projection

PARTS = Parts(
    members={
        "encoder": ("body",),
        "decoder": ("tail",),
        "heads": ("last",),
        "blocks": ("body.0", "body.1"),
        "attention": ("body.*",),
        "mlp": ("body.*.value",),
    },
    projections=(Projection(where="**.query_key", holds=("q", "k")), Projection(where="**.value", holds=("v",))),
)


class Mix(nn.Module):
    """A gate in the place of attention, ``[..., d]`` to ``[..., d]``; its queries and keys are one projection."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query_key, self.value = nn.Linear(width, 2 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        query, key = self.query_key(x).chunk(2, -1)
        return x + torch.sigmoid(query * key) * self.value(x)


class OtherNetwork(nn.Module):
    """``[B, 1, H, W]`` or ``[B, 1, H, W, N]`` to logits ``[B, C+1, ...]``; in fp32 only."""

    parts, compute_precision = PARTS, "fp32"

    def __init__(self, *, image_size: int, classes: int, seed: int = 0, **_: object) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.stem, self.last = nn.Conv2d(1, 64, 8, stride=8), nn.Linear(64, 64 * (classes + 1))
        self.body, self.tail = nn.Sequential(Mix(64), Mix(64)), Mix(64)

    def forward(self, image: Tensor) -> Tensor:
        slices = image.as_subclass(Tensor).float()[..., None].flatten(4).permute(0, 4, 1, 2, 3)  # a picture has one
        tokens = self.last(self.tail(self.body(self.stem(slices.flatten(0, 1)).permute(0, 2, 3, 1))))
        logits = nn.functional.pixel_shuffle(tokens.permute(0, 3, 1, 2), 8).unflatten(0, slices.shape[:2])
        return logits.permute(0, 2, 3, 4, 1).reshape(len(image), -1, *image.shape[2:])
