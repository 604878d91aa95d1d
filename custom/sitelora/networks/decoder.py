"""FLAP-SAM's mask decoder (arXiv:2407.21739): C+1 mask tokens, all returned, upscaled to full resolution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .upstream import load_modeling

_modeling: Any = load_modeling()
_MaskDecoder: Any = _modeling.MaskDecoder
_LayerNorm2d: Any = _modeling.mask_decoder.LayerNorm2d
_MLP: Any = _modeling.mask_decoder.MLP


def upscaling(embedding: int, stages: int) -> nn.Sequential:
    """Return ``stages`` doublings ``embedding -> embedding/4 -> /8 -> ...`` (256-64-32-16-8 for patch 16).

    Every stage is ConvT k2 s2, LayerNorm2d, GELU; the last has no norm. The first two convolutions and the
    first norm have the indices that they have in Meta's decoder (0, 3 and 1), so that Meta's tensors load.
    """
    layers: list[nn.Module] = []
    channels = embedding
    for stage in range(stages):
        out = embedding // 4 >> stage
        layers.append(nn.ConvTranspose2d(channels, out, kernel_size=2, stride=2))
        if stage < stages - 1:
            layers.append(_LayerNorm2d(out))
        layers.append(nn.GELU())
        channels = out
    return nn.Sequential(*layers)


class FlapMaskDecoder(_MaskDecoder):
    """Meta's decoder with one mask per class and background, at the resolution of the image."""

    def __init__(self, *, embedding: int, heads: int, hidden: int, classes: int, stages: int) -> None:
        super().__init__(
            transformer_dim=embedding,
            transformer=_modeling.TwoWayTransformer(depth=2, embedding_dim=embedding, mlp_dim=hidden, num_heads=heads),
            num_multimask_outputs=classes,
            iou_head_depth=3,
            iou_head_hidden_dim=embedding,
        )
        self.output_upscaling = upscaling(embedding, stages)
        channels = embedding // 4 >> (stages - 1)
        self.output_hypernetworks_mlps = nn.ModuleList(
            _MLP(embedding, embedding, channels, 3) for _ in range(classes + 1)
        )

    def forward(self, image: Tensor, position: Tensor, sparse: Tensor, dense: Tensor) -> tuple[Tensor, Tensor]:
        """Return one mask per class and the predicted quality of each.

        Args:
            image: ``[B, D, h, w]`` image embedding.
            position: ``[1, D, h, w]`` positional encoding of its places.
            sparse: ``[B, P, D]`` prompt tokens; P may be 0.
            dense: ``[1 or B, D, h, w]`` embedding of the mask prompt, or of having none.

        Returns:
            Logits ``[B, C+1, h * patch, w * patch]`` and qualities ``[B, C+1]``. Unlike Meta's decoder, the
            batch is one of images, each with its own prompts, and no mask is sliced away.
        """
        batch = image.shape[0]
        tokens = torch.cat([self.iou_token.weight, self.mask_tokens.weight]).expand(batch, -1, -1)
        tokens = torch.cat([tokens, sparse], dim=1)
        queries, keys = self.transformer(image + dense, position.expand(batch, -1, -1, -1), tokens)

        hyper = torch.stack(
            [mlp(queries[:, 1 + index]) for index, mlp in enumerate(self.output_hypernetworks_mlps)], dim=1
        )
        masks = hyper @ upscaled_places(self.output_upscaling, keys).transpose(1, 2)
        return in_order(masks, image.shape[2:]), self.iou_prediction_head(queries[:, 0])


def upscaled_places(layers: nn.Sequential, tokens: Tensor) -> Tensor:
    """Return what `upscaling` gives, place by place: tokens ``[B, h * w, D]`` to ``[B, h * w * 4^stages, channels]``.

    A transposed convolution of kernel and stride 2 makes four places of one and sees no neighbour; norm and GELU see
    one place each. So every stage is a product over channels, and nothing is put in order but the masks (`in_order`).
    """
    for layer in layers:
        if isinstance(layer, nn.ConvTranspose2d):
            weight = layer.weight.permute(2, 3, 1, 0).flatten(0, 2)  # [2 * 2 * out, in]
            bias = None if layer.bias is None else layer.bias.repeat(4)
            tokens = F.linear(tokens, weight, bias).unflatten(2, (4, -1)).flatten(1, 2)
        elif isinstance(layer, _LayerNorm2d):
            tokens = F.layer_norm(tokens, layer.weight.shape, layer.weight, layer.bias, layer.eps)
        else:
            tokens = layer(tokens)
    return tokens


def in_order(masks: Tensor, grid: Sequence[int]) -> Tensor:
    """Return masks ``[B, M, h * w * 4^stages]``, four places of each place in turn, as pictures ``[B, M, H, W]``."""
    stages = (masks.shape[2] // (grid[0] * grid[1])).bit_length() // 2
    places = masks.unflatten(2, (*grid, *(2,) * (2 * stages)))
    rows, cols = [2, *range(4, 4 + 2 * stages, 2)], [3, *range(5, 4 + 2 * stages, 2)]
    return places.permute(0, 1, *rows, *cols).reshape(*masks.shape[:2], grid[0] << stages, grid[1] << stages)
