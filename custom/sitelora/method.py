"""A method is a value, not a code path: what every paper and baseline of this project is made of."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

from torch import Tensor, nn

from sitelora.adapters.base import AdapterSpec, adapter_tensor_names, insert_adapters
from sitelora.networks.parts import Parts, PartsError, parts_of
from sitelora.regularizers.base import Regularizer, SiteView
from sitelora.server.aggregation import CENTRES, MEAN, Aggregation
from sitelora.server.robust import with_aggregation
from sitelora.server.types import LowRank, ServerRule
from sitelora.sharing.patterns import clean_name, matches_any
from sitelora.sharing.ranks import SiteRanks
from sitelora.sharing.rule import Partition, ShareRule

TRAVELLING = ""
"""Name of the copy of the trained tensors that the site received and returns."""


@dataclass(frozen=True, kw_only=True)
class Pass:
    """One stretch of local training within a round.

    Args:
        trains: patterns of the trained tensors that move in it; the others keep their values.
        copy: which copy of the trained tensors it works on: ``TRAVELLING``, or the name of a private copy that
            starts at the seeded initial values and never leaves the site (Ditto's personal model).
        regularizers: what is added to the task loss.
        strengths: factors of the LoRA adapters' outputs by role, 1 where not named (FedDPA trains its global adapter
            alone and its local one beside a weakened global).
    """

    trains: tuple[str, ...] = ("**",)
    copy: str = TRAVELLING
    regularizers: tuple[Regularizer, ...] = ()
    strengths: Mapping[str, float] = field(default_factory=dict)

    def trains_tensor(self, name: str) -> bool:
        """Say whether the tensor moves in this pass."""
        return matches_any(self.trains, name)


@dataclass(frozen=True)
class LocalProgram:
    """What a site does beside load, train, return; the default does nothing more."""

    companions: ClassVar[tuple[str, ...]] = ()
    """Names of the further sets of shared-shaped tensors that travel with the method."""
    wants_gradients: ClassVar[bool] = False
    """Whether ``after_training`` reads ``view.mean_gradient``."""

    def after_training(self, view: SiteView, *, steps: int, learning_rate: float) -> dict[str, Tensor]:
        """Return the companion tensors to send, named ``<companion>/<tensor>``.

        Args:
            view: the travelling pass as it ended; ``memory`` may be changed and survives.
            steps: optimiser steps that the site made in it.
            learning_rate: mean of the optimiser's over the steps.
        """
        return {}


@dataclass(frozen=True)
class Model:
    """Everything that turns the base into one served model.

    Attributes:
        values: trained tensors by name. base_delta: pairs that act beside the base.
        strengths: factors of the LoRA adapters' outputs by role, 1 where not named.
    """

    values: Mapping[str, Tensor]
    base_delta: Mapping[str, LowRank] = field(default_factory=dict)
    strengths: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class ServingRule:
    """Which tensors make the personal, the global and the unseen-site model.

    Personal: what the site received, with its own local tensors. Global: what every site received, if nothing of
    the model is local. Unseen site: local tensors at their seeded initial values (our choice: the sites' mean
    would need local tensors to leave).

    Args:
        personal_copy: the copy of the trained tensors that is the personal model.
        strengths: factors of the LoRA adapters' outputs by role, for every kind of model that has some. An adapter
            at 0 is not part of that model, so its local tensors keep no model from being global.
    """

    personal_copy: str = TRAVELLING
    strengths: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def strengths_of(self, kind: str) -> Mapping[str, float]:
        """Return the adapters' strengths in a kind of model."""
        return self.strengths.get(kind, {})

    def why_not(self, kind: str, partition: Partition) -> str | None:
        """Return why a method has no model of this kind, or None if it has."""
        if kind in ("global", "unseen") and not partition.shared:
            return "nothing is shared, so there is no model beyond the sites' own"
        absent = [f"**.{role}.**" for role, strength in self.strengths_of(kind).items() if strength == 0]
        local = [name for name in partition.local if not matches_any(absent, name)]
        if kind == "global" and local:
            return f"{len(local)} tensors of the model are local to a site"
        return None


UNSTATED = "unstated"
EXACT = "exact"
BEST_RANK = "best rank r"
INEXACT = "inexact"
NO_MEAN = "not applicable"
"""What may be claimed of the sites' model after a round against ``sum_k p_k s B_k A_k``: it is that sum, its best
rank-r part, something else, or there is no such sum (no pair is shared whole, or every site gets another model). The
claim is about the message as the server forms it, in fp32; the bf16 wire then rounds every method's (0.1 to 0.3 %)."""


FEDERATED, LOCAL = SETTINGS = ("federated", "local")
"""What a method's ``setting`` may be: as its paper shares, or the same trained at every site alone."""


