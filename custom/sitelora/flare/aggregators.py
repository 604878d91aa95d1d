"""LoRA-SVD (FLAP-SAM, arXiv 2407.21739) and SGCA (FedSCA, arXiv 2503.15390) as components of NVFlare's stock FedAvg.

    FedAvgRecipe(..., aggregator=LoRASVDAggregator())            # full parameters, NVFlare's default
    FedAvgRecipe(..., aggregator=SGCAAggregator(), params_transfer_type=TransferType.DIFF)

Nothing else of SiteLoRA is needed: no bundle, no executor. NVFlare's FedAvg sends one model to all sites, so SGCA is in
its global mode here; a model for every site is what SiteLoRA's own controller does.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

import torch
from nvflare.app_common.abstract.fl_model import ParamsType
from torch import Tensor

from sitelora.flare.round_results import RoundAggregator
from sitelora.server.mean import weighted_mean
from sitelora.server.product import ProductMeanSVD
from sitelora.server.similarity import similarity_weights
from sitelora.server.types import ANY_SITE, Update

logger = logging.getLogger(__name__)


class LoRASVDAggregator(RoundAggregator):
    """The best rank-r factors of the weighted mean of the products B A; every other tensor is averaged.

    Args:
        factor_a: how the name of a factor A ends, ``[r, d_in]``; ``.lora_A.default.weight`` for PEFT.
        factor_b: how the name of its factor B ends, ``[d_out, r]``, with the same beginning.
        split: which factor takes the singular values: "A" (the paper's), "B" or "symmetric".
    """

    def __init__(self, factor_a: str = ".A", factor_b: str = ".B", split: str = "A") -> None:
        super().__init__()
        self.factor_a = factor_a
        self.factor_b = factor_b
        self.split = split
        ProductMeanSVD(split=split)  # a wrong one is told when the job is made

    def combine(
        self, values: Mapping[str, Mapping[str, Tensor]], shares: Mapping[str, float], kind: ParamsType
    ) -> dict[str, Tensor]:
        """Return mean products, refactored, and means of the rest.

        Raises:
            ValueError: differences instead of full parameters, or no pair of factors among the names.
        """
        if kind != ParamsType.FULL:
            raise ValueError(
                f"LoRASVDAggregator got {kind.value} parameters; a difference of factors is no factor of a difference: "
                "leave the recipe's params_transfer_type at TransferType.FULL"
            )
        names = self._our_names(next(iter(values.values())))
        # The rule weighs by whole cases, NVFlare's weights may be any number: shares as whole parts of 2 ** 40.
        updates = {
            site: Update(
                values=(ours := {names[name]: tensor for name, tensor in tensors.items()}),
                received=ours,  # what the sites had received plays no part in this rule
                cases=max(1, round(shares[site] * 2**40)),
            )
            for site, tensors in values.items()
        }
        messages, _ = ProductMeanSVD(split=self.split)(updates, {}, self._round or 0)
        return {name: messages[ANY_SITE].values[ours] for name, ours in names.items()}

    def _our_names(self, tensors: Mapping[str, Tensor]) -> dict[str, str]:
        """Return SiteLoRA's name, ending in .A and .B, of every tensor; only whole pairs are renamed."""
        names = {name: f"rest/{name}" for name in tensors}
        for name, a in tensors.items():
            prefix = name.removesuffix(self.factor_a)
            partner = prefix + self.factor_b
            if prefix == name or partner not in tensors:
                continue
            b = tensors[partner]
            if a.ndim != 2 or b.ndim != 2 or a.shape[0] != b.shape[1]:
                raise ValueError(
                    f"{name} {tuple(a.shape)} and {partner} {tuple(b.shape)}: expected A [r, d_in] and B [d_out, r]"
                )
            names[name], names[partner] = f"pair/{prefix}.A", f"pair/{prefix}.B"
        if not any(name.startswith("pair/") for name in names.values()):
            raise ValueError(
                f"LoRASVDAggregator: no pair of names that end in {self.factor_a!r} and {self.factor_b!r}, for example "
                f"{min(tensors)}; say with factor_a and factor_b how yours end"
            )
        return names


class SGCAAggregator(RoundAggregator):
    """Similarity-guided aggregation in global mode: a site weighs what the sites' own mixtures give it on average.

    ``w_ij`` is the softmax over j of ``cos(u_i, u_j) / temperature`` times j's weight, u the sites' changes of the
    round, and the global weight of site j the mean of ``w_ij`` over i. With full parameters the change is that from the
    aggregate of the round before; in the first round there is none, and the weights are the shares (our choice).
    Differences (``TransferType.DIFF``) are changes by themselves.

    Args:
        temperature: tau; 0.5 is our choice, as the paper's is not public. A large one gives FedAvg; a small one, with
            every site's own row local, the plain mean of all sites whatever their weights.
    """

    def __init__(self, temperature: float = 0.5) -> None:
        super().__init__()
        if not temperature > 0:
            raise ValueError(f"temperature is {temperature}; SGCA needs a number above 0")
        self.temperature = temperature
        self._before: dict[str, Tensor] | None = None

    def combine(
        self, values: Mapping[str, Mapping[str, Tensor]], shares: Mapping[str, float], kind: ParamsType
    ) -> dict[str, Tensor]:
        """Return one mixture for all sites."""
        sites, names = sorted(values), sorted(next(iter(values.values())))
        weights = dict(zip(sites, self._weights(values, shares, kind), strict=True))
        logger.info("round %s: weights by similarity %s", self._round, {s: round(w, 4) for s, w in weights.items()})
        mixed = {name: weighted_mean({site: values[site][name] for site in sites}, weights) for name in names}
        if kind == ParamsType.FULL:
            self._before = mixed
        return mixed

    def _weights(
        self, values: Mapping[str, Mapping[str, Tensor]], shares: Mapping[str, float], kind: ParamsType
    ) -> list[float]:
        sites, names = sorted(values), sorted(next(iter(values.values())))
        before = self._before if kind == ParamsType.FULL else {}
        if before is None:
            return [shares[site] for site in sites]
        changes = [
            torch.cat([(values[s][n].double() - before.get(n, torch.zeros(()))).flatten() for n in names])
            for s in sites
        ]
        counts = torch.tensor([shares[site] for site in sites], dtype=torch.float64)
        rows = torch.stack(changes)
        weights: list[float] = similarity_weights(rows @ rows.T, counts, self.temperature).mean(dim=0).tolist()
        return weights
