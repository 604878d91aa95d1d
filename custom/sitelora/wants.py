"""What the system refused, memory or disk, whoever tells it: torch, safetensors and Python have words of their own."""

from __future__ import annotations

import errno
import re

FULL = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))
"""The system's numbers for a disk, a quota or a file that takes no more."""
_NO_MEMORY = (
    "can't allocate memory",  # torch's allocator
    "Cannot allocate memory",  # the system's word, in a library's error
    "bad_alloc",  # C++, passed through torch
    "can't start new thread",  # Python: no room for a stack
    "could not create a memory",  # oneDNN
)


def system_code(error: BaseException) -> int | None:
    """Return the number of the system's error that an error is, or stands behind it; None where there is none."""
    if isinstance(error, OSError):
        return error.errno
    if isinstance(error, MemoryError) or any(words in str(error) for words in _NO_MEMORY):
        return errno.ENOMEM
    told = re.search(r"\(os error (\d+)\)", str(error))  # as Rust writes it
    if told is not None:
        return int(told.group(1))
    behind = error.__cause__ or error.__context__
    return behind.errno if isinstance(behind, OSError) else None
