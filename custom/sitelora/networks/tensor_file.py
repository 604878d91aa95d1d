"""Files of tensors, read strictly: whole and finite, or refused by name; those embedded here by their hash too."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import zlib
from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from zipfile import BadZipFile, ZipFile, is_zipfile

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from sitelora.bundle import EMBEDDED
from sitelora.disk import GIVE_RIGHT, NOT_READABLE, file_sha256, is_closed

MADE = "made"
"""Key of a served model's file under which it says how it was made, beside the tensors under ``model``."""
A_MODEL = "sitelora-model"
"""Format of a file that a federation left: the whole state of the network, adapters merged, under its own names."""
STANDARD = "standard."
"""What the names of a classifying transformer's own standardisation begin with."""

_SUFFIX = ".safetensors"
_UNREADABLE = (SafetensorError, pickle.UnpicklingError, RuntimeError, OSError, EOFError, ValueError, KeyError)


class CheckpointError(ValueError):
    """A file that is no checkpoint of the architecture.

    What leaves a site of it is what leaves where there is no file at all: a job may name any path as its base, and must
    not learn from the answer whether a file of that name, a patient's for example, is there.
    """

    code = "base_missing"


def file_of(base: str, arch: str) -> Path:
    """Return where a base lies: the embedded file of an architecture, whose hash is right, or the path it names.

    Args:
        base: ``embedded``, or a path in which environment variables and ``~`` are expanded.
        arch: the name of the architecture.

    Raises:
        ValueError: nothing of this architecture is embedded, or the installation is damaged.
    """
    if base != EMBEDDED:
        return Path(os.path.expandvars(base)).expanduser()
    path = embedded_file(arch)
    if not path.is_file():
        there = sorted(each.name.removesuffix(_SUFFIX) for each in path.parent.glob(f"*{_SUFFIX}"))
        raise ValueError(
            f"base='{EMBEDDED}' is for {', '.join(there)}, found arch={arch!r}; name the path of its checkpoint"
        )
    manifest = json.loads(path.with_suffix(".json").read_bytes())
    found = file_sha256(path)
    if found != manifest["sha256"]:
        raise ValueError(
            f"{path} has sha256 {found}, expected {manifest['sha256']} by its manifest: the installation "
            "is damaged, install sitelora again"
        )
    return path


def embedded_file(arch: str) -> Path:
    """Return where the embedded weights of an architecture lie, if it has some."""
    return Path(str(files("sitelora.networks.weights") / f"{arch}{_SUFFIX}"))


def read_tensors(path: Path, *, tables: tuple[str, ...] = ()) -> tuple[dict[str, Tensor], str]:
    """Return the tensors of a checkpoint in fp32, and the format that a safetensors file says it has.

    A model that a federation left, exported or not, is a checkpoint too, of the format ``A_MODEL``.

    Args:
        path: of a file that is there.
        tables: names under which a file of training may keep the tensors, beside other things.

    Raises:
        CheckpointError: unreadable, damaged, no flat table of tensors, or tensors that no network can be made of.
    """
    made_as = ""
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                made_as = (file.metadata() or {}).get("format", "")
                loaded: object = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        else:
            if part := damaged_part(path):
                raise CheckpointError(f"{path} is damaged: the checksum of {part} is wrong; fetch it again")
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except _UNREADABLE as error:
        if is_closed(path, error):
            raise CheckpointError(f"{path} is {NOT_READABLE}; {GIVE_RIGHT}") from error
        why = _not_a_file_of_tensors(path) or str(error).split(". ")[0]  # torch goes on to advise loading it unsafely
        raise CheckpointError(f"{path} is not a readable checkpoint ({why}); fetch it again") from error
    if isinstance(loaded, dict) and isinstance(loaded.get("model"), dict) and isinstance(loaded.get(MADE), dict):
        loaded, made_as = loaded["model"], A_MODEL
    elif isinstance(loaded, dict):
        loaded = next((loaded[name] for name in tables if isinstance(loaded.get(name), dict)), loaded)
    if not isinstance(loaded, dict) or not all(isinstance(value, Tensor) for value in loaded.values()):
        found = sorted(map(str, loaded))[:5] if isinstance(loaded, dict) else type(loaded).__name__
        raise CheckpointError(
            f"{path} holds {found}, expected one flat table of tensors as it is published; extract it first"
        )
    wrong = [f"{name}: {why}" for name, value in loaded.items() if (why := unusable(value))]
    if wrong:
        raise CheckpointError(
            f"{path} holds tensors that no network can be made of: {'; '.join(wrong[:5])}"
            f"{f'; and {len(wrong) - 5} more' if len(wrong) > 5 else ''}. Expected dense, finite numbers in a floating "
            "dtype, as they are published: fetch the file again, or convert it"
        )
    return {name: value.to(torch.float32) for name, value in loaded.items()}, made_as


