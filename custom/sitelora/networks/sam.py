"""SAM as a promptless network on pictures and volumes, as in FLAP-SAM (arXiv:2407.21739, section 3.1)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from sitelora.bundle import EMBEDDED

from .architecture import Architecture, architecture, require_patches
from .attention import AUTO, use_attention
from .checkpoint import checkpoint_there, read_base
from .decoder import FlapMaskDecoder
from .initial import fill_network, shapes_only
from .parts import Parts
from .pictures import as_pictures, like_images
from .precision import autocast, resolve_precision
from .sam_parts import sam_parts
from .stages import Flow, Kept, Stage, run_stages
from .upstream import load_modeling

_log = logging.getLogger(__name__)
_modeling: Any = load_modeling()


class SamSegmenter(nn.Module):
    """SAM with C+1 masks and no prompt; its tensors have Meta's names.

    Built under ``torch.device("meta")`` it has shapes and no values, and reads no checkpoint: for counts and
    for egress.

    Args:
        arch: ``vit_b``, ``vit_l``, ``vit_h`` (Meta's) or ``sam_tiny`` (ours).
        image_size: height and width in pixels, a multiple of the patch; position tables are resized to it.
        classes: C, foreground classes. Channel 0 of the output is the background.
        base: path of a checkpoint, ``embedded`` (sam_tiny's own weights), or None for seeded random values.
        seed: seeds every tensor that the checkpoint does not provide, by the tensor's name.
        precision: ``bf16``, ``fp32`` or ``auto``, which asks the device that computes; see `set_precision`, which
            also stores the frozen base in bf16.
        point_grid: g for FLAP-SAM's regular g x g grid of foreground points; 0, as in its released code, for
            no prompt.
        attention: ``auto``, ``segment_anything`` or ``folded``.
        quiet: do not warn about a random base.

    Raises:
        ValueError: a size, class number, architecture or option that cannot be, or a checkpoint that does not
            fit.
        FileNotFoundError: no checkpoint there.
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
        point_grid: int = 0,
        attention: str = AUTO,
        quiet: bool = False,
    ) -> None:
        super().__init__()
        shape = _shape(arch, image_size)
        if classes < 1 or point_grid < 0:
            raise ValueError(f"found classes={classes}, point_grid={point_grid}; expected at least 1 and at least 0")
        self.arch, self.image_size, self.classes, self.point_grid = arch, image_size, classes, point_grid
        self.parts = sam_parts(shape.depth)
        self.base_fingerprint: str | None = None
        device = torch.get_default_device()
        resolve_precision(precision, device)
        self.compute_precision = precision
        with shapes_only():
            self._build(shape, attention)
        if device.type != "meta":
            self._fill(base, seed, shape, quiet)
            self.to(device)

    @staticmethod
    def parts_for(*, arch: str, image_size: int, **_: Any) -> Parts:
        """Return the parts of a network that is not built yet.

        Raises:
            ValueError: no such architecture, or a size that its patches do not fill.
        """
        return sam_parts(_shape(arch, image_size).depth)

    @staticmethod
    def require_base(*, arch: str, base: str | None, **_: Any) -> None:
        """Refuse the embedded weights for another architecture than theirs, and a file that is not there.

        Raises:
            ValueError: says which file to give and where it is published.
            FileNotFoundError: no checkpoint there.
        """
        shape = architecture(arch)
        file = shape.meta_file
        if base == EMBEDDED and file is not None:
            raise ValueError(
                f"arch is {arch!r} and base is {EMBEDDED!r}, which holds sam_tiny only; set base to the path of {file} "
                "(https://github.com/facebookresearch/segment-anything#model-checkpoints), or to null for random values"
            )
        if base not in (None, EMBEDDED):
            checkpoint_there(base, arch=arch, shape=shape)

    def _build(self, shape: Architecture, attention: str) -> None:
        grid = self.image_size // shape.patch
        self.image_encoder = _modeling.ImageEncoderViT(
            img_size=self.image_size,
            patch_size=shape.patch,
            embed_dim=shape.width,
            depth=shape.depth,
            num_heads=shape.heads,
            out_chans=shape.embedding,
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
            use_rel_pos=True,
            window_size=shape.window,
            global_attn_indexes=shape.global_blocks,
        )
        use_attention(self.image_encoder, attention)
        # Its constructor multiplies a table by a number, which is no initial value to be left out (`shapes_only`): this
        # small part is made with values, which are then forgotten.
        with torch.random.fork_rng(devices=[]), torch.device("cpu"):
            prompt_encoder = _modeling.PromptEncoder(
                embed_dim=shape.embedding,
                image_embedding_size=(grid, grid),
                input_image_size=(self.image_size, self.image_size),
                mask_in_chans=16,
            )
        self.prompt_encoder = prompt_encoder.to("meta")
        self.mask_decoder = FlapMaskDecoder(
            embedding=shape.embedding,
            heads=shape.decoder_heads,
            hidden=shape.decoder_hidden,
            classes=self.classes,
            stages=shape.upscaling_stages,
        )

    def _fill(self, base: str | None, seed: int, shape: Architecture, quiet: bool) -> None:
        provided: dict[str, Tensor] = {}
        if base is not None:
            provided = read_base(self, base, arch=self.arch, shape=shape)
        elif not quiet:
            _log.warning(
                "%s has a RANDOM base (base=None, seed %d): fine for a test, useless for images; name a checkpoint",
                self.arch,
                seed,
            )
        self.base_fingerprint = fill_network(self, provided, seed=seed)

    def forward(self, image: Tensor, kept: Kept | None = None) -> Tensor:
        """Return logits, background first.

        Args:
            image: ``[B, c, H, W]``, or ``[B, c, H, W, N]`` whose N slices are folded into the batch and do not
                see each other, unless an adapter lets them. c is 1 (repeated to 3) or 3; H = W = image_size. No
                mean or deviation is applied.
            kept: what the first stages gave for the image, to go on from.

        Returns:
            ``[B, C+1, H, W]`` or ``[B, C+1, H, W, N]`` in fp32; a MONAI MetaTensor keeps its metadata.

        Raises:
            ValueError: another shape.
        """
        (pixels,) = self.enter(image)
        self.image_encoder.slices = image.shape[4] if image.ndim == 5 else 1  # for adapters that look across them
        logits = self.segment(pixels) if kept is None else run_stages(self.stages()[kept.first :], kept.flow)[0]
        self.image_encoder.slices = 1
        return like_images(logits, image)

    def enter(self, image: Tensor) -> Flow:
        """Return the slices of images as for `forward` as pictures ``[B * N, 3, H, W]``.

        Raises:
            ValueError: another shape.
        """
        return (as_pictures(image, self.image_size),)

    def stages(self) -> tuple[Stage, ...]:
        """Return the stem, every block, the neck and the decoder."""
        encoder, names = self.image_encoder, self.parts.members["blocks"]

        def stem(pixels: Tensor) -> Tensor:
            tokens: Tensor = encoder.patch_embed(pixels)
            return tokens if encoder.pos_embed is None else tokens + encoder.pos_embed

        def inside(run: Callable[[Tensor], Tensor]) -> Callable[[Flow], Flow]:
            def at_precision(flow: Flow) -> Flow:
                with autocast(self.compute_precision, flow[0].device):
                    return (run(flow[0]),)

            return at_precision

        return (
            Stage(name="stem", holds=("image_encoder.patch_embed", "image_encoder.pos_embed"), run=inside(stem)),
            *(
                Stage(name=f"block {number}", holds=(name,), run=inside(block))
                for number, (name, block) in enumerate(zip(names, encoder.blocks, strict=True))
            ),
            Stage(
                name="neck",
                holds=("image_encoder.neck",),
                run=inside(lambda tokens: encoder.neck(tokens.permute(0, 3, 1, 2))),
            ),
            Stage(name="decoder", holds=("prompt_encoder", "mask_decoder"), run=lambda flow: (self.decode(flow[0]),)),
        )

    def segment(
        self, pixels: Tensor, points: tuple[Tensor, Tensor] | None = None, boxes: Tensor | None = None
    ) -> Tensor:
        """Return fp32 logits ``[B, C+1, H, W]`` for pictures ``[B, 3, H, W]`` and SAM's prompts.

        Args:
            pixels: the pictures.
            points: coordinates ``[B, P, 2]`` as x, y in pixels, and labels ``[B, P]``: 1 foreground, 0
                background.
            boxes: ``[B, 4]`` as x0, y0, x1, y1 in pixels.
        """
        return self.decode(self.encode(pixels), points, boxes)

    def encode(self, pixels: Tensor) -> Tensor:
        """Return the image embedding ``[B, D, h, w]`` of pictures ``[B, 3, H, W]``."""
        with autocast(self.compute_precision, pixels.device):
            embedding: Tensor = self.image_encoder(pixels)
        return embedding

    def decode(
        self, embedding: Tensor, points: tuple[Tensor, Tensor] | None = None, boxes: Tensor | None = None
    ) -> Tensor:
        """Return fp32 logits ``[B, C+1, H, W]`` for an image embedding; prompts as for `segment`."""
        if points is None and boxes is None and self.point_grid:
            points = self._grid_points(embedding.device)
        with torch.autocast(embedding.device.type, enabled=False):  # frequencies times places need fp32
            sparse, dense = self.prompt_encoder(points, boxes, None)
            position = self.prompt_encoder.get_dense_pe()
        with autocast(self.compute_precision, embedding.device):
            masks, _ = self.mask_decoder(embedding, position, sparse.expand(len(embedding), -1, -1), dense)
        logits: Tensor = masks.float()
        return logits

    def _grid_points(self, device: torch.device) -> tuple[Tensor, Tensor]:
        steps = (torch.arange(self.point_grid, device=device) + 0.5) * (self.image_size / self.point_grid)
        y, x = torch.meshgrid(steps, steps, indexing="ij")
        points = torch.stack([x, y], dim=-1).reshape(1, -1, 2)
        return points, torch.ones(points.shape[:2], device=device)


def base_fingerprint(network: SamSegmenter) -> str:
    """Return the sha256 of the base as loaded: names, shapes and fp32 bytes, before training and casts.

    Raises:
        ValueError: the network is on the meta device and has no values.
    """
    if network.base_fingerprint is None:
        raise ValueError(f"{network.arch} was built on the meta device: it has no values, hence no fingerprint")
    return network.base_fingerprint


def _shape(arch: str, image_size: int) -> Architecture:
    shape = architecture(arch)
    require_patches(arch, image_size, shape.patch)
    return shape
