"""Reading SAM checkpoints, at another image size or number of classes (FLAP-SAM, arXiv:2407.21739)."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import pickle
import re
from importlib.resources import files
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from .architecture import ARCHITECTURES, Architecture

_log = logging.getLogger(__name__)

EMBEDDED = "embedded"
EMBEDDED_FILE = "sam_tiny.safetensors"
OUR_FORMAT = "sitelora-sam"

_README = "https://github.com/facebookresearch/segment-anything#model-checkpoints"
_RESEEDED = re.compile(r"mask_decoder\.(mask_tokens|output_hypernetworks_mlps|iou_prediction_head)\.")
_NEW_UPSCALING = re.compile(r"mask_decoder\.output_upscaling\.(?!0\.|1\.|3\.)")
_PER_CLASS_ROWS = re.compile(r"mask_decoder\.(mask_tokens|iou_prediction_head\.layers\.2)\.")
_UNREADABLE = (SafetensorError, pickle.UnpicklingError, RuntimeError, OSError, EOFError, ValueError, KeyError)
_GLOBAL_TABLE = re.compile(r"image_encoder\.blocks\.(\d+)\.attn\.rel_pos_[hw]")


class CheckpointError(ValueError):
    """A file that is no checkpoint of the architecture.

    What leaves a site of it is what leaves where there is no file at all: a job may name any path as its base, and must
    not learn from the answer whether a file of that name, a patient's for example, is there.
    """

    code = "base_missing"


def read_base(network: nn.Module, base: str, *, arch: str, shape: Architecture) -> dict[str, Tensor]:
    """Return what the checkpoint ``base`` provides for ``network``, in fp32 and at the network's shapes.

    Of a Meta file everything is taken but the mask tokens, hyper-networks and quality head, which depend on
    the classes and are always seeded anew; of our own file everything that fits, per class as far as its
    classes go.

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
    path = _embedded(arch) if base == EMBEDDED else Path(os.path.expandvars(base)).expanduser()
    if not path.is_file():
        raise FileNotFoundError(_where_to_get(path, arch, shape))
    tensors, ours = _read(path)
    if base == EMBEDDED:
        _verify_embedded(path)
    elif not ours:
        _warn_if_unknown(path, shape)
    return _fit(network, tensors, path=path, arch=arch, shape=shape, ours=ours)


def fingerprint(state: dict[str, Tensor]) -> str:
    """Return the sha256 over the names, shapes and fp32 bytes of ``state``, in the order of names."""
    digest = hashlib.sha256()
    for name in sorted(state):
        value = state[name].detach().to("cpu", torch.float32).contiguous()
        digest.update(f"{name}|{tuple(value.shape)}|".encode())
        digest.update(value.numpy().tobytes())
    return digest.hexdigest()


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while piece := stream.read(1 << 22):
            digest.update(piece)
    return digest.hexdigest()


def resize_table(value: Tensor, shape: torch.Size, name: str) -> Tensor:
    """Resize a position table bilinearly: ``pos_embed`` ``[1, h, w, D]`` or ``rel_pos`` ``[2 h - 1, d]``."""
    if name.endswith("pos_embed"):
        grid = F.interpolate(value.permute(0, 3, 1, 2), size=tuple(shape[1:3]), mode="bilinear")
        return grid.permute(0, 2, 3, 1).contiguous()
    return F.interpolate(value[None, None], size=tuple(shape), mode="bilinear")[0, 0]


def _read(path: Path) -> tuple[dict[str, Tensor], bool]:
    """Return the tensors of a checkpoint in fp32, and whether the file is in our own format."""
    ours = False
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                ours = (file.metadata() or {}).get("format") == OUR_FORMAT
                loaded: object = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        else:
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        why = str(error).split(". ")[0]  # torch goes on to advise loading it unsafely
        raise CheckpointError(f"{path} is not a readable checkpoint ({why}); fetch it again") from error
    if not isinstance(loaded, dict) or not all(isinstance(value, Tensor) for value in loaded.values()):
        found = sorted(map(str, loaded))[:5] if isinstance(loaded, dict) else type(loaded).__name__
        raise CheckpointError(
            f"{path} holds {found}, expected one flat table of tensors as Meta publishes; extract it first"
        )
    wrong = [f"{name}: {why}" for name, value in loaded.items() if (why := unusable(value))]
    if wrong:
        raise CheckpointError(
            f"{path} holds tensors that no network can be made of: {'; '.join(wrong[:5])}"
            f"{f'; and {len(wrong) - 5} more' if len(wrong) > 5 else ''}. Expected dense, finite numbers in a floating "
            "dtype, as they are published: fetch the file again, or convert it"
        )
    return {name: value.to(torch.float32) for name, value in loaded.items()}, ours


def unusable(value: Tensor) -> str:
    """Return why a tensor of a checkpoint cannot be part of a network, or nothing."""
    if value.layout != torch.strided or value.is_nested or value.device.type == "meta":
        return f"found a tensor of layout {value.layout} on {value.device.type}, expected a dense one with values"
    if not value.is_floating_point():
        return f"found dtype {value.dtype}, expected floating-point numbers"
    bad = int((~torch.isfinite(value.float())).sum())
    return f"{bad} of {value.numel()} values are NaN or infinite in fp32" if bad else ""


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


def _embedded(arch: str) -> Path:
    if arch != "sam_tiny":
        raise ValueError(f"base='{EMBEDDED}' is sam_tiny only, found arch={arch!r}; name the path of its checkpoint")
    return Path(str(files("sitelora.networks.weights") / EMBEDDED_FILE))


def _verify_embedded(path: Path) -> None:
    manifest = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    found = file_sha256(path)
    if found != manifest["sha256"]:
        raise ValueError(
            f"{path} has sha256 {found}, expected {manifest['sha256']} by its manifest: the installation "
            "is damaged, install sitelora again"
        )
