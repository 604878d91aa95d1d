"""Scores of models at a site, through the bundle's own inference: what is scored is what is served."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import nn

from sitelora.data.site_folder import SiteFolder
from sitelora.evaluation.cases import evaluate_cases, fitted_decision, prepared
from sitelora.evaluation.kept_cases import KeptCases
from sitelora.evaluation.scores import case_scores
from sitelora.federation.build_network import load_model, merged_state, model_sha256
from sitelora.federation.one_base import OneBase
from sitelora.method import Model
from sitelora.run_result import CaseScore
from sitelora.serving.answer import answered
from sitelora.settings import RunSettings
from sitelora.task import Decision


class SiteScores:
    """Loads models into a site's network and scores them; neither a model nor a case is scored or prepared twice.

    Args:
        network: adapted. folder: the site's own data. run: the values of the run.
        one_base: holds the inference network, for all sites of a process.
    """

    def __init__(
        self, network: nn.Module, folder: SiteFolder, run: RunSettings, *, one_base: OneBase | None = None
    ) -> None:
        self._network, self._folder, self._run = network, folder, run
        self._one_base = one_base or OneBase()
        self._tested: dict[tuple[str, Path, bool, bool], dict[str, Any]] = {}
        self._decided: dict[str, Decision | None] = {}
        self._validated: tuple[str, tuple[float, ...]] | None = None
        self._kept = KeptCases()  # of one pipeline, which is made once

    def test(
        self,
        model: Model,
        folder: SiteFolder,
        *,
        keep_predictions: Path | None = None,
        fitted: bool = True,
        primary_only: bool = False,
    ) -> dict[str, Any]:
        """Score a model on a folder's test cases; another site's folder is at hand only where all data is public.

        Where all is shared, several kinds are one model. A site without test cases has no score, which is an answer.

        Args:
            model: the model. folder: whose test cases. keep_predictions: a folder for them.
            fitted: with the decision that this site has fitted for it, which nobody has who never took part.
            primary_only: leave out distances, which are most of the work.
        """
        if not folder.cases("test"):
            return {"not_applicable": f"no test data at site {folder.name}"}
        fitted = fitted and self._run.task.fit_decision is not None
        key = (model_sha256(model), folder.path, fitted, primary_only)
        if key not in self._tested or keep_predictions is not None:
            decision = self.decision(model) if fitted else None
            scored = self._score(
                self._as_served(model),
                folder,
                "test",
                decision=decision,
                keep_predictions=keep_predictions,
                primary_only=primary_only,
            )
            self._tested[key] = {**scored, **({} if decision is None else {"decision": decision})}
        return self._tested[key]

    def decision(self, model: Model) -> Decision | None:
        """Return what this site's validation cases say of how a model's answers become decisions, if its task asks."""
        key = model_sha256(model)
        if key not in self._decided:
            self._decided[key] = fitted_decision(
                self._as_served(model),
                self._folder,
                "validation",
                self._run.task,
                pipeline=self._pipeline,
                kept=self._kept,
            )
        return self._decided[key]

    def explained(self, model: Model) -> Callable[[Path, Path, str], None] | None:
        """Return what draws from image, file to write and title what speaks for a model's answer, if its task asks."""
        explain = self._run.task.explain
        if explain is None:
            return None
        network = self._as_served(model)

        def draw(image: Path, file: Path, title: str) -> None:
            explain(
                lambda pixels: answered(network, pixels, self._pipeline),
                prepared(image, self._pipeline)["image"],
                file,
                labels=self._folder.labels,
                title=title,
            )

        return draw

    def validation(self, model: Model) -> tuple[float, ...]:
        """Return a model's primary score on each of this site's validation cases; empty where it has none.

        Without a fitted decision: judged by the cases that it was fitted on, the model with most to fit would win.
        """
        if not self._folder.cases("validation"):
            return ()
        key = model_sha256(model)
        # where nothing is shared, what is received is what was scored last
        if self._validated is None or self._validated[0] != key:
            cases = self._score(self._loaded(model), self._folder, "validation", primary_only=True)["cases"]
            scores = case_scores([CaseScore(**case) for case in cases], self._run.task.primary)
            self._validated = (key, tuple(scores))
        return self._validated[1]

    def _score(self, network: nn.Module, folder: SiteFolder, split: str, **how: Any) -> dict[str, Any]:
        return evaluate_cases(network, folder, split, self._run.task, pipeline=self._pipeline, kept=self._kept, **how)

    def _loaded(self, model: Model) -> nn.Module:
        """Return the network that trains, with a model in it: at hand between rounds."""
        load_model(self._network, model)
        return self._network

    def _as_served(self, model: Model) -> nn.Module:
        """Return the bundle's inference network with what the model's file would hold, so that the very same is scored.

        A method of another bundle may leave tensors that this network has no place for; then it cannot be served by
        this bundle either, and is scored as it was trained.
        """
        network = self._one_base.serving(lambda: self._pipeline("network"))
        key = f"{model_sha256(model)} on {getattr(self._network, 'base_fingerprint', id(self._network))}"
        if self._one_base.inside != key:  # a model is fitted, scored and explained: it is merged once
            state = merged_state(self._loaded(model))
            if state.keys() != network.state_dict().keys():
                return self._network
            network.load_state_dict(state)
            self._one_base.inside = key
        return network

    @cached_property
    def _pipeline(self) -> Callable[[str], Any]:
        """The bundle's inference parts by id."""
        inference = self._run.parser("inference", ours={"made": {}})  # no file: the run's own values
        inference["device"] = str(next(self._network.parameters()).device)
        return inference.get_parsed_content
