"""Writing whole or not at all: folders of tensors and JSON that appear by one rename."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON through a sibling file and one rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; the error of a broken file names it."""
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is no valid JSON ({error}); restore it or remove its folder") from error
    return content


def write_folder(folder: Path, fill: Callable[[Path], None]) -> None:
    """Make ``folder`` whole or not at all: filled beside its place, then renamed; replaces an older one."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
    temporary.mkdir()
    try:
        fill(temporary)
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors as safetensors, in the order of their names."""
    ordered = {name: tensors[name].detach().cpu().contiguous().clone() for name in sorted(tensors)}
    safetensors.torch.save_file(ordered, str(path))


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file.

    Raises:
        ValueError: the file is damaged; its name and what to do.
    """
    try:
        return safetensors.torch.load_file(str(path))
    except Exception as error:
        raise ValueError(f"{path} cannot be read ({error}); remove its folder to go back one round") from error


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file's bytes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def remove_leftovers(folder: Path) -> None:
    """Remove what an interrupted ``write_folder`` or ``write_json`` left behind."""
    for leftover in folder.glob(".*.*"):
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)
