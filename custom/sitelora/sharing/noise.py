"""Noise that nobody can take off: Gaussian values from a stream that only the holder of the site's secret can repeat.

The stream is SHAKE-256 over a key that is an HMAC of the site's secret, so whoever has seen any part of the noise
learns nothing of the rest; no generator of torch or numpy is in it, and nothing of a job, its seed least of all. The
key also holds the hash of the very values that are noised: an update that is sent again carries the same noise and
reveals nothing more, and two updates never carry equal noise, which their difference would cancel.

What it is not: exact over the real numbers. Values are drawn in float64 and added in float32, and the low bits of sums
of floating-point numbers can tell more than the theory of real ones allows (Mironov, CCS 2012). The wire's bf16 leaves
8 of 24 bits, which is no proof against that; opacus' `secure_mode` has one by summing several draws, ours has not.
"""

from __future__ import annotations

import hashlib
import hmac
import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sitelora.sharing.wire import Packet

_PIECE = 1 << 20
"""Values that are drawn at a time: 8 MB of the stream."""


class SecretNoise:
    """A stream of independent standard Gaussian values.

    Args:
        secret: the site's own. parts: what else the stream depends on, anything with a stable ``str``; equal secret and
            parts give equal noise.
    """

    def __init__(self, secret: bytes, *parts: object) -> None:
        told = "\x1f".join(str(part) for part in parts).encode()
        self._key = hmac.new(secret, told, hashlib.sha256).digest()
        self._drawn = 0

    def normal(self, shape: tuple[int, ...]) -> NDArray[np.float64]:
        """Return the next values of the stream, float64 of ``shape``."""
        count = math.prod(shape)
        pieces = [self._piece(min(_PIECE, count - start)) for start in range(0, count, _PIECE)]
        return np.concatenate([np.zeros(0), *pieces]).reshape(shape)

    def _piece(self, count: int) -> NDArray[np.float64]:
        """Return some values by Box and Muller's transform of 53 uniform bits each."""
        pairs = (count + 1) // 2
        stream = hashlib.shake_256(self._key + self._drawn.to_bytes(8, "big")).digest(16 * pairs)
        self._drawn += 1
        uniform = ((np.frombuffer(stream, dtype="<u8") >> 11) + 0.5) * 2.0**-53  # never 0, never 1
        radius, angle = np.sqrt(-2 * np.log(uniform[:pairs])), 2 * math.pi * uniform[pairs:]
        return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:count]


def add_noise(packet: Packet, std: float, noise: SecretNoise) -> dict[str, Tensor]:
    """Add independent Gaussian noise of ``std`` to every value, tensors in the order of their names.

    Args:
        packet: fp32 tensors. std: absolute, in the units of the values. noise: the stream.
    """
    return {
        name: packet[name]
        + torch.from_numpy(np.asarray(std * noise.normal(tuple(packet[name].shape)))).to(packet[name].dtype)
        for name in sorted(packet)
    }
