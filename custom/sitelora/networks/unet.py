"""A small U-Net (Ronneberger et al. 2015, arXiv 1505.04597) from random values: what needs no foundation model.

A hospital's alternative to adapting one: MONAI's residual U-Net (Kerfoot et al. 2018), trained whole. On pictures, or
slice by slice on stacks, so that it sees what the SAM bundles see.
"""

from __future__ import annotations

from typing import Any

import torch
from monai.networks.nets.unet import UNet
from torch import Tensor, nn

from .architecture import require_patches, shape_called
from .initial import fill_network, shapes_only
from .parts import Parts
from .pictures import as_pictures, like_images
from .precision import autocast, resolve_precision

UNETS = {"unet_small": (16, 32, 64, 128, 256)}
"""Channels of the stages, each half as large as the one before (our choice: 1.6 million values)."""
_PARTS = Parts(
    members={
        "encoder": (),
        "decoder": (),
        "all": ("unet",),
        "heads": (),
        "blocks": (),
        "attention": (),
        "mlp": (),
        "decoder_attention": (),
    }
)
"""It is trained whole or not at all: there is nothing in it that methods with adapters speak of."""


class SmallUNet(nn.Module):
    """Logits of pictures and stacks, background first, as of `SamSegmenter`.

    Built under ``torch.device("meta")`` it has shapes and no values.

    Args:
        arch: ``unet_small``. image_size: height and width in pixels, a multiple of 16. classes: C, foreground classes.
        base: None; there is no checkpoint of it.
        seed: seeds every tensor, by the tensor's name.
        precision: ``bf16``, ``fp32`` or ``auto``.
        quiet: taken so that all networks are asked alike; random values are what it begins with.

    Raises:
        ValueError: a size, class number, architecture or base that cannot be.
    """

    def __init__(
        self,
        *,
        arch: str,
        image_size: int,
        classes: int = 1,
        base: str | None = None,
        seed: int = 0,
        precision: str = "auto",
        quiet: bool = False,
    ) -> None:
        super().__init__()
        self.parts = self.parts_for(arch=arch, image_size=image_size)
        self.require_base(arch=arch, base=base)
        if classes < 1:
            raise ValueError(f"found classes={classes}, expected at least 1")
        self.arch, self.image_size, self.classes = arch, image_size, classes
        self.base_fingerprint: str | None = None
        device = torch.get_default_device()
        resolve_precision(precision, device)
        self.compute_precision = precision
        channels = UNETS[arch]
        with shapes_only():
            self.unet = UNet(
                spatial_dims=2,
                in_channels=3,
                out_channels=classes + 1,
                channels=channels,
                strides=(2,) * (len(channels) - 1),
                num_res_units=2,
            )
        if device.type != "meta":
            self.base_fingerprint = fill_network(self, {}, seed=seed)
            self.to(device)

    @staticmethod
    def parts_for(*, arch: str, image_size: int, **_: Any) -> Parts:
        """Return the parts of a network that is not built yet.

        Raises:
            ValueError: no such architecture, or a size that it cannot halve.
        """
        require_patches(arch, image_size, 2 ** (len(shape_called(arch, UNETS)) - 1))
        return _PARTS

    @staticmethod
    def require_base(*, arch: str, base: str | None, **_: Any) -> None:
        """Refuse any base.

        Raises:
            ValueError: there is none.
        """
        if base is not None:
            raise ValueError(
                f"arch is {arch!r} and base is {base!r}, expected null: this network starts at random values"
            )

    def forward(self, image: Tensor) -> Tensor:
        """Return fp32 logits ``[B, C+1, H, W]`` or ``[B, C+1, H, W, N]``.

        Args:
            image: ``[B, 1 or 3, H, W]``, or ``[B, 1 or 3, H, W, N]`` whose N slices do not see each other.

        Raises:
            ValueError: another shape.
        """
        pixels = as_pictures(image, self.image_size)
        with autocast(self.compute_precision, pixels.device):
            logits: Tensor = self.unet(pixels).float()
        return like_images(logits, image)
