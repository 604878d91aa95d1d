"""Whether the device that a site names is one of this machine: asked before anything is built or trained on it."""

from __future__ import annotations

import torch

REMEDY = 'set "device" (and "precision") in the "settings" of the site\'s local/sitelora.json'


def usable_device(name: str | torch.device) -> torch.device:
    """Return the device of this name.

    Args:
        name: any device of torch, for example "cpu" or "cuda:1".

    Raises:
        ValueError: torch knows no such device, or this machine has none of that kind or of that number.
    """
    found = f"found device={str(name)!r}"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(
            f"{found}, which torch {torch.__version__} does not know; expected cpu or cuda:0; {REMEDY}"
        ) from error
    if device.type == "cpu":
        return device
    try:
        module = torch.get_device_module(device)
        there = module.device_count() if module.is_available() else 0
    except (AttributeError, RuntimeError):
        there = 0
    if there <= (device.index or 0):
        raise ValueError(
            f"{found}, expected a device of this machine: torch {torch.__version__} sees {there} of kind {device.type} "
            f"here (numbered from 0); {REMEDY}"
        )
    return device
