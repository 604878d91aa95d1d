"""Writing whole or not at all, for the owner's eyes only: the writers that ``run_folder`` gives to a run.

Folders are 0700 and files 0600, whatever the umask. What cannot be written says which file, why, how much it needed and
what to set instead: ``DiskError``.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sitelora.disk import GIVE_RIGHT, NOT_READABLE, filling, is_closed
from sitelora.disk import DiskError as DiskError
from sitelora.disk import saying as saying
from sitelora.wants import system_code

if TYPE_CHECKING:  # torch takes a second to import, and status needs none of it
    from torch import Tensor

PRIVATE_FOLDER, PRIVATE_FILE = 0o700, 0o600


def private_folder(folder: Path) -> Path:
    """Make a folder and those above it that are missing, all for the owner only; one that is there stays as it is.

    Raises:
        DiskError: it cannot be made.
    """
    with saying(folder):
        missing = [path for path in (folder, *folder.parents) if not path.exists()]
        for path in reversed(missing):
            with contextlib.suppress(FileExistsError):
                path.mkdir(mode=PRIVATE_FOLDER)
        if not folder.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, "a file is in its place", str(folder))
    return folder


def make_private(path: Path) -> None:
    """Take all rights of others from a file, or from a folder and everything in it."""
    for each in (path, *(path.rglob("*") if path.is_dir() else ())):
        if not each.is_symlink():
            each.chmod(PRIVATE_FOLDER if each.is_dir() else PRIVATE_FILE)


@contextlib.contextmanager
def new_file(path: Path, *, needs: int = 0, private: bool = True) -> Iterator[Path]:
    """Yield a sibling path to write to; it becomes ``path`` by one rename, or leaves nothing.

    Args:
        needs: bytes that are written, as far as that is known.
        private: for the owner only; else as the umask says (what is published, such as a comparison).

    Raises:
        DiskError: it cannot be written.
    """
    if private:
        private_folder(path.parent)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with saying(path, needs=needs):
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.touch(mode=PRIVATE_FILE if private else 0o666)
            yield temporary
            if private:
                make_private(temporary)
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Yield a folder to fill; it becomes ``folder`` by one rename, in place of an older one, or leaves nothing.

    Raises:
        DiskError: it cannot be written.
    """
    private_folder(folder.parent)
    temporary = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
    try:
        with saying(folder):
            temporary.mkdir(mode=PRIVATE_FOLDER)
        with filling(temporary, shown=folder):
            yield temporary
        with saying(folder):
            make_private(temporary)
            if folder.exists():
                shutil.rmtree(folder)
            os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_json(path: Path, content: Mapping[str, Any], *, private: bool = True) -> None:
    """Write JSON through a sibling file and one rename; further arguments are those of ``new_file``."""
    text = (json.dumps(content, indent=1) + "\n").encode()
    with new_file(path, needs=len(text), private=private) as temporary:
        temporary.write_bytes(text)


class DamagedStateError(ValueError):
    """A file of a run's state is not what was written; ``code``: what leaves a site of it."""

    code = "state_damaged"


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; the error of a broken file names it.

    Raises:
        DamagedStateError: it is no JSON, or another value than an object.
    """
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise DamagedStateError(f"{path} is no valid JSON ({error}); restore it or remove its folder") from error
    if not isinstance(content, dict):
        raise DamagedStateError(f"{path} holds a {type(content).__name__}, expected a JSON object")
    return content


def json_if_readable(path: Path) -> dict[str, Any]:
    """Read a JSON object; empty where there is none that can be read, for who looks at many runs and needs none."""
    try:
        content = json.loads(path.read_bytes()) if path.is_file() else {}
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def append_line(path: Path, line: str) -> None:
    """Append one line to a log, in one write.

    Raises:
        DiskError: it cannot be written.
    """
    private_folder(path.parent)
    data = (line + "\n").encode()
    with saying(path, needs=len(data)), open(path, "ab", opener=_private_opener) as stream:
        stream.write(data)


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors as safetensors, in the order of their names.

    Raises:
        DiskError: it cannot be written.
    """
    import safetensors.torch

    ordered = {name: tensors[name].detach().cpu().contiguous().clone() for name in sorted(tensors)}
    with saying(path, needs=sum(tensor.nbytes for tensor in ordered.values())):
        safetensors.torch.save_file(ordered, str(path))


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file.

    Raises:
        ValueError: the file is damaged; its name and what to do. MemoryError: there is no room to read it into.
        PermissionError: this user may not read it.
    """
    import safetensors.torch

    try:
        return safetensors.torch.load_file(str(path))
    except Exception as error:
        if system_code(error) == errno.ENOMEM:
            raise MemoryError(f"{path}: there is no memory to read it into") from error
        if is_closed(path, error):
            raise PermissionError(f"{path} is {NOT_READABLE}; {GIVE_RIGHT}") from error
        raise ValueError(f"{path} cannot be read ({error}); remove its folder to go back one round") from error


def remove_leftovers(folder: Path) -> None:
    """Remove what an interrupted ``new_folder`` or ``new_file`` left behind."""
    for leftover in folder.glob(".*.*"):
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


def _private_opener(path: str, flags: int) -> int:
    return os.open(path, flags, PRIVATE_FILE)
