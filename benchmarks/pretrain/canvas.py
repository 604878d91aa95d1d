"""A plane on which smooth closed shapes are painted one over the other, keeping exactly what each covers."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

SIDE_PX = 128

KINDS = (
    "body", "lungs", "heart", "bones", "below_lungs", "central_organ", "fluid", "discs",
    "large_organ", "paired_organs", "nuclei", "optic_disc", "vessels", "lesion",
)  # fmt: skip

Array = np.ndarray


class Textures:
    """A bank of noise fields with falling spectra, cut at random places."""

    def __init__(self, seed: int, fields: int = 48, side: int = 256) -> None:
        rng = np.random.default_rng([seed, 1])
        frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.fftfreq(side)[None]) * side
        frequency[0, 0] = 1.0
        bank = []
        for _ in range(fields):
            cut = rng.uniform(2, 60)
            slope = rng.uniform(0.5, 2.0)
            weight = (1 / (1 + (frequency / cut) ** 4)) * frequency**-slope
            noise = np.fft.ifft2(np.fft.fft2(rng.standard_normal((side, side))) * weight).real
            bank.append((noise - noise.mean()) / noise.std())
        self.bank = np.stack(bank).astype(np.float32)

    def cut(self, rng: np.random.Generator) -> Array:
        """Return one ``[128, 128]`` field of mean near 0 and deviation near 1."""
        index, y, x = rng.integers(0, [len(self.bank), 128, 128])
        piece = self.bank[index, y : y + SIDE_PX, x : x + SIDE_PX]
        return piece.T if rng.random() < 0.5 else piece


@dataclass
class Canvas:
    """A plane with warped coordinates on which shapes are painted one over the other."""

    rng: np.random.Generator
    textures: Textures
    plane: Array = field(init=False)  # complex coordinates, about -1-1j to 1+1j
    value: Array = field(init=False)  # [channels, 128, 128]
    kinds: Array = field(init=False)
    objects: list[Array] = field(default_factory=list)
    inner: Array | None = None  # the part of the principal thing that a second class names

    def __post_init__(self) -> None:
        rng = self.rng
        axis = (np.arange(SIDE_PX, dtype=np.float32) + 0.5) / SIDE_PX * 2 - 1
        plane = axis[None] + 1j * axis[:, None]
        turn = rng.normal(0, 0.08) if rng.random() < 0.85 else rng.uniform(-np.pi, np.pi)
        zoom = np.exp(rng.normal(0.02, 0.12))
        if rng.random() < 0.1:  # a small picture in a large field
            zoom *= rng.uniform(1.2, 1.9)
        shift = complex(*rng.normal(0, 0.06, 2))
        plane = (plane - shift) * np.exp(1j * turn) * zoom
        plane = plane.real * np.exp(rng.normal(0, 0.06)) + 1j * plane.imag
        for _ in range(2):  # smooth warps
            wave = rng.uniform(1, 4, 2)
            phase = rng.uniform(0, 2 * np.pi, 4)
            x, y = plane.real, plane.imag
            plane = plane + rng.uniform(0, 0.035) * (
                np.sin(wave[0] * y + phase[0]) * np.cos(wave[1] * x + phase[1])
                + 1j * np.sin(wave[1] * x + phase[2]) * np.cos(wave[0] * y + phase[3])
            )
        self.plane = plane.astype(np.complex64)
        self.value = np.zeros((1, SIDE_PX, SIDE_PX), np.float32)
        self.kinds = np.zeros((len(KINDS), SIDE_PX, SIDE_PX), bool)

    def blob(
        self,
        centre: complex,
        width: float,
        height: float,
        *,
        turn: float = 0.0,
        rough: float = 0.06,
        power: float = 2.0,
        taper: float = 0.0,
    ) -> Array:
        """Return how deep inside a closed shape every place is, ``[128, 128]``: 0 on its edge.

        The shape is a superellipse of half-axes ``width``, ``height`` whose radius has random harmonics 2 to
        5; a ``taper`` of 0.3 makes it 30 % wider at its lower end and narrower at its upper one.
        """
        z = (self.plane - centre) * np.exp(-1j * np.float32(turn))
        x, y = z.real / width, z.imag / height
        if taper:
            x = x / (1 + np.float32(taper) * np.clip(y, -1, 1))
        if power == 2.0:
            radius = np.sqrt(x * x + y * y) + 1e-6
        else:
            radius = (np.abs(x) ** power + np.abs(y) ** power) ** (1 / power) + 1e-6
        edge = np.ones_like(radius)
        if rough > 0:
            unit = ((x + 1j * y) / np.sqrt(x * x + y * y + 1e-12)).astype(np.complex64)
            turning = unit
            for harmonic in range(2, 6):
                turning = turning * unit
                size = rough * self.rng.normal() / harmonic**0.7
                phase = np.exp(2j * np.pi * self.rng.random())
                edge += (turning * np.complex64(size * phase)).real
        return (edge - radius) * np.float32(min(width, height))

    def paint(
        self,
        depth: Array,
        level: float | Array,
        *,
        opacity: float = 1.0,
        texture: float = 0.0,
        soft_px: float = 1.5,
    ) -> Array:
        """Cover the shape with a grey or colour level; return its mask. Edges are soft over ``soft_px``."""
        alpha = np.clip(0.5 + depth * np.float32(SIDE_PX / 2 / soft_px), 0, 1) * np.float32(opacity)
        paint = np.asarray(level, np.float32).reshape(-1, 1, 1)
        if texture:
            paint = paint + np.float32(texture) * self.textures.cut(self.rng)
        self.value = self.value * (1 - alpha) + paint * alpha
        return depth > 0

    def thing(self, mask: Array, kind: str | None = None, *, opaque: bool = True) -> None:
        """Record an object: earlier objects lose what an opaque one covers."""
        if opaque:
            for earlier in self.objects:
                earlier &= ~mask
        self.objects.append(mask.copy())
        if kind is not None:
            self.kinds[KINDS.index(kind)] |= mask
