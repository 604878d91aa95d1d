"""What the classifying transformers have in common: how they are filled, and in which precision they run."""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sitelora.networks.initial import fill_network, shapes_only
from sitelora.networks.parts import Parts
from sitelora.networks.precision import autocast, resolve_precision
from sitelora.networks.stages import Flow, Kept, Stage, run_stages

from .blocks import Encoder

_log = logging.getLogger(__name__)


class Readout(nn.Linear):
    """A linear head that computes in fp32 even where it is stored otherwise: probabilities are read off its logits."""

    def initial_value(self, leaf: str) -> Tensor:
        """Return a fresh value, as He et al. draw it for a linear probe: so small that it says next to nothing yet.

        At torch's own the first rounds would be spent on unlearning what it says of standardised features.
        """
        shape = getattr(self, leaf).shape
        return 0.01 * torch.randn(shape, device="cpu") if leaf == "weight" else torch.zeros(shape, device="cpu")

    def forward(self, x: Tensor) -> Tensor:
        """Return ``[..., K]``."""
        with torch.autocast(x.device.type, enabled=False):
            return F.linear(x.float(), self.weight.float(), self.bias.float())


class Standardise(nn.Module):
    """Takes from what a head reads the mean of many images, and makes its deviation 1, in every channel.

    What images share is larger in it than what tells them apart, so that a head, and the adapters before it, would
    learn little at any rate (our choice, after the norm without weights that masked autoencoders have before a linear
    probe). A base says both of the images that it was made of, and nobody trains them: 0 and 1 where its file says
    nothing.

    Args:
        width: channels that the head reads.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mean: Tensor
        self.deviation: Tensor
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("deviation", torch.ones(width))

    def initial_value(self, leaf: str) -> Tensor:
        """Return a value that changes nothing."""
        shape = getattr(self, leaf).shape
        return torch.zeros(shape, device="cpu") if leaf == "mean" else torch.ones(shape, device="cpu")

    def forward(self, x: Tensor) -> Tensor:
        """Return the shape of ``x``, fp32."""
        out: Tensor = (x - self.mean) / self.deviation
        return out


class VitClassifier(nn.Module):
    """An encoder, what standardises its features, and a head.

    Built under ``torch.device("meta")`` it has shapes and no values, and reads no checkpoint: for counts and for
    egress.

    Args:
        arch: its name. classes: K, at least 2. parts: what it declares. width: channels that the head reads.
        encoder: makes the encoder. head: makes the head.
        read: returns what a base provides for this network, by name.
        base: path of a checkpoint, ``embedded``, or None for seeded random values.
        seed: seeds every tensor that the checkpoint does not provide, the head always, by the tensor's name.
        precision: ``bf16``, ``fp32`` or ``auto``; see `set_precision`, which also stores the frozen base in bf16.
        quiet: do not warn about a random base.

    Raises:
        ValueError: fewer than two classes, or a precision that the device does not have.
    """

    def __init__(
        self,
        *,
        arch: str,
        classes: int,
        parts: Parts,
        width: int,
        encoder: Callable[[], Encoder],
        head: Callable[[], nn.Module],
        read: Callable[[nn.Module, str], dict[str, Tensor]],
        base: str | None,
        seed: int,
        precision: str,
        quiet: bool,
    ) -> None:
        super().__init__()
        if classes < 2:
            raise ValueError(f"found classes={classes}, expected at least 2: diagnosis tells classes apart")
        self.arch, self.classes, self.parts = arch, classes, parts
        self.base_fingerprint: str | None = None
        device = torch.get_default_device()
        resolve_precision(precision, device)
        self.compute_precision = precision
        with shapes_only():
            self.encoder, self.standard, self.head = encoder(), Standardise(width), head()
        if device.type != "meta":
            if base is None and not quiet:
                _log.warning(
                    "%s has a RANDOM base (base=None, seed %d): fine for a test, useless for images", arch, seed
                )
            provided = {} if base is None else read(self, base)
            self.base_fingerprint = fill_network(self, provided, seed=seed)
            self.to(device)

    def ready(self, image: Tensor) -> Tensor:
        """Return what the encoder reads of images with intensities from 0 to 1."""
        raise TypeError(f"{type(self).__name__} does not say what its encoder reads")

    def read_out(self, token: Tensor, others: Tensor) -> Tensor:
        """Return what the head is to read, of the class token ``[B, d]`` and the other tokens ``[B, N, d]``."""
        raise TypeError(f"{type(self).__name__} does not say what its head reads")

    def features(self, image: Tensor) -> Tensor:
        """Return what the head reads of images as for `ready`, in fp32: what a linear probe is fitted on."""
        pixels = self.ready(image)
        with autocast(self.compute_precision, pixels.device):
            token, others = self.encoder(pixels)
        read: Tensor = self.standard(self.read_out(token.float(), others.float()))
        return read

    def forward(self, image: Tensor, kept: Kept | None = None) -> Tensor:
        """Return logits ``[B, K]`` of images as for `ready`, in fp32.

        Args:
            image: the images. kept: what the first stages gave for them, to go on from.
        """
        if kept is not None:
            return run_stages(self.stages()[kept.first :], kept.flow)[0]
        logits: Tensor = self.head(self.features(image))
        return logits

    def enter(self, image: Tensor) -> Flow:
        """Return what the stem reads."""
        return (self.ready(image),)

    def stages(self) -> tuple[Stage, ...]:
        """Return the stem, every block, what is read out of the last one, and the head."""
        encoder, names = self.encoder, self.parts.members["blocks"]

        def at_precision(run: Callable[..., Flow]) -> Callable[[Flow], Flow]:
            def inside(flow: Flow) -> Flow:
                with autocast(self.compute_precision, flow[0].device):
                    return run(*flow)

            return inside

        def through(block: nn.Module) -> Callable[..., Flow]:
            return lambda tokens, *aside: (block(tokens), *aside)

        def read(flow: Flow) -> Flow:
            token, others = at_precision(encoder.after_blocks)(flow)
            return (self.standard(self.read_out(token.float(), others.float())),)

        behind = tuple(f"encoder.{name}" for name, _ in encoder.named_children() if name != "blocks")
        stem = tuple(f"encoder.{name}" for name in encoder.stem_holds())
        return (
            Stage(name="stem", holds=stem, run=at_precision(encoder.before_blocks)),
            *(
                Stage(name=f"block {number}", holds=(name,), run=at_precision(through(block)))
                for number, (name, block) in enumerate(zip(names, encoder.blocks, strict=True))
            ),
            Stage(name="readout", holds=(*behind, "standard"), run=read),
            Stage(name="head", holds=("head",), run=lambda flow: (self.head(flow[0]),)),
        )
