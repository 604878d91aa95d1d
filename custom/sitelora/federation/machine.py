"""What a result depends on beside the settings: the machine and the versions, for the record beside every number."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

import sitelora


def hardware() -> dict[str, Any]:
    """Return what this machine is, for the record beside every number."""
    found = {
        "machine": platform.machine(),
        "processor": _processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
    }
    if torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name(0)
    return found


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def versions() -> dict[str, str]:
    """Return the versions that a result depends on."""
    found = {
        "sitelora": sitelora.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    for package in ("monai", "segment-anything", "pytorch-ignite", "nibabel", "nvflare"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
