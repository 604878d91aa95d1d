"""What is on a disk, and what the system says of it, in words that name the place and what to do."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from sitelora.home import HOME_VARIABLE
from sitelora.wants import FULL, system_code

OTHER_HOME = f'set {HOME_VARIABLE} (or "home" in local/sitelora.json) to a folder'
OTHER_OUT, OTHER_OUT_FILE = "name with --out a folder", "name with --out a file"
"""How a person names another place: for what a process keeps at home, and for what a command was asked to write."""
NOT_READABLE = "a file that this user may not read"
GIVE_RIGHT = "give this user the right to read it and to enter the folders above it"
"""The remedy where a file is whole and closed: to make it anew would not open it."""
_CLOSED = frozenset((errno.EACCES, errno.EPERM))
_NO_RIGHT = _CLOSED | {errno.EROFS}
_IN_THE_WAY = frozenset((errno.EEXIST, errno.ENOTDIR, errno.EISDIR))


class DiskError(OSError):
    """Something cannot be written; the message names it, the reason, and what to set or free."""

    def __str__(self) -> str:
        """Return the message without the system's number before it."""
        return self.strerror or super().__str__()


@contextlib.contextmanager
def saying(path: Path, *, needs: int = 0, elsewhere: str = OTHER_HOME) -> Iterator[None]:
    """Turn the system's error while ``path`` is written into one that says what to do.

    Args:
        needs: bytes that are written, as far as that is known.
        elsewhere: how a person names another place for it, up to the word for it.

    Raises:
        DiskError: in place of an ``OSError``, or of the error that safetensors or torch make of one.
    """
    try:
        yield
    except DiskError:
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise DiskError(error.errno, _what_to_do(path, error.errno, reason, needs, elsewhere)) from error
    except Exception as error:
        code = system_code(error)
        if code is None:
            raise
        raise DiskError(code, _what_to_do(path, code, os.strerror(code), needs, elsewhere)) from error


@contextlib.contextmanager
def filling(folder: Path, *, shown: Path, elsewhere: str = OTHER_HOME) -> Iterator[None]:
    """As ``saying``, for work that also reads: an error of something that is read is not ours to explain.

    Args:
        folder: all that is written lies in it. shown: what the message names in its place. elsewhere: as of ``saying``.

    Raises:
        DiskError: no room, or no right to a file below the folder; whatever a library has made of the system's error.
    """
    try:
        yield
    except Exception as error:
        behind = _system_error(error)
        if behind is None or isinstance(error, DiskError):
            raise
        if behind.errno not in FULL and not (behind.errno in _NO_RIGHT and _lies_in(behind.filename, folder)):
            raise
        reason = behind.strerror or str(behind)
        raise DiskError(behind.errno, _what_to_do(shown, behind.errno, reason, 0, elsewhere)) from error


def is_closed(file: Path, error: BaseException) -> bool:
    """Say whether an error comes of a file that this user may not read; the remedy is ``GIVE_RIGHT``.

    Args:
        error: of whoever has read it: of a closed file safetensors says that there is none.
    """
    return system_code(error) in _CLOSED or (os.path.exists(file) and not os.access(file, os.R_OK))


def is_absent(file: Path) -> bool:
    """Say whether there is no such file; of one in a closed folder nobody can say, and who reads it is told so."""
    try:
        return not file.is_file()
    except PermissionError:
        return False


def below(folder: Path, pattern: str = "*") -> list[Path]:
    """Return what is below a folder, files, folders and links, sorted; no link is followed.

    Args:
        pattern: of their names.

    Raises:
        PermissionError: of a folder that is closed to this user: a listing without it would be taken for whole.
    """
    found, closed = list[Path](), list[OSError]()
    for place, folders, files in os.walk(folder, onerror=closed.append):
        found += [Path(place, name) for name in (*folders, *files) if fnmatchcase(name, pattern)]
    for error in closed:
        if error.errno in _CLOSED:
            raise PermissionError(f"{error.filename} is a folder that this user may not read; {GIVE_RIGHT}") from error
    return sorted(found)


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _system_error(error: BaseException) -> OSError | None:
    """Return the system's error that stands behind an error: MONAI wraps twice what a transform raises."""
    one: BaseException | None = error
    while one is not None and not (isinstance(one, OSError) and one.errno is not None):
        one = one.__cause__ or (None if one.__suppress_context__ else one.__context__)
    return one


def _lies_in(file: object, folder: Path) -> bool:
    return isinstance(file, str | os.PathLike) and Path(os.path.abspath(file)).is_relative_to(os.path.abspath(folder))


def _what_to_do(path: Path, code: int | None, reason: str, needs: int, elsewhere: str) -> str:
    wanted = f"; writing it needs {_size(needs)}" if needs else ""
    if code in FULL:
        free = next((shutil.disk_usage(each).free for each in (path, *path.absolute().parents) if each.exists()), 0)
        return (
            f"{path}: {reason}{wanted}, {_size(free)} are free there; free some or raise the limit, or {elsewhere} "
            "on a larger disk. What was written before is whole"
        )
    if code == errno.ENOMEM:
        return f"{path} cannot be written: {reason}{wanted}; give this process more. What was written before is whole"
    if code in _IN_THE_WAY:
        return f"{path} cannot be written: {reason}; move away what is there, or {elsewhere} that this user may write"
    return f"{path} cannot be written: {reason}{wanted}; give this user the right, or {elsewhere} that it may write"


def _size(count: int) -> str:
    amount = float(count)
    for unit in ("bytes", "kB", "MB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}"
        amount /= 1000
    return f"{amount:.1f} GB"
