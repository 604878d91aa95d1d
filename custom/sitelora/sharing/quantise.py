"""Few bits a value: whole numbers in blocks of 64 and a scale a block, symmetric and to the nearest (int8 and int4).

Values are divided by their block's scale, which is the block's largest magnitude over the largest whole number, rounded
to bf16 first: rounding uses the very scale that travels, so what comes back is within half a step of what left, and a
block of zeros is zeros. Nothing is drawn, so the same values give the same bytes, and only these bytes are read: whole
numbers under a scale of zero, or half as large under twice the scale, would be bits that no norm and no log tells of.
Blocks are those of block-wise quantisation (QLoRA, arXiv:2305.14314); their size is our choice: with 64 values the
scale costs int4 a sixteenth.

No end remembers what rounding took (error feedback): a difference is of what the site received, so what was taken from
one round's is in the next one's. Over a hundred rounds a thousandth of what was learnt is missing (int4 up).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sitelora.sharing.layout import Form, Layout, plain_shape
from sitelora.sharing.wire import DELTA, Packet, cast

BLOCK = 64
"""Values that have one scale. A tensor of fewer travels in the wire's dtype: a name and a form more would cost what the
bits save, and such tensors are the ones (biases) that a step hurts."""
SCALE = "#scale"
"""Ends the name of the tensor of scales; no module of torch's has it in its name, and `Quantise.layout` refuses one."""
LEVELS: Mapping[int, int] = {8: 127, 4: 7}
"""Largest whole number by bits; the smallest is its negative."""
_NOTHING = 8
"""The half byte after an odd number of packed values: as a value it would be -8, which no rounding gives."""

_SCALE_DTYPE = torch.bfloat16
_TINY = torch.finfo(torch.float32).tiny
"""Smallest scale: bf16 holds smaller ones badly."""


