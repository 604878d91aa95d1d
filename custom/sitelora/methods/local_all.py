"""Every site on its own with every parameter, no adapter: a baseline of full fine-tuning, or of a network from nothing.

What a hospital has without a federation and without adapters; `fedavg_all` is the same averaged.
"""

from __future__ import annotations

from sitelora.method import NO_MEAN, Method
from sitelora.server.mean import WeightedMean
from sitelora.sharing.rule import ShareRule


def local_all() -> Method:
    """Return local training of the whole network."""
    return Method(
        name="local_all",
        paper="baseline",
        adapters=(),
        share=ShareRule(local=("@all",)),
        server=WeightedMean(),
        mean_product=NO_MEAN,
    )
