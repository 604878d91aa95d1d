"""What a packet must look like, tensor by tensor: shape and dtype by name, checked exactly at both ends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from sitelora.sharing.wire import Packet, PacketError

SHOWN = 5
"""How many faults of one packet an error names; the others are counted."""


@dataclass(frozen=True)
class Form:
    """Shape and dtype of one tensor."""

    shape: tuple[int, ...]
    dtype: torch.dtype = torch.float32


_SLACK = 1 << 16
"""Bytes that a buffer may have beside its tensors: a header, padding."""

Layout = Mapping[str, Form]
"""Form of every tensor of a packet, by name."""


def layout_of(packet: Packet) -> dict[str, Form]:
    """Return the layout of a packet as it is."""
    return {name: Form(tuple(tensor.shape), tensor.dtype) for name, tensor in packet.items()}


def plain_shape(tensor: object) -> tuple[int, ...]:
    """Return the shape of whatever a stranger sent as a tensor; of what has none, that of a single number."""
    plain = isinstance(tensor, Tensor) and tensor.layout == torch.strided and not tensor.is_nested
    return tuple(tensor.shape) if isinstance(tensor, Tensor) and plain else ()


def with_companions(layout: Layout, companions: tuple[str, ...]) -> dict[str, Form]:
    """Return a layout with one tensor of the same form for every companion set, under ``@<companion>/<tensor>``."""
    return {**layout, **{f"@{companion}/{name}": form for companion in companions for name, form in layout.items()}}


def check_packet(packet: Packet, layout: Layout, *, sender: str) -> None:
    """Check names, shapes, dtypes and finiteness of a packet against what was expected, exactly.

    Raises:
        PacketError: with the sender, the first tensors at fault, what was found and what was expected.
    """
    problems = [f"{readable_name(name)}: unexpected tensor" for name in sorted(set(packet) - set(layout), key=str)]
    problems += [f"{name}: missing" for name in sorted(set(layout) - set(packet))]
    for name in sorted(set(packet) & set(layout)):
        problem = _problem(packet[name], layout[name])
        problems += [f"{name}: {problem}"] if problem else []
    if problems:
        shown = "; ".join(f"{problem:.200}" for problem in problems[:SHOWN])
        more = f"; and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        raise PacketError(f"{sender}: {shown}{more}")


def readable_name(name: object) -> str:
    """Return a tensor's name as a log and a record may hold it: another machine chose it, line ends and colours too."""
    return name if isinstance(name, str) and name.isprintable() else ascii(name)


def check_memory(packet: Packet, *, sender: str) -> None:
    """Check that the tensors of a packet that came are nothing but their own values in memory.

    A few numbers may be a view of gigabytes, one value may be shown a million times, and a subclass may say of itself
    what it likes. What a packet of this layout needs is room for all of its tensors: they may share one buffer.

    Args:
        packet: that `check_packet` has passed.

    Raises:
        PacketError: with the sender and the first tensor at fault.
    """
    room = sum(tensor.numel() * tensor.element_size() for tensor in packet.values()) + _SLACK
    for name in sorted(packet):
        if problem := _foreign_memory(packet[name], room):
            raise PacketError(f"{sender}: {name}: {problem}")


def _foreign_memory(tensor: Tensor, room: int) -> str:
    if type(tensor) is not Tensor or tensor.requires_grad:
        return f"found a {type(tensor).__name__} with requires_grad={tensor.requires_grad}, expected plain values"
    if not tensor.is_contiguous() or tensor.is_conj() or tensor.is_neg():
        return f"found a view with strides {tensor.stride()}, expected values one after the other"
    held = tensor.untyped_storage().nbytes()
    return f"found a view of {held} bytes, expected at most {room}" if held > room else ""


def _problem(tensor: object, form: Form) -> str:
    """Return what is wrong with one tensor; only a plain tensor in memory can be looked at."""
    if not isinstance(tensor, Tensor):
        return f"found {type(tensor).__name__}, expected a tensor"
    if tensor.layout != torch.strided or tensor.is_nested or tensor.is_quantized:
        return f"found a {tensor.layout} tensor, expected a dense one"
    if tensor.device.type != "cpu":
        return f"found a tensor on {tensor.device}, expected one in memory"
    if tuple(tensor.shape) != form.shape:
        return f"shape {tuple(tensor.shape)}, expected {form.shape}"
    if tensor.dtype != form.dtype:
        return f"dtype {tensor.dtype}, expected {form.dtype}"
    bad = int((~torch.isfinite(tensor)).sum())
    return f"{bad} values are NaN or infinite" if bad else ""