@dataclass(frozen=True)
class Quantise:
    """Every tensor of a block and more in whole numbers with scales beside them; the others in one dtype.

    Base deltas go in the dtype too: they stay beside a site's base for good, and a rounding of theirs adds up.

    Args:
        bits: 8, a value an int8 of the same shape; or 4, two values a uint8 in one row, the first in the lower half.
        dtype: of the tensors that are not quantised.

    Raises:
        ValueError: other bits.
    """

    bits: int
    dtype: torch.dtype

    def __post_init__(self) -> None:
        if self.bits not in LEVELS:
            raise ValueError(f"bits is {self.bits}; expected one of {', '.join(map(str, LEVELS))}")

    @property
    def growth(self) -> float:
        """Largest share by which rounding lengthens values: one of a block is large, all others go up by half a step.

        The large one is longer by what rounding its scale to bf16 adds. Below ``_TINY`` nobody counts.
        """
        levels, others = LEVELS[self.bits], BLOCK - 1
        large = levels / (1 + torch.finfo(_SCALE_DTYPE).eps / 2)
        squares = ((levels**2 + others * k**2) / (large**2 + others * (k - 0.5) ** 2) for k in range(1, levels + 1))
        return math.sqrt(max(squares)) - 1

    def layout(self, layout: Layout) -> dict[str, Form]:
        """Return whole numbers and scales.

        Raises:
            ValueError: a tensor has the name of another's scales.
        """
        found = {name: replace(form, dtype=self.dtype) for name, form in layout.items()}
        for name, count in _quantised(layout):
            if f"{name}{SCALE}" in layout:
                raise ValueError(f"{name}{SCALE} is a tensor of the packet; expected no name that ends in {SCALE}")
            packed = Form((-(-count // 2),), torch.uint8)
            found[name] = Form(layout[name].shape, torch.int8) if self.bits == 8 else packed
            found[f"{name}{SCALE}"] = Form((_blocks(count),), _SCALE_DTYPE)
        return found

    def encode(self, packet: Packet) -> dict[str, Tensor]:
        """Return whole numbers and scales: of finite values finite ones, of others a scale that no receiver takes."""
        found = cast(packet, self.dtype)
        for name, _ in _quantised({name: Form(tuple(tensor.shape)) for name, tensor in packet.items()}):
            found[name], found[f"{name}{SCALE}"] = self._encoded(packet[name])
        return found

    def decode(self, packet: Packet, layout: Layout) -> dict[str, Tensor]:
        """Return the values in the dtypes of the layout.

        Raises:
            ArithmeticError: a negative scale, or a whole number or a scale that no rounding gives.
        """
        found = {name: packet[name].to(form.dtype) for name, form in layout.items()}
        for name, count in _quantised(layout):
            scales = packet[f"{name}{SCALE}"].float()
            if bool(torch.signbit(scales).any()):  # of zero too
                raise ArithmeticError(f"{name}{SCALE}: {int(torch.signbit(scales).sum())} scales are negative")
            whole = self._whole(name, packet[name], count)
            self._require_rounded(name, whole, scales)
            values = whole.float() * scales.repeat_interleave(BLOCK)[:count]
            found[name] = values.reshape(layout[name].shape).to(layout[name].dtype)
        return found

    def _encoded(self, tensor: Tensor) -> tuple[Tensor, Tensor]:
        levels, shape, count = LEVELS[self.bits], tensor.shape, tensor.numel()
        blocks = _in_blocks(tensor.detach().to("cpu", torch.float32).reshape(-1))
        largest = blocks.abs().amax(dim=1)
        scales = _scales(largest, levels)
        divisors = torch.where(scales > 0, scales, 1).unsqueeze(1)
        rounded = (blocks / divisors).round().clamp(-levels, levels).to(torch.int8)
        scales = torch.where(rounded.any(dim=1), scales, 0.0)  # all too small for the smallest scale: zeros
        scales = torch.where(torch.isfinite(largest), scales, largest)
        whole = rounded.reshape(-1)[:count]
        if self.bits == 8:
            return whole.reshape(shape).clone(), scales.to(_SCALE_DTYPE)
        halves = torch.nn.functional.pad(whole.to(torch.int16) & 15, (0, count % 2), value=_NOTHING)
        return (halves[0::2] | halves[1::2] << 4).to(torch.uint8), scales.to(_SCALE_DTYPE)

    def _whole(self, name: str, sent: Tensor, count: int) -> Tensor:
        whole = sent.reshape(-1)
        if self.bits == 4:
            halves = torch.stack([sent & 15, sent >> 4], dim=1).reshape(-1).to(torch.int8)
            if bool((halves[count:] != _NOTHING).any()):
                raise ArithmeticError(f"{name}: a half byte after its {count} values")
            whole = torch.where(halves > LEVELS[4], halves - 16, halves)[:count]
        if bool((whole < -LEVELS[self.bits]).any()):
            raise ArithmeticError(f"{name}: a value below {-LEVELS[self.bits]}, the smallest that travels")
        return whole

    def _require_rounded(self, name: str, whole: Tensor, scales: Tensor) -> None:
        """Refuse bytes that rounding does not give: a block reaches the largest number or has the smallest scale."""
        largest = _in_blocks(whole).abs().amax(dim=1)
        filled = (largest == LEVELS[self.bits]) & (scales >= _TINY)
        wrong = ~(filled | ((largest == 0) & (scales == 0)) | ((largest > 0) & (scales == _TINY)))
        if bool(wrong.any()):
            raise ArithmeticError(f"{name}{SCALE}: {int(wrong.sum())} scales are not those of their blocks' values")


def form_without_scale(packet: Packet, name: str) -> Form:
    """Return the form of a tensor that came, if nobody says what it was: that of packed values is one row."""
    tensor, shape = packet[name], plain_shape(packet[name])
    if f"{name}{SCALE}" not in packet or len(shape) != 1 or tensor.dtype != torch.uint8:
        return Form(shape)
    return Form((2 * shape[0] - (shape[0] > 0 and int(tensor[-1]) >> 4 == _NOTHING),))


def _quantised(layout: Layout) -> Iterator[tuple[str, int]]:
    """Yield the tensors that travel in whole numbers, with their counts; the layout alone says which."""
    for name, form in layout.items():
        count = math.prod(form.shape)
        if count >= BLOCK and not name.startswith(DELTA):
            yield name, count


def _blocks(count: int) -> int:
    return -(-count // BLOCK)


def _in_blocks(flat: Tensor) -> Tensor:
    return torch.nn.functional.pad(flat, (0, -flat.numel() % BLOCK)).reshape(-1, BLOCK)


def _scales(largest: Tensor, levels: int) -> Tensor:
    """Return scales that bf16 holds; neither so small that it holds them badly nor so large that values overflow."""
    info = torch.finfo(torch.float32)
    most = torch.tensor([info.max / levels]).view(torch.int32).bitwise_and(-65536).view(torch.float32)
    scales = (largest / levels).to(_SCALE_DTYPE).float().clamp(_TINY, float(most))
    return torch.where(largest > 0, scales, 0.0)