def _not_a_file_of_tensors(path: Path) -> str:
    """Return what a file that cannot be read is by its beginning, where that says it; else nothing."""
    try:
        with path.open("rb") as file:
            start = file.read(64).lstrip()
    except OSError:
        return ""
    if not start:
        return "it is empty"
    return "it is a web page, which a download may give in place of the file" if start.startswith(b"<") else ""


def damaged_part(path: Path) -> str:
    """Return the part of a file of torch whose checksum is wrong, which torch itself does not verify; empty where none.

    Once a file, as a command opens it often.

    Raises:
        OSError: it cannot be read.
    """
    about = path.stat()
    return _damaged_part(path, about.st_mtime_ns, about.st_size)


@lru_cache(maxsize=8)
def _damaged_part(path: Path, written_ns: int, size: int) -> str:
    if not is_zipfile(path):
        return ""
    try:
        with ZipFile(path) as archive:
            return archive.testzip() or ""
    except (BadZipFile, NotImplementedError, zlib.error) as error:
        return f"a part ({error})"


def is_left_by_federation(path: Path) -> bool:
    """Say whether a file is a model as a federation leaves it, by what it holds; what cannot be read is none.

    Args:
        path: of a file that is there; read as a map, so that a large one takes no memory.
    """
    if path.suffix == _SUFFIX:
        return False
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zipfile(path))
    except _UNREADABLE:
        return False
    return isinstance(loaded, dict) and isinstance(loaded.get(MADE), dict)


def require_merged(tensors: Mapping[str, Tensor], network: nn.Module, path: Path) -> None:
    """Refuse as a base a model that keeps adapters, because its method's cannot be merged into the network.

    Args:
        tensors: of the model. network: that is to stand on it, without adapters. path: of the model, for the message.

    Raises:
        CheckpointError: it has all the network's tensors, and more.
    """
    expected = network.state_dict().keys()
    more = sorted(tensors.keys() - expected)
    if more and expected <= tensors.keys():
        raise CheckpointError(
            f"{path} is a model with {len(more)} tensors beside the network's own ({more[0]} and others), expected one "
            "whose adapters are merged: this method's cannot be, so no federation can go on from its models. Give "
            "the base that it stood on"
        )


def unusable(value: Tensor) -> str:
    """Return why a tensor of a checkpoint cannot be part of a network, or nothing."""
    if value.layout != torch.strided or value.is_nested or value.device.type == "meta":
        return f"found a tensor of layout {value.layout} on {value.device.type}, expected a dense one with values"
    if not value.is_floating_point():
        return f"found dtype {value.dtype}, expected floating-point numbers"
    bad = int((~torch.isfinite(value.float())).sum())
    return f"{bad} of {value.numel()} values are NaN or infinite in fp32" if bad else ""


def fingerprint(state: dict[str, Tensor]) -> str:
    """Return the sha256 over the names, shapes and fp32 bytes of ``state``, in the order of names."""
    digest = hashlib.sha256()
    for name in sorted(state):
        value = state[name].detach().to("cpu", torch.float32).contiguous()
        digest.update(f"{name}|{tuple(value.shape)}|".encode())
        digest.update(value.numpy().tobytes())
    return digest.hexdigest()
