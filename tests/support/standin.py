"""A stand-in for a GPU where there is none: device ``standin`` of a CPU-only torch, whose tensors hold real values.

A tensor of this device wraps a tensor in memory. Every operation runs on what is wrapped, so it ends with the bits of
the CPU; but first it is looked at who takes part. A tensor in memory of one or more dimensions that meets one of the
device raises, as CUDA would; numbers (no dimension) may mix, also as on CUDA, except where tensors are put together.

``register`` is for the whole process and cannot be taken back. So no test calls it in its own process: see
``tests/device``, which has a child process for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils import backend_registration

NAME = "standin"
COPIES = {"aten::_to_copy", "aten::copy_", "aten::_copy_from"}
INDEXING = {"aten::index", "aten::index_put_", "aten::_index_put_impl_", "aten::index_put"}
"""The indices may lie in memory, but no other tensor."""
NO_NUMBERS = {"aten::cat", "aten::stack"}
"""Where not even a tensor without dimensions may lie elsewhere."""

_kept: list[Any] = []
"""What torch needs to stay alive once registered."""


class CrossingError(RuntimeError):
    """A tensor in memory met one of the stand-in device."""


class _Module:
    """What torch asks a device's module for."""

    bf16 = False

    def is_initialized(self) -> bool:
        return True

    def is_available(self) -> bool:
        return True

    def current_device(self) -> int:
        return 0

    def device_count(self) -> int:
        return 1

    def _is_in_bad_fork(self) -> bool:
        return False

    def manual_seed_all(self, seed: int) -> None:
        """Random numbers are drawn in memory, where they are seeded."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16]

    def is_bf16_supported(self) -> bool:
        return self.bf16


class OnDevice(Tensor):
    """A tensor of the stand-in device.

    Args:
        inside: a plain tensor in memory with the values.
    """

    inside: Tensor

    @staticmethod
    def __new__(cls, inside: Tensor) -> OnDevice:
        made: OnDevice = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            inside.size(),
            strides=inside.stride(),
            storage_offset=inside.storage_offset(),
            dtype=inside.dtype,
            device=f"{NAME}:0",
        )
        made.inside = inside
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl

    def as_subclass(self, cls: type) -> OnDevice:  # type: ignore[override]
        """Stay what it is: a wrapper cannot also be a MetaTensor, so metadata stays behind in memory."""
        return self

    def numpy(self, *, force: bool = False) -> Any:
        """Refuse, as CUDA does: an array lies in memory."""
        raise TypeError(
            f"found a tensor {tuple(self.shape)} of the device {NAME}, expected one in memory: .cpu() first"
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> OnDevice:
        """Copy by hand: torch would copy the storage, and a wrapper has none."""
        if id(self) not in memo:
            made = OnDevice(self.inside.detach().clone())
            made.requires_grad_(self.requires_grad)
            made.__dict__.update({key: value for key, value in self.__dict__.items() if key != "inside"})
            memo[id(self)] = made
        copied: OnDevice = memo[id(self)]
        return copied

    @classmethod
    def __torch_dispatch__(
        cls, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return _run(func, args, dict(kwargs or {}))


def register() -> None:
    """Make ``torch.device("standin")`` a device of this process; once and for all."""
    if _kept:
        return
    module = _Module()
    backend_registration._setup_privateuseone_for_python_backend(rename=NAME, backend_module=module)
    library = torch.library.Library("_", "IMPL")
    library.fallback(lambda func, *args, **kwargs: _run(func, args, kwargs), "PrivateUse1")
    _kept.extend([module, library])


def _run(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Do an operation in memory, after a look at who takes part."""
    name = func._schema.name
    there, elsewhere = _who(name, args, kwargs)
    if there and elsewhere is not None:
        raise CrossingError(f"{name}: a tensor {tuple(elsewhere.shape)} in memory met a tensor of the device {NAME}")
    if kwargs.get("device") is not None:
        there = torch.device(kwargs["device"]).type == NAME
        kwargs["device"] = "cpu"
    result = func(*_inside(args), **{key: _inside(value) for key, value in kwargs.items()})
    if func._schema.is_mutable:  # what is changed is given back as itself
        written = kwargs.get("out", args[0] if args else None)
        return written if isinstance(result, Tensor) and isinstance(written, Tensor) else result
    return _outside(result) if there else result


def _who(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[bool, Tensor | None]:
    """Return whether a tensor of the device takes part, and one in memory that may not take part beside it."""
    there, elsewhere = False, None
    for one in _tensors((*args, *kwargs.values())):
        if isinstance(one, OnDevice):
            there = True
        elif name not in COPIES and (one.dim() or name in NO_NUMBERS):
            elsewhere = one
    if name in INDEXING:
        values = [one for one in (args[0], *args[2:3]) if isinstance(one, Tensor)]
        elsewhere = next((one for one in values if one.dim() and not isinstance(one, OnDevice)), None)
    return there, elsewhere


def _tensors(values: Sequence[Any]) -> Iterator[Tensor]:
    """Yield the tensors among an operation's arguments; torch's own pytree took most of the time here."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)


def _inside(value: Any) -> Any:
    """Return what a value wraps; of a list or tuple, what its parts wrap."""
    if isinstance(value, OnDevice):
        return value.inside
    if isinstance(value, list | tuple):
        return [_inside(one) for one in value]
    return value


def _outside(value: Any) -> Any:
    """Return a result as one of the device."""
    if isinstance(value, Tensor):
        return OnDevice(value)
    if isinstance(value, list | tuple):
        return type(value)(_outside(one) for one in value)
    return value