@dataclass(frozen=True, kw_only=True)
class Method:
    """A federated adapter-tuning method.

    Args:
        name: as in the file name of its module.
        paper: arXiv number or short reference.
        adapters: what is inserted into the frozen network.
        share: for every tensor: shared, local or frozen.
        server: what the server makes of the updates.
        cycle: the passes of round 0, of round 1 and so on, then again from the first; by default one pass that trains
            everything.
        regularizers: of the default pass.
        program: what a site does beside load, train, return.
        serving: which tensors make which model.
        ranks: where sites have different LoRA ranks.
        fresh_moments: patterns of the tensors whose optimiser moments every round forgets, because the server replaces
            them by something else than a mean; a site keeps the others.
        mean_product: EXACT, BEST_RANK, INEXACT or NO_MEAN; the conformance tests hold the method to it.
        needs: parts that a network must have, each with what the method is without it, in one sentence.
        only_alone: why several sites cannot train it together; empty where they can.
    """

    name: str
    paper: str
    adapters: tuple[AdapterSpec, ...]
    share: ShareRule
    server: ServerRule
    regularizers: tuple[Regularizer, ...] = ()
    cycle: tuple[tuple[Pass, ...], ...] = ()
    program: LocalProgram = field(default_factory=LocalProgram)
    serving: ServingRule = field(default_factory=ServingRule)
    ranks: SiteRanks = field(default_factory=SiteRanks)
    fresh_moments: tuple[str, ...] = ()
    mean_product: str = UNSTATED
    needs: Mapping[str, str] = field(default_factory=dict)
    only_alone: str = ""

    def require_federated(self, sites: Collection[str]) -> None:
        """Refuse a federation of a method that is none.

        Raises:
            ValueError: there is more than one site and the method is trained at one alone; says why.
        """
        if self.only_alone and len(sites) > 1:
            raise ValueError(
                f"{self.name} cannot be trained by {len(sites)} sites: {self.only_alone}. `sitelora compare` trains it "
                "on all sites' images in one folder, for public data only"
            )

    def why_no(self, aggregation: Aggregation) -> str:
        """Return why a robust rule has no meaning for the method, in one sentence; empty where it has one."""
        if aggregation.rule == MEAN:
            return ""
        if not self.share.shared:
            return f"{self.name} shares nothing, so there is nothing to aggregate"
        reason = getattr(self.server, "no_centre", "") if aggregation.rule in CENTRES else ""
        return f"{self.name} has no {aggregation.rule}: {reason}" if reason else ""

    def server_rule(self, aggregation: Aggregation) -> ServerRule:
        """Return the method's server rule with what the job asks for before it.

        Raises:
            ValueError: the method does not average; says why.
        """
        if why := self.why_no(aggregation):
            raise ValueError(f"aggregation: {why}")
        return with_aggregation(self.server, aggregation, lambda site, ones: self.ranks.kept(ones, site))

    def passes(self, round_number: int) -> tuple[Pass, ...]:
        """Return the passes of a round, the travelling copy first."""
        if self.cycle:
            return self.cycle[round_number % len(self.cycle)]
        return (Pass(regularizers=self.regularizers),)

    @property
    def releases(self) -> int:
        """How many sets of tensors a site sends a round, each clipped and noised by itself."""
        return 1 + len(self.program.companions)

    def private_copies(self) -> tuple[str, ...]:
        """Return the names of the private copies that the method's passes use."""
        return tuple(sorted({p.copy for passes in self.cycle for p in passes} - {TRAVELLING}))

    def sent_in(self, round_number: int, shared: tuple[str, ...]) -> tuple[str, ...]:
        """Return the shared tensors that a site returns for a round: those that a travelling pass trains."""
        travelling = [p for p in self.passes(round_number) if p.copy == TRAVELLING]
        return tuple(name for name in shared if any(p.trains_tensor(name) for p in travelling))

    def on(self, parts: Parts) -> Method:
        """Return the method in a network's own names: parts in its patterns (``@heads``) written out.

        Where its adapters go is judged too, so that a seventh block of six is told before a network is built.

        Raises:
            PartsError: a part that the network does not have, or one that is empty and without which the method has no
                meaning.
        """
        for part, why in self.needs.items():
            if not parts.members.get(part):
                raise PartsError(f"this network has no {part}. {why}")
        for spec in self.adapters:
            where = getattr(spec, "where", ())
            parts.expand_all((where,) if isinstance(where, str) else where)
        return replace(
            self,
            share=self.share.on(parts),
            cycle=tuple(
                tuple(replace(one, trains=parts.expand_all(one.trains)) for one in passes) for passes in self.cycle
            ),
            fresh_moments=parts.expand_all(self.fresh_moments),
        )

    def adapt(self, network: nn.Module, *, seed: int) -> Partition:
        """Insert the adapters, freeze what is frozen, and return the partition of the network's tensors.

        Raises:
            PartsError: the method speaks of a part that the network does not have.
            ShareRuleError: the share rule does not fit the network.
        """
        base = {clean_name(name) for name in network.state_dict()}
        insert_adapters(network, self.adapters, seed=seed)
        partition = self.share.on(parts_of(network)).partition(base=base, adapters=adapter_tensor_names(network))
        trained = set(partition.trained)
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(clean_name(name) in trained)
        return partition
