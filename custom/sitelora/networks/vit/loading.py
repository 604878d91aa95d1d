"""Published weights of the classifying transformers: CineMA's and timm's names become ours, strictly, both ways.

What CineMA's public code says of its files: the pre-trained one is a masked autoencoder of four views that share one
transformer, with one frame an input; a fine-tuned one has the views of its task, both frames, and a head for every view
beside that of the class token.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from sitelora.networks.tensor_file import (
    A_MODEL,
    EMBEDDED,
    STANDARD,
    CheckpointError,
    file_of,
    read_tensors,
    require_merged,
)

from .positions import resized
from .shapes import VitShape

_log = logging.getLogger(__name__)

OUR_FORMAT = "sitelora-vit"
TRAINING_TABLES = ("model", "state_dict")
"""Where the publishers' training code keeps the tensors in a file that holds more."""
_SHOWN = 12

_FIRST_CONVOLUTION = "encoder.stem.conv_blocks.0.patch_embed.conv.weight"
_SINES = "encoder.stem.pos_embed"
_PLACES = "encoder.pos_embed"
_HEAD = "head."
_DEVIATION = f"{STANDARD}deviation"


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What a kind of file calls the tensors.

    Args:
        kind: of file, in words.
        marked_by: a tensor that no other kind has; empty for any file.
        ours: what a name begins with there, and here; the first that fits.
        aside: beginnings of what this network has no use for.
    """

    kind: str
    marked_by: str = ""
    ours: Mapping[str, str]
    aside: tuple[str, ...] = ()

    def name(self, theirs: str) -> str | None:
        """Return what a tensor is called here, or None for one that is left aside."""
        for beginning, here in self.ours.items():
            if theirs.startswith(beginning):
                return here + theirs.removeprefix(beginning)
        return None if theirs.startswith(self.aside) else theirs


_CINE = {"enc_down_dict.sax.": "encoder.stem.", "enc_fusion_dict.sax.": "encoder.fusion.", "encoder.": "encoder."}
_LONG_AXIS = ("enc_down_dict.lax_", "enc_fusion_dict.lax_", "pred_head_dict.lax_")

CINEMA = (
    Layout(
        kind="CineMA's autoencoder",
        marked_by="dec_linear.weight",
        ours=_CINE,
        aside=(*_LONG_AXIS, "dec_linear.", "dec_embed_dict.", "decoder.", "pred_head_dict.sax."),
    ),
    Layout(
        kind="a classifier fine-tuned from CineMA",
        ours={**_CINE, "pred_head_dict.sax.": "head.sax.", "pred_head_dict.cls.": "head.cls."},
        aside=_LONG_AXIS,
    ),
)
TIMM = (Layout(kind="a vision transformer of timm's", ours={_HEAD: _HEAD, "": "encoder."}),)
_OURS = Layout(kind="a transformer of ours", ours={"": ""})


def require_published(arch: str, base: str | None, shapes: Mapping[str, VitShape]) -> None:
    """Refuse the embedded weights for an architecture whose weights somebody else publishes, and an absent file.

    Raises:
        ValueError: says which file to give.
        FileNotFoundError: no checkpoint there.
    """
    published = shapes[arch].published if arch in shapes else ""
    if base == EMBEDDED and published:
        raise ValueError(
            f"arch is {arch!r} and base is {EMBEDDED!r}, which holds small networks of ours; set base to the path of "
            f"{published}, or to null for random values"
        )
    if base not in (None, EMBEDDED):
        _there(base, arch=arch, published=published)


def read_base(
    network: nn.Module, base: str, *, arch: str, shape: VitShape, layouts: tuple[Layout, ...]
) -> dict[str, Tensor]:
    """Return what the file ``base`` provides for ``network``, in fp32, under our names and at the network's shapes.

    A learned table of places is resized; fixed ones are the network's own, whatever a file of another size says. The
    first convolution of a file for one frame is shown to both, as CineMA's own fine-tuning does. A head for another
    number of classes is left aside. The log says what was.

    Args:
        network: the network to be filled, on the meta device.
        base: ``embedded``, or a path in which environment variables and ``~`` are expanded.
        arch: the name of the architecture. shape: its shape. layouts: of the files that it reads, the most particular
            first.

    Raises:
        FileNotFoundError: the file does not exist; says where it is published.
        CheckpointError: not a file of this architecture; lists what it has too much and what too little.
    """
    path = _there(base, arch=arch, published=shape.published)
    tensors, made_as = read_tensors(path, tables=TRAINING_TABLES)
    if made_as == A_MODEL:
        require_merged(tensors, network, path)
    fits = (each for each in layouts if not each.marked_by or each.marked_by in tensors)
    ours = made_as in (OUR_FORMAT, A_MODEL)
    return _fit(network, tensors, _OURS if ours else next(fits), path=path, arch=arch)


def _there(base: str, *, arch: str, published: str) -> Path:
    path = file_of(base, arch)
    if not path.is_file():
        raise FileNotFoundError(
            f"no checkpoint at {path}; {arch} needs {published or f'base={EMBEDDED!r} or a file made here'}. "
            "Nothing is downloaded: fetch it once and name its path as base."
        )
    return path


def _fit(
    network: nn.Module, tensors: Mapping[str, Tensor], layout: Layout, *, path: Path, arch: str
) -> dict[str, Tensor]:
    expected = network.state_dict()
    fitted: dict[str, Tensor] = {}
    aside, unknown, wrong = [], [], []
    for theirs, value in tensors.items():
        ours = layout.name(theirs)
        want = None if ours is None else expected.get(ours)
        if ours is None:
            aside.append(theirs)
        elif want is None:
            unknown.append(theirs)
        elif (fit := _shaped(ours, value, want.shape)) is not None:
            fitted[ours] = fit
        elif ours == _SINES or (ours.startswith(_HEAD) and value.shape[1:] == want.shape[1:]):
            aside.append(theirs)
        else:
            wrong.append(f"{theirs}: found shape {tuple(value.shape)}, expected {tuple(want.shape)}")
    heads = {name for name in expected if name.startswith(_HEAD)}
    if not heads <= fitted.keys():  # all of them or none: the seeded values of the others would not belong to it
        fitted = {name: value for name, value in fitted.items() if name not in heads}
    handled = {layout.name(theirs) for theirs in tensors}
    standard = {name for name in expected if name.startswith(STANDARD)}
    if 0 < len(standard & fitted.keys()) < len(standard):
        wrong.append(f"{', '.join(sorted(standard - fitted.keys()))} is missing, which belongs to {STANDARD}*")
    if (deviation := fitted.get(_DEVIATION)) is not None and not bool((deviation > 0).all()):
        wrong.append(f"{_DEVIATION}: found {float(deviation.min()):g}, expected numbers above 0, to be divided by")
    optional = heads | {_SINES} | standard
    missing = [name for name in expected if name not in handled and name not in optional]
    if unknown or missing or wrong:
        raise CheckpointError(
            f"{path}, read as {layout.kind}, does not fit {arch}: the network has no "
            f"{_listed(unknown)}; the file has no {_listed(missing)}; of another shape or content: {_listed(wrong)}. "
            "Name the arch that the file was made for"
        )
    if aside or not heads <= fitted.keys():
        seeded = "" if heads <= fitted.keys() else "; the head starts at seeded values"
        left = ", ".join(_beginnings(aside)) or "nothing"
        _log.info("%s, read as %s, leaves aside %s%s", path.name, layout.kind, left, seeded)
    return fitted


def _shaped(name: str, value: Tensor, want: torch.Size) -> Tensor | None:
    """Return a tensor at the network's shape, or None if it cannot be."""
    if value.shape == want:
        return value.clone()
    if name == _FIRST_CONVOLUTION and value.ndim == 5 and value.shape[1] == 1 and value.shape[2:] == want[2:]:
        return value.repeat(1, want[1], 1, 1, 1) if value.shape[0] == want[0] else None
    if name == _PLACES and value.ndim == 3 and value.shape[0] == 1 and value.shape[2] == want[2]:
        return resized(value, round((want[1] - 1) ** 0.5)) if _is_square(value.shape[1] - 1) else None
    return None


def _is_square(places: int) -> bool:
    return places > 0 and round(places**0.5) ** 2 == places


def _beginnings(names: Iterable[str]) -> list[str]:
    """Return what names begin with, two segments, each once."""
    return sorted({".".join(name.split(".")[:2]) for name in names})


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more if names else "(none)"
