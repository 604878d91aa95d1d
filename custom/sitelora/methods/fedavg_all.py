"""FedAvg (McMahan et al. 2017, arXiv 1602.05629) of every parameter: full fine-tuning, no adapter, nothing frozen.

What adapters are measured against, in quality and in bytes. Equal to FLAP-SAM's FullFT mode.
"""

from __future__ import annotations

from sitelora.method import NO_MEAN, Method
from sitelora.server.mean import WeightedMean
from sitelora.sharing.rule import ShareRule


def fedavg_all() -> Method:
    """Return FedAvg of the whole network."""
    return Method(
        name="fedavg_all",
        paper="arXiv:1602.05629",
        adapters=(),
        share=ShareRule(shared=("@all",)),
        server=WeightedMean(),
        mean_product=NO_MEAN,
    )
