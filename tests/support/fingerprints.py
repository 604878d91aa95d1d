"""What two rounds of a method end with, small enough to be committed: of every tensor the norm and eight values.

Two sites, ``fixed_input.npz``, fp32, one thread, site-2 away in the first round, a float32 wire: rounding to bfloat16
flips a digit where a value lies between two steps, and another processor's order of sums is enough for that. No
gradient is clipped: the references of most methods are older than the clipping, which has tests of its own. Rank 4
where a method has a rank, so that a product of two steps fills it: directions that a SVD may choose freely would be
others on every processor.

AdamW divides a gradient by its own size, so where a gradient is rounding alone the step is arbitrary: here its
``eps`` is 1e-4, larger than that, and a step changes no more than the gradient does. With it AVX512, AVX2 and no vector
instructions at all end within 2e-5 of each other in every norm and 3e-4 in every value, factors of a SVD included.

Two fingerprints agree when every norm does to 1e-4 and of a method's values no more than one in a hundred is off by
more than 1e-4, and none by more than 1e-3. The measure of a value is the larger of itself and its tensor's root mean
square: beside others, a value close to zero is what rounding left of them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from safetensors.torch import load_file
from torch import Tensor

from fixed_input import SITES
from sitelora.federation.in_process import run_in_process
from sitelora.federation.site import Site
from sitelora.method_registry import accepted, find_method, with_arguments
from sitelora.sharing.wire import Packet, WireFormat

ROUNDS = 2
VARIANTS = ("flap_sam+adapter=dora", "flap_sam+adapter=mixture")
"""Methods whose arguments put something else into the network."""

RELATIVE, STRAY = 1e-4, 1e-3
STRAYS = 0.01
EPS = 1e-4
NOISE = 1e-10
"""A root mean square below which a tensor is rounding alone."""
VALUES = 8
FOLDER = Path(__file__).with_name("fingerprints")
PRIVATE = ("local", "copies", "memory", "delta")
"""What of a site's state is looked at. Not the moments: where a gradient is zero they are squares of noise."""

Fingerprint = dict[str, list[float]]
"""By tensor: norm, number of values, then up to eight of the values, evenly spread over the flattened tensor."""


def values_for(method: str) -> dict[str, object]:
    """Return the bundle's values of a small federation of a method, for example "iat" or "flap_sam+adapter=dora"."""
    name, arguments = with_arguments(method)
    arguments = {**accepted(find_method(name), {"rank": 4, "scale": 1.0}), **arguments}
    return {
        "image_size": 32,
        "base": None,
        "crops_per_volume": 1,
        "slices": 2,
        "epochs": 1,
        "precision": "fp32",
        "max_gradient_norm": 0.0,
        "method": name,
        **{f"method#{key}": value for key, value in arguments.items()},
    }


class SteadyAdamW(torch.optim.AdamW):
    """AdamW whose steps follow the size of a small gradient."""

    def __init__(self, params: Any, *, lr: float, weight_decay: float) -> None:
        super().__init__(params, lr=lr, weight_decay=weight_decay, eps=EPS)


def two_rounds(
    method: str,
    *,
    data: Path,
    home: Path,
    site_values: Mapping[str, Any] | None = None,
    afterwards: Callable[[Mapping[str, Site], Callable[[str], Packet]], None] | None = None,
) -> dict[str, Tensor]:
    """Train two rounds of a method on the fixed input below ``data``; return every tensor that they end with.

    Args:
        site_values: what every site sets for itself, for example another device than the CPU.
        afterwards: what is done with the sites at the end, as of ``run_in_process``.
    """
    with patch("torch.optim.AdamW", SteadyAdamW):  # a job cannot set eps, and the bundle has its own
        run_in_process(
            bundle="iat_segmentation",
            dataset="prostate",
            sites=SITES,
            rounds=ROUNDS,
            federation="fingerprint",
            uid="run",
            data=data,
            home_folder=home,
            overrides=values_for(method),
            wire=WireFormat(dtype="float32"),
            attends=lambda site, round_number: (site, round_number) != ("site-2", 0),
            evaluate=False,
            site_values={"device": "cpu", **(site_values or {})},
            afterwards=afterwards,
        )
    return ended_with(home / "fingerprint" / "run")


