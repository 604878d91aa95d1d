"""Linear probe (Alain and Bengio 2016, arXiv 1610.01644): what the frozen base knows without any adapter.

The base is run once over a site's images and its features are kept; a linear head on them is all that is trained, at
each site alone. An adapted model has to beat it: a head alone costs nothing and shares nothing. Images are seen as in
inference, without augmentation, and classes weigh the same. The head's decay is chosen on the site's validation cases,
by their cross-entropy, and the decision is fitted there; test cases have no say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from sitelora.data.site_folder import SiteFolder
from sitelora.evaluation.scores import summarise
from sitelora.networks.precision import set_precision
from sitelora.run_result import CaseScore
from sitelora.settings import RunSettings
from sitelora.task import FitDecision
from sitelora.tasks.classes.loss import class_weights

DECAYS = (1e-3, 1e-2, 1e-1, 1.0)
"""Of the squared weights, tried; on features of deviation 1."""
WITHOUT_VALIDATION = 1e-1
_AT_ONCE = 8
"""Images that the base is run over at a time."""

Head = tuple[Tensor, Tensor]
"""Weight ``[d, K]`` and bias ``[K]``, float64."""


@dataclass(frozen=True, kw_only=True)
class ProbeResult:
    """The probe of one site.

    Attributes:
        decay: of the head's weights, as chosen. values: that the head has.
        validation, test: what ``summarise`` gives of its cases; None where there are none.
    """

    decay: float
    values: int
    validation: Mapping[str, Any] | None
    test: Mapping[str, Any] | None


class LinearProbe:
    """Probes sites one after another with one frozen network.

    Args:
        run: the values of a run, whose method is not used.

    Raises:
        ValueError: the run's network has no ``features``, or its base is not there.
    """

    def __init__(self, run: RunSettings) -> None:
        run.require_base()
        training, inference = run.parser(), run.parser("inference", ours={"made": {}})
        self._task, self._classes = run.task, int(training["classes"])
        self._device: torch.device = training.get_parsed_content("device")
        self._network: Any = training.get_parsed_content("network_def")
        if not hasattr(self._network, "features") or run.task.fit_decision is None:
            raise ValueError(f"the network of {run.bundle} has no features(image): a linear probe is for classifiers")
        self._fit_decision: FitDecision = run.task.fit_decision
        self._network.eval().requires_grad_(False).to(self._device)
        set_precision(self._network, str(training["precision"]))
        self._preprocessing: Any = inference.get_parsed_content("preprocessing")

    def of(self, folder: SiteFolder) -> ProbeResult:
        """Train heads on a site's training cases, choose one by its validation cases, and score it on both others."""
        features, truth = self._features(folder, "training")
        centre, spread = features.mean(0), features.std(0, correction=0) + 1e-6
        weights = class_weights(truth, self._classes).double()
        heads = {decay: trained_head((features - centre) / spread, truth, weights, decay) for decay in DECAYS}
        logits, classes = {}, {}
        for split in ("validation", "test"):
            if folder.cases(split):
                found, classes[split] = self._features(folder, split)
                logits[split] = {decay: (found - centre) / spread @ w + b for decay, (w, b) in heads.items()}
        decay, decision = WITHOUT_VALIDATION, {}
        if "validation" in logits:
            target = torch.tensor(classes["validation"])
            losses = {d: functional.cross_entropy(x, target, weight=weights) for d, x in logits["validation"].items()}
            told = {d: float(loss) for d, loss in losses.items() if loss.isfinite()}  # none of classes never trained
            decay = min(told, key=lambda one: told[one], default=WITHOUT_VALIDATION)
            answers = zip(logits["validation"][decay].numpy(), classes["validation"], strict=True)
            decision = dict(self._fit_decision(list(answers), folder.labels))
        scores = {
            split: self._scores(folder, split, logits[split][decay].numpy(), classes[split], decision)
            for split in logits
        }
        values = sum(part.numel() for part in heads[decay])
        return ProbeResult(decay=decay, values=values, validation=scores.get("validation"), test=scores.get("test"))

    def _features(self, folder: SiteFolder, split: str) -> tuple[Tensor, list[int]]:
        """Return the features ``[N, d]`` of a split's cases in float64, and their classes."""
        cases, found = folder.cases(split), []
        for first in range(0, len(cases), _AT_ONCE):
            some = [self._preprocessing({"image": str(case["image"])}) for case in cases[first : first + _AT_ONCE]]
            images = [one["image"].as_subclass(Tensor) for one in some]
            for _, alike in groupby(images, key=lambda image: image.shape):  # a grey picture may stand among colours
                with torch.no_grad():
                    found.append(self._network.features(torch.stack(list(alike)).to(self._device)).double().cpu())
        return torch.cat(found), [int(self._task.read_truth(case, folder.labels)) for case in cases]

    def _scores(
        self, folder: SiteFolder, split: str, logits: Any, truth: Sequence[int], decision: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        task, scored = self._task, []
        for case, answer, value in zip(folder.cases(split), logits, truth, strict=True):
            metrics = task.score_case(task.decide(answer, decision), value, folder.labels, primary_only=False)
            name = folder.case_names[case["image"]]
            scored.append(CaseScore(case=name, patient=str(case["patient"]), metrics=metrics))
        return summarise(scored, task.primary, score_set=task.score_set)


def trained_head(features: Tensor, truth: Sequence[int], weights: Tensor, decay: float) -> Head:
    """Return the head of the smallest weighted cross-entropy plus decay; the problem is convex.

    Args:
        features: ``[N, d]`` float64. truth: N classes. weights: of the classes ``[K]``. decay: of the squared weights.
    """
    weight = torch.zeros(features.shape[1], len(weights), dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(len(weights), dtype=torch.float64, requires_grad=True)
    target = torch.tensor(truth)
    solver = torch.optim.LBFGS([weight, bias], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        solver.zero_grad()
        value = functional.cross_entropy(features @ weight + bias, target, weight=weights)
        value = value + decay * weight.square().sum()
        value.backward()
        return value

    solver.step(loss)
    return weight.detach(), bias.detach()
