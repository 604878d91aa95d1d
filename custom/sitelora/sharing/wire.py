"""What travels and how: packets, the wire's format, and the plain functions that the way out is made of.

Up, in this order: difference, then the site's exit (``exit.py``: allow-list, clip, noise, codecs, audit). Down: codecs.
A packet is a flat mapping of tensors; a name that starts with ``@`` is no tensor of the network:
``@<companion>/<tensor>`` belongs to a method's companion tensors, ``@delta/<round>/<adapter>.A`` to a base delta.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from sitelora.sharing.rule import ShareRule

Packet = Mapping[str, Tensor]

DELTA = "@delta/"
"""How the names of base deltas begin."""

ONE_FACTOR, BOTH_FACTORS = NOISE_ON = ("one", "both")
"""Which factors of a pair leave with noise."""

DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}

UNQUANTISED = "none"
BITS = {"int8": 8, "int4": 4}
"""Bits of a value by the name of the whole numbers that it travels in (`Quantise`)."""
UP, DOWN = (UNQUANTISED, *BITS), (UNQUANTISED, "int8")
"""What may travel in whole numbers to the server and from it: int4 changes a difference by a tenth of it, and would
change the values themselves by a tenth of them."""


class EgressError(RuntimeError):
    """A tensor was about to leave the site that the share rule does not let out."""


class PacketError(ValueError):
    """A packet with a wrong name, shape or dtype, or a value that is not finite."""


@dataclass(frozen=True, kw_only=True)
class WireFormat:
    """What both ends agree on about travelling values.

    Args:
        dtype: "bfloat16" (default: half the bytes) or "float32".
        clip_norm: largest L2 norm of a site's whole difference, and of each set of companions by itself; None leaves
            them as they are.
        noise_std: standard deviation of Gaussian noise per value as a multiple of ``clip_norm``, which it needs: it is
            the noise multiplier of differential privacy, and a value gets noise of ``noise_std * clip_norm``.
        noise_on: "one": of a pair of factors that would leave together, B leaves with noise and A stays as it was
            received (its difference leaves as zeros, which hold no data); "both": both leave with noise. Without noise
            it says nothing.
        up: "int8" or "int4": what sites send in a round travels in whole numbers, companions too; "none" (default): in
            ``dtype``. It comes after clip and noise, so what these guarantee stays.
        down: "int8": what the server sends, likewise; base deltas do not. Not int4: these are the values themselves.
    """

    dtype: str = "bfloat16"
    clip_norm: float | None = None
    noise_std: float = 0.0
    noise_on: str = ONE_FACTOR
    up: str = UNQUANTISED
    down: str = UNQUANTISED

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise ValueError(f"wire dtype is {self.dtype!r}; expected one of {sorted(DTYPES)}")
        if self.clip_norm is not None and not self.clip_norm > 0:
            raise ValueError(f"clip_norm is {self.clip_norm}; expected a number above 0, or None")
        if self.noise_std and self.clip_norm is None:
            raise ValueError("noise_std without clip_norm bounds nothing; give both or neither")
        if self.noise_on not in NOISE_ON:
            raise ValueError(f"noise_on is {self.noise_on!r}; expected one of {', '.join(NOISE_ON)}")
        for way, how, known in (("up", self.up, UP), ("down", self.down, DOWN)):
            if how not in known:
                raise ValueError(f"{way} is {how!r}; expected one of {', '.join(known)}")

    @property
    def absolute_noise(self) -> float:
        """Standard deviation of the noise in every value, in the units of the values."""
        return self.noise_std * (self.clip_norm or 0.0)

    def still(self, names: Collection[str]) -> frozenset[str]:
        """Return the tensors, of those that leave together, that stay as received: noise meets one factor alone."""
        return second_factors(names) if self.noise_std > 0 and self.noise_on == ONE_FACTOR else frozenset()

    @property
    def words(self) -> str:
        """What values travel as, up and down."""
        told = [f"{how} {way}" for way, how in (("up", self.up), ("down", self.down)) if how != UNQUANTISED]
        return f"{' and '.join(told)}, the rest {self.dtype}" if told else self.dtype

    @property
    def torch_dtype(self) -> torch.dtype:
        """The torch dtype of travelling values."""
        return DTYPES[self.dtype]


def second_factors(names: Collection[str]) -> frozenset[str]:
    """Return the factors A whose factor B is among the same names, of companions too: one of the two carries no noise.

    With noise on both, the product that acts is ``(B + n)(A + m) = BA + nA + Bm + nm``: beside what noise on one
    factor would add there are a second term and a product of two noises, Gaussian no more and of the order of their
    square. With A as it was, ``(B + n) A = BA + nA`` (FFA-LoRA, arXiv 2403.12313).
    """
    here = set(names)
    return frozenset(name for name in here if name.endswith(".A") and f"{name[:-2]}.B" in here)


def difference(trained: Mapping[str, Tensor], received: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return ``trained - received`` in fp32 for every tensor in ``trained``."""
    return {name: trained[name].float() - received[name].float() for name in sorted(trained)}


def allow_only_shared(packet: Packet, share: ShareRule, companions: Collection[str] = ()) -> dict[str, Tensor]:
    """Return the packet unchanged if every tensor in it may leave the site; fails closed.

    Raises:
        EgressError: a tensor that the rule does not call shared, or a companion that the method does not have.
    """
    for name in sorted(packet):
        tensor_name = name
        if name.startswith("@"):
            companion, _, tensor_name = name[1:].partition("/")
            if companion not in companions:
                raise EgressError(
                    f"nothing left: {name} belongs to no companion of this method (it has {sorted(companions)})"
                )
        if not share.is_shared(tensor_name):
            kinds = share.kinds_of(tensor_name)
            found = f"{kinds[0][0]} ({kinds[0][1]})" if kinds else "unknown to the share rule"
            raise EgressError(
                f"nothing left: {name} is {found}; only shared tensors leave a site. The job asks for another "
                "share rule than the bundle installed here: install the job's version or stop it"
            )
    return dict(packet)


def global_norm(packet: Packet) -> float:
    """Return the L2 norm over all values of a packet."""
    return math.sqrt(sum(float(t.double().square().sum()) for _, t in sorted(packet.items())))


def clip(packet: Packet, max_norm: float) -> dict[str, Tensor]:
    """Scale the whole packet so that its L2 norm is at most ``max_norm``."""
    norm = global_norm(packet)
    factor = min(1.0, max_norm / norm) if norm > 0 else 1.0
    return {name: tensor * factor for name, tensor in packet.items()}


def cast(packet: Packet, dtype: torch.dtype) -> dict[str, Tensor]:
    """Return the packet in ``dtype``, contiguous, detached and on the CPU."""
    return {name: tensor.detach().to("cpu", dtype).contiguous() for name, tensor in packet.items()}


def packet_bytes(packet: Packet) -> int:
    """Return the bytes of a packet's values."""
    return sum(tensor.numel() * tensor.element_size() for tensor in packet.values())


def tensor_sha256(tensor: Tensor) -> str:
    """Return the sha256 of a tensor's raw little-endian bytes."""
    data = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    return hashlib.sha256(data.numpy().tobytes()).hexdigest()


def packet_sha256(packet: Packet) -> str:
    """Return one sha256 over names, dtypes, shapes and bytes of a packet, whatever its order."""
    total = hashlib.sha256()
    for name in sorted(packet):
        tensor = packet[name]
        total.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|{tensor_sha256(tensor)}\n".encode())
    return total.hexdigest()