def ended_with(run: Path) -> dict[str, Tensor]:
    """Return what the last round of a run left at the server and at the sites; base deltas as their products."""
    found: dict[str, Tensor] = {}
    for owner in ("server", *SITES):
        last = sorted(run.glob(f"{owner}/round_*/state.safetensors"))[-1]
        tensors = load_file(last)
        if owner != "server":
            tensors = {name: tensor for name, tensor in tensors.items() if name.partition(":")[0] in PRIVATE}
        found.update({f"{owner}:{name}": tensor for name, tensor in _with_products(tensors)})
    return found


def _with_products(tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors; a base delta's two factors are one of many ways to write their product, which is yielded."""
    for name, tensor in tensors.items():
        if not name.startswith("delta:"):
            yield name, tensor
        elif name.endswith(".B"):
            yield name[: -len(".B")], tensor.double() @ tensors[f"{name[:-1]}A"].double()


def fingerprint(tensors: Mapping[str, Tensor]) -> Fingerprint:
    """Return the fingerprint of named tensors."""
    found = {}
    for name in sorted(tensors):
        flat = tensors[name].detach().double().flatten()
        places = sorted({round(i * (len(flat) - 1) / (VALUES - 1)) for i in range(VALUES)}) if len(flat) else []
        found[name] = [float(flat.norm()), len(flat), *(float(flat[place]) for place in places)]
    return found


def differences(found: Fingerprint, expected: Fingerprint, *, looser: float = 1.0) -> list[str]:
    """Return one line for every tensor that is missing, unexpected or another one; none where they agree.

    Args:
        looser: how many times further than on a processor norms and values may be off, for other hardware.
    """
    wrong = [f"{name}: no longer there" for name in sorted(set(expected) - set(found))]
    wrong += [f"{name}: not there before" for name in sorted(set(found) - set(expected))]
    strays = []
    both = sorted(set(found) & set(expected))
    for name in both:
        now, then = found[name], expected[name]
        if len(now) != len(then) or now[1] != then[1]:
            wrong.append(f"{name}: {now[1]:g} values, expected {then[1]:g}")
            continue
        rms = max(then[0] / math.sqrt(max(1.0, then[1])), NOISE)
        if not abs(now[0] - then[0]) <= looser * RELATIVE * rms * math.sqrt(max(1.0, then[1])):
            wrong.append(f"{name}: norm {now[0]:.6g}, expected {then[0]:.6g}")
        for place, (one, other) in enumerate(zip(now[2:], then[2:], strict=True)):
            off = abs(one - other) / max(abs(other), rms)
            line = f"{name}: value {place} of {len(then) - 2} is {one:.6g}, expected {other:.6g}"
            if not off <= looser * STRAY:
                wrong.append(line)
            elif off > looser * RELATIVE:
                strays.append(line)
    looked_at = sum(len(expected[name]) - 2 for name in both)
    return wrong + (strays if len(strays) > STRAYS * looked_at else [])


def reference_file(method: str) -> Path:
    """Return where the reference of a method is kept."""
    return FOLDER / f"{method}.json"


def read_reference(method: str) -> Fingerprint:
    """Return the committed fingerprint of a method.

    Raises:
        AssertionError: it has none; says how to make it.
    """
    path = reference_file(method)
    assert path.is_file(), (
        f"{method} has no fingerprint yet: `pytest tests/conformance --renew {method}` makes it; commit {path.name}"
    )
    stored: Fingerprint = json.loads(path.read_text(encoding="utf-8"))
    return stored


def write_reference(method: str, found: Fingerprint) -> None:
    """Write the reference of a method: six digits, a line a tensor, so that a diff shows which tensors changed."""
    lines = [
        f"{json.dumps(name)}: [{values[0]:.6g}, {values[1]:g}{''.join(f', {v:.6g}' for v in values[2:])}]"
        for name, values in sorted(found.items())
    ]
    FOLDER.mkdir(exist_ok=True)
    reference_file(method).write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
