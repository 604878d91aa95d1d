"""Which GPUs NVFlare's simulator gives to the sites: its own option ``-gpu``, judged before anything starts.

NVFlare deals the sites out to the groups in turn and shows each site's process the GPUs of its group and no others.
With several groups it runs one site a group at a time.
"""

from __future__ import annotations

import re

from sitelora.simulator.resolve_run import SimulationError

_GROUP = r"(?:\d{1,3}|\[\d{1,3}(?:,\d{1,3})*\])"
_GROUPS = re.compile(rf"{_GROUP}(?:,{_GROUP})*")


def require_gpus(text: str, *, sites: int) -> str:
    """Return the option as NVFlare takes it.

    Args:
        text: "0", "0,1" (a group a number), or "[0,1],[2]" (a group a bracket). sites: how many are simulated.

    Raises:
        SimulationError: it cannot be read, torch sees no CUDA here or not those GPUs, or more groups than sites.
    """
    gpus = text.replace(" ", "")
    if not _GROUPS.fullmatch(gpus):
        raise SimulationError(f"--gpu: found {text!r}, expected numbers such as 0 or 0,1, or groups such as [0,1],[2]")
    import torch  # takes a second, and the runner starts without it

    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not there:
        raise SimulationError(
            f"--gpu: found {text!r}, but torch {torch.__version__} sees no CUDA device here: leave --gpu out to use "
            "the processor, or install the CUDA build of torch and its driver"
        )
    missing = sorted({int(number) for number in re.findall(r"\d+", gpus)} - set(range(there)))
    if missing:
        raise SimulationError(
            f"--gpu: found {missing[0]}, expected 0 to {there - 1}: torch sees {there} CUDA devices here"
        )
    groups = re.findall(_GROUP, gpus)
    if len(groups) > sites:
        raise SimulationError(
            f"--gpu: found {len(groups)} groups of GPUs for {sites} sites, expected no more groups than sites: leave "
            "some out, or put several into one as [0,1]"
        )
    return gpus
