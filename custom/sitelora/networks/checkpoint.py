"""Reading SAM checkpoints, at another image size or number of classes (FLAP-SAM, arXiv:2407.21739)."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sitelora.bundle import EMBEDDED
from sitelora.disk import file_sha256

from .architecture import ARCHITECTURES, Architecture
from .tensor_file import A_MODEL, CheckpointError, file_of, read_tensors, require_merged

_log = logging.getLogger(__name__)

OUR_FORMAT = "sitelora-sam"

_README = "https://github.com/facebookresearch/segment-anything#model-checkpoints"
_RESEEDED = re.compile(r"mask_decoder\.(mask_tokens|output_hypernetworks_mlps|iou_prediction_head)\.")
_NEW_UPSCALING = re.compile(r"mask_decoder\.output_upscaling\.(?!0\.|1\.|3\.)")
_PER_CLASS_ROWS = re.compile(r"mask_decoder\.(mask_tokens|iou_prediction_head\.layers\.2)\.")
_GLOBAL_TABLE = re.compile(r"image_encoder\.blocks\.(\d+)\.attn\.rel_pos_[hw]")


def read_base(network: nn.Module, base: str, *, arch: str, shape: Architecture) -> dict[str, Tensor]:
    """Return what the checkpoint ``base`` provides for ``network``, in fp32 and at the network's shapes.

    Of a Meta file everything is taken but the mask tokens, hyper-networks and quality head, which depend on
    the classes and are always seeded anew; of our own file everything that fits, per class as far as its
    classes go. A model that a federation left is such a file of ours: the next one goes on from it.

    Args:
        network: the network to be filled; only its names and shapes are read, so it may be on the meta
            device.
        base: ``embedded``, or a path in which environment variables and ``~`` are expanded.
        arch: the name of the architecture, for messages.
        shape: the architecture.

    Raises:
        FileNotFoundError: the file does not exist; says where Meta publishes it.
        CheckpointError: not a checkpoint of this architecture: unreadable, damaged, wrong names or wrong shapes.
    """
    path = checkpoint_there(base, arch=arch, shape=shape)
    tensors, made_as = read_tensors(path)
    ours = made_as in (OUR_FORMAT, A_MODEL)
    if not ours:
        _warn_if_unknown(path, shape)
    if made_as == A_MODEL:
        require_merged(tensors, network, path)
    return _fit(network, tensors, path=path, arch=arch, shape=shape, ours=ours)


def checkpoint_there(base: str, *, arch: str, shape: Architecture) -> Path:
    """Return where the checkpoint ``base`` lies.

    Args:
        base, arch, shape: as for `read_base`.

    Raises:
        FileNotFoundError: nowhere; says where Meta publishes it.
    """
    path = file_of(base, arch)
    if not path.is_file():
        raise FileNotFoundError(_where_to_get(path, arch, shape))
    return path


def resize_table(value: Tensor, shape: torch.Size, name: str) -> Tensor:
    """Resize a position table bilinearly: ``pos_embed`` ``[1, h, w, D]`` or ``rel_pos`` ``[2 h - 1, d]``."""
    if name.endswith("pos_embed"):
        grid = F.interpolate(value.permute(0, 3, 1, 2), size=tuple(shape[1:3]), mode="bilinear")
        return grid.permute(0, 2, 3, 1).contiguous()
    return F.interpolate(value[None, None], size=tuple(shape), mode="bilinear")[0, 0]


def _fit(
    network: nn.Module, tensors: dict[str, Tensor], *, path: Path, arch: str, shape: Architecture, ours: bool
) -> dict[str, Tensor]:
    expected = network.state_dict()
    fitted: dict[str, Tensor] = {}
    wrong: list[str] = []
    for name, value in tensors.items():
        if not ours and _RESEEDED.match(name):
            continue
        if name not in expected:
            if not (ours and _RESEEDED.match(name)):
                wrong.append(f"{name}: not a tensor of {arch}")
            continue
        want = expected[name].shape
        table = _GLOBAL_TABLE.fullmatch(name)
        resizable = name == "image_encoder.pos_embed" or (table and int(table[1]) in shape.global_blocks)
        if value.shape == want:
            fitted[name] = value.clone()
        elif resizable and _is_table(value.shape, want):
            fitted[name] = resize_table(value, want, name)
        elif ours and _PER_CLASS_ROWS.match(name) and value.shape[1:] == want[1:]:
            fitted[name] = value  # more or fewer classes: the caller keeps the rows that both have
        else:
            wrong.append(f"{name}: found shape {tuple(value.shape)}, expected {tuple(want)}")
    for name in expected:
        optional = _RESEEDED.match(name) or (not ours and _NEW_UPSCALING.match(name))
        if name not in tensors and not optional:
            wrong.append(f"{name}: missing")
    if wrong:
        shown = "; ".join(wrong[:8]) + (f"; and {len(wrong) - 8} more" if len(wrong) > 8 else "")
        raise CheckpointError(
            f"{path} does not fit {arch}: {shown}. Name the arch that the file was made for, "
            f"one of {sorted(ARCHITECTURES)}."
        )
    return fitted


def _is_table(shape: torch.Size, want: torch.Size) -> bool:
    """Say whether a position table only has another grid: same axes, same width, and no batch but its own."""
    batch = (shape[0], want[0]) if len(want) == 4 else (1, 1)
    return len(shape) == len(want) and shape[-1] == want[-1] and batch == (1, 1) and min(shape) > 0


def _where_to_get(path: Path, arch: str, shape: Architecture) -> str:
    if shape.meta_file is None:
        return f"no checkpoint at {path}; {arch} is ours: use base='{EMBEDDED}' or a file that we trained"
    return (
        f"no checkpoint at {path}; {arch} needs {shape.meta_file}, which Meta publishes under 'Model "
        f"checkpoints' in segment-anything's README ({_README}). Nothing is downloaded here: fetch it "
        "once and name its path as base."
    )


def _warn_if_unknown(path: Path, shape: Architecture) -> None:
    known = {
        entry.meta_file[-10:-4]: entry.meta_file for entry in ARCHITECTURES.values() if entry.meta_file is not None
    }
    sha256 = file_sha256(path)
    if sha256[:6] not in known:
        _log.warning(
            "%s has sha256 %s, which is none of Meta's (%s). A fine-tuned SAM such as MedSAM is used "
            "as it is; a damaged download would be too, so compare the hash with its publisher's.",
            path, sha256, ", ".join(f"{name}: {prefix}..." for prefix, name in known.items()),
        )  # fmt: skip
