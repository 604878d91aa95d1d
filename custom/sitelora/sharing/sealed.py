"""Tensors that nobody looks into: their bytes with type and shape, for a process that only passes them on.

Importing torch takes longer than everything else that a process of NVFlare's simulator does before its one task. The
bytes are those of safetensors (https://github.com/huggingface/safetensors, "Format"): eight with the header's length,
the header as JSON, the values. Nothing of it can name code.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

_SIZES = {
    **{"F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4},
    **{"F16": 2, "BF16": 2, "I16": 2, "U16": 2, "I8": 1, "U8": 1, "BOOL": 1},
}
"""Bytes of a value, by the format's name of its type."""
_LENGTH = struct.Struct("<Q")
_ALIGNED = 8


class SealError(ValueError):
    """Bytes that are no tensors of this format."""

    code = "message_refused"


@dataclass(frozen=True)
class Sealed:
    """One tensor.

    Args:
        dtype: of a value, as the format calls it ("F32", "BF16"). shape: sizes. data: values, little-endian, dense.
    """

    dtype: str
    shape: tuple[int, ...]
    data: bytes


def pack(tensors: Mapping[str, Sealed]) -> bytes:
    """Return sealed tensors by name as one safetensors file."""
    header: dict[str, Any] = {}
    values, at = [], 0
    for name in sorted(tensors, key=lambda each: (-_SIZES[tensors[each].dtype], each)):  # wide types first: aligned
        one = tensors[name]
        header[name] = {"dtype": one.dtype, "shape": list(one.shape), "data_offsets": [at, at + len(one.data)]}
        values.append(one.data)
        at += len(one.data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNED)
    return b"".join((_LENGTH.pack(len(text)), text, *values))


def unpack(data: bytes) -> dict[str, Sealed]:
    """Undo ``pack``.

    Raises:
        SealError: it is no safetensors file, or one of a type that is not known here.
    """
    try:
        (length,) = _LENGTH.unpack_from(data)
        start = _LENGTH.size + length
        header = json.loads(data[_LENGTH.size : start])
        found = {}
        for name, one in header.items():
            if name == "__metadata__":
                continue
            first, last = one["data_offsets"]
            values = data[start + first : start + last]
            if len(values) != _SIZES[one["dtype"]] * math.prod(one["shape"]) or len(values) != last - first:
                raise SealError(f"{name} has {len(values)} bytes, expected {one['dtype']} {one['shape']}")
            found[name] = Sealed(one["dtype"], tuple(one["shape"]), values)
        return found
    except (struct.error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SealError(f"no tensors in safetensors' format: {error}") from error


def seal(packet: Mapping[str, Tensor | Sealed]) -> bytes:
    """Return a packet as one safetensors file; torch is imported where it holds tensors."""
    sealed = {name: one for name, one in packet.items() if isinstance(one, Sealed)}
    tensors = {name: one.contiguous() for name, one in packet.items() if not isinstance(one, Sealed)}
    if not tensors:
        return pack(sealed)
    import safetensors.torch

    saved = bytes(safetensors.torch.save(tensors))
    return pack({**sealed, **unpack(saved)}) if sealed else saved


def unseal(data: bytes) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file; imports torch.

    Raises:
        SealError: it is none.
    """
    import safetensors.torch

    try:
        return dict(safetensors.torch.load(data))
    except Exception as error:
        raise SealError(f"no tensors in safetensors' format: {error}") from error
