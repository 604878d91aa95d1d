"""What NVFlare's stock FedAvg hands an aggregator, by site: checked, in fp32, and given back as it came."""

from __future__ import annotations

import logging
import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from nvflare.apis.fl_constant import FLMetaKey
from nvflare.app_common.abstract.fl_model import FLModel, ParamsType
from nvflare.app_common.aggregators.model_aggregator import ModelAggregator
from torch import Tensor

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SiteResult:
    """What one site returned: fp32 tensors, its weight, its numbers, and how the tensors came."""

    values: dict[str, Tensor]
    weight: float
    metrics: dict[str, float]
    kind: ParamsType
    numpy: bool
    dtypes: dict[str, torch.dtype]


class RoundAggregator(ModelAggregator):
    """Collects a round's results by site; what is made of them is the subclass's affair."""

    def __init__(self) -> None:
        super().__init__()
        self._results: dict[str, SiteResult] = {}
        self._round: int | None = None

    def accept_model(self, model: FLModel) -> None:
        """Take one site's result; one that is not finite is left out, with a warning that names site and tensor."""
        site = self._site_of(model)
        self._round = model.current_round
        tensors = {name: torch.as_tensor(value).detach().cpu() for name, value in (model.params or {}).items()}
        bad = sorted(name for name, tensor in tensors.items() if not bool(torch.isfinite(tensor).all()))
        if bad or not tensors:
            what = f"{bad[0]} is not finite" if bad else "it holds no tensor"
            logger.warning("site %s: its result is left out of this round: %s", site, what)
            return
        steps = float((model.meta or {}).get(FLMetaKey.NUM_STEPS_CURRENT_ROUND) or 1)
        self._results[site] = SiteResult(
            values={name: tensor.to(torch.float32) for name, tensor in tensors.items()},
            weight=steps if math.isfinite(steps) and steps > 0 else 1.0,
            metrics={k: float(v) for k, v in (model.metrics or {}).items() if isinstance(v, int | float | np.number)},
            kind=ParamsType(model.params_type),
            numpy=isinstance(next(iter(model.params.values())), np.ndarray),
            dtypes={name: tensor.dtype for name, tensor in tensors.items()},
        )

    def aggregate_model(self) -> FLModel:
        """Return the next global model, or its difference where the sites sent differences.

        Raises:
            ValueError: no usable result, or results that do not fit each other.
        """
        kind = self._require_alike()
        sites = sorted(self._results)
        total = sum(self._results[site].weight for site in sites)
        shares = {site: self._results[site].weight / total for site in sites}
        values = self.combine({site: self._results[site].values for site in sites}, shares, kind)
        first = self._results[sites[0]]
        typed = {name: _as(tensor, first.dtypes[name]) for name, tensor in values.items()}
        names = set.intersection(*(set(self._results[site].metrics) for site in sites))
        return FLModel(
            params={name: tensor.numpy() for name, tensor in typed.items()} if first.numpy else typed,
            params_type=kind,
            metrics={name: sum(shares[s] * self._results[s].metrics[name] for s in sites) for name in sorted(names)},
            current_round=self._round,
            meta={"nr_aggregated": len(sites)},
        )

    def reset_stats(self) -> None:
        """Forget the round's results."""
        self._results = {}

    @abstractmethod
    def combine(
        self, values: Mapping[str, Mapping[str, Tensor]], shares: Mapping[str, float], kind: ParamsType
    ) -> dict[str, Tensor]:
        """Return the aggregated tensors in fp32.

        Args:
            values: tensors by site and name. shares: weight of every site, sum 1. kind: what the tensors are.
        """

    def _site_of(self, model: FLModel) -> str:
        name = (model.meta or {}).get("client_name")
        if name is None and self.fl_ctx is not None and self.fl_ctx.get_peer_context() is not None:
            name = self.fl_ctx.get_peer_context().get_identity_name()  # under ScatterAndGather
        if name is None:
            raise ValueError("a result without meta['client_name']; expected the name of the site that it came from")
        return str(name)

    def _require_alike(self) -> ParamsType:
        if not self._results:
            raise ValueError(f"{type(self).__name__}: no usable result in round {self._round}; nothing to aggregate")
        first = min(self._results)
        expected = {name: tuple(tensor.shape) for name, tensor in self._results[first].values.items()}
        for site, result in sorted(self._results.items()):
            if result.kind != self._results[first].kind:
                raise ValueError(
                    f"site {site} sent {result.kind.value} and site {first} {self._results[first].kind.value} "
                    "parameters; all sites must send the same kind"
                )
            found = {name: tuple(tensor.shape) for name, tensor in result.values.items()}
            for name in sorted(expected.keys() | found.keys()):
                if found.get(name) != expected.get(name):
                    raise ValueError(
                        f"site {site}: {name} has shape {found.get(name, 'none')}, at site {first} "
                        f"{expected.get(name, 'none')}; all sites must send the same tensors"
                    )
        return self._results[first].kind


def _as(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Return an fp32 tensor in the type that the sites use; counters are rounded, not cut off."""
    return (tensor if dtype.is_floating_point else tensor.round()).to(dtype)
