"""BitFit (Ben Zaken et al. 2022, arXiv 2106.10199), federated: every bias and the heads are averaged, no adapter.

The least that one can fine-tune of a whole network: what adapters have to beat for their bytes.
"""

from __future__ import annotations

from sitelora.method import NO_MEAN, Method
from sitelora.server.mean import WeightedMean
from sitelora.sharing.rule import ShareRule


def bitfit() -> Method:
    """Return FedAvg over the biases of encoder and decoder, and over the heads as in the other methods."""
    return Method(
        name="bitfit",
        paper="arXiv:2106.10199",
        adapters=(),
        share=ShareRule(shared=("**.bias", "@heads")),
        server=WeightedMean(),
        mean_product=NO_MEAN,
    )
