"""One round at one site, plain Python: load strictly, restore the private state, train, return the difference.

This is the one boundary between devices: what comes in and what goes out of a round is CPU fp32, whatever device the
network is on, so nothing else in the project has to know one.

Round r starts from the state after round r-1 whatever happened in between, and every random number of a round
derives from (seed, site, round), so a round that is done twice ends with the same bits.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.engines import SupervisedTrainer
from monai.engines.utils import IterationEvents
from monai.utils.enums import CommonKeys
from torch import Tensor, nn

from sitelora.adapters.lora import set_base_delta, set_strengths
from sitelora.federation.build_network import load_model, load_values, partition_of, trained_parameters
from sitelora.federation.diverged import at_fault
from sitelora.federation.gradients import Gradients
from sitelora.federation.light_step import lighten
from sitelora.federation.moments import kept_moments, load_moments, on_cpu, take_moments
from sitelora.federation.prefix import follow_views
from sitelora.federation.schedules import RateSetter, Schedule
from sitelora.federation.state import SiteState, paired
from sitelora.federation.together import Together
from sitelora.method import TRAVELLING, Method, Model, Pass
from sitelora.networks.compiled import done_alike
from sitelora.regularizers.base import SiteView
from sitelora.regularizers.seen import SeenInputs
from sitelora.seeding import reseed
from sitelora.sharing.wire import WireFormat

logger = logging.getLogger(__name__)

Tensors = Mapping[str, Tensor]
Progress = Callable[[int, int, float], None]
"""Called after every optimiser step with (steps done, steps in the round, loss)."""


class TrainingError(RuntimeError):
    """Local training went wrong in a way that must not reach the server."""


@dataclass(frozen=True)
class RoundOutcome:
    """What a round at a site gave.

    Attributes:
        trained: fp32 values of the tensors to return, by name.
        companions: the method's further tensors to return, ``<companion>/<tensor>``.
        state: the private state after the round.
        metrics: numbers measured in training.
    """

    trained: dict[str, Tensor]
    companions: dict[str, Tensor]
    state: SiteState
    metrics: dict[str, float]


class LocalRound:
    """Trains one site's network for one round at a time.

    Args:
        network: from ``adapted_network``.
        method: the method that adapted it.
        trainer: the bundle's ignite trainer over that network.
        seed: the experiment's seed.
        site: the site's name.
        schedule: of the learning rate over the federation; by default the optimiser's rate throughout.
        max_gradient_norm: largest L2 norm of a step's whole gradient; 0 leaves it as it is.
        still: from the names that are sent, those that stay as received; by default none (`WireFormat.still`).
        together: the processes that train this network in lockstep; by default this one.
        prefix_cache: keep what the frozen beginning of the network gives for the trainer's fixed views, which are with
            it in ``followed``; without such views a SettingsError.
    """

    def __init__(
        self,
        *,
        network: nn.Module,
        method: Method,
        trainer: SupervisedTrainer,
        seed: int,
        site: str,
        schedule: Schedule | None = None,
        max_gradient_norm: float = 0.0,
        still: Callable[[Collection[str]], frozenset[str]] | None = None,
        together: Together | None = None,
        prefix_cache: bool = False,
    ) -> None:
        self._network = network
        self._method = method
        self._trainer = trainer
        # With it, ignite goes on with the dead run after an exception: the next round would end without a step.
        self._trainer.interrupt_resume_enabled = False
        lighten(trainer)
        self.followed = follow_views(trainer, network, seed, site, keep=prefix_cache)
        self._seed = seed
        self._site = site
        self._still_of, self._still = still or WireFormat().still, frozenset[str]()
        self._rate = RateSetter(trainer.optimizer, schedule or Schedule())
        self._rate.attach(trainer)
        self._epochs = int(trainer.state.max_epochs)
        self._partition = partition_of(network)
        self._parameters = trained_parameters(network)
        self._device = next(iter(self._parameters.values())).device
        self._initial = self._values_now()
        self._together = together or Together()
        self._gradients = Gradients(self._parameters, max_norm=max_gradient_norm, together=self._together)
        self._losses: list[float] = []
        self._progress: Progress | None = None
        self._steps_total = 0
        self._attach()

    @property
    def initial(self) -> dict[str, Tensor]:
        """Seeded initial values of all trained tensors, fp32 on the CPU."""
        return self._initial

    def fresh_state(self) -> SiteState:
        """Return the private state before the first round."""
        copies = {
            f"{copy}/{name}": tensor.clone()
            for copy in self._method.private_copies()
            for name, tensor in self._initial.items()
        }
        return SiteState(local={n: self._initial[n].clone() for n in self._partition.local}, copies=copies)

    def run(
        self,
        round_number: int,
        *,
        received: Mapping[str, Tensor],
        companions: Mapping[str, Tensor],
        state: SiteState,
        progress: Progress | None = None,
    ) -> RoundOutcome:
        """Train for one round.

        Args:
            round_number: r, from 0.
            received: fp32 values of all shared tensors, on the CPU.
            companions: further tensors of the method that came with the message, on the CPU.
            state: the private state after round r-1, on the CPU; changed in place. The one returned is to be used.

        Raises:
            TrainingError: a loss or a trained value that is not finite, or no optimiser step at all.
        """
        given = round_number, received, companions, progress
        return done_alike(self._network, lambda before: self._run(*given, before), state)

    def _run(
        self, round_number: int, received: Tensors, companions: Tensors, progress: Progress | None, state: SiteState
    ) -> RoundOutcome:
        passes = self._method.passes(round_number)
        self._losses, self._progress = [], progress
        self._gradients.forget()
        self._steps_total = len(passes) * self._epochs * len(self._trainer.data_loader)  # type: ignore[arg-type]
        set_base_delta(self._network, paired(state.delta))
        state.optimizer = kept_moments(state.optimizer, replaced=self._method.fresh_moments)
        trained: dict[str, Tensor] = dict(received)
        outgoing: dict[str, Tensor] = {}
        sent = self._method.sent_in(round_number, self._partition.shared)
        self._still = self._still_of(sent)
        for number, one in enumerate(passes):
            values = self._values_of(one.copy, trained, state)
            load_values(self._network, values)
            view = SiteView(
                round_number=round_number,
                parameters=self._parameters,
                shared=frozenset(self._partition.shared),
                local=frozenset(self._partition.local),
                received=self._here(received),
                companions=self._here(companions),
                memory=self._here(state.memory),
                site=self._site,
                inputs=SeenInputs(self._network),
            )
            set_strengths(self._network, one.strengths)
            self._rate.begin(round_number)
            steps = self._train(one, view, state, (self._seed, self._site, round_number, number))
            after = self._values_now()
            self._require_finite(after, round_number)
            if one.copy != TRAVELLING:
                state.copies.update({f"{one.copy}/{name}": tensor for name, tensor in after.items()})
                continue
            trained = {name: after[name] for name in self._partition.shared}
            state.local = {name: after[name] for name in self._partition.local}
            state.steps += steps
            view.mean_gradient = self._gradients.mean()
            program = self._method.program
            outgoing = on_cpu(program.after_training(view, steps=steps, learning_rate=self._rate.mean_rate))
            state.memory = on_cpu(view.memory)
        return RoundOutcome(
            trained={name: trained[name] for name in sent},
            companions=outgoing,
            state=state,
            metrics={
                "loss": self._together.mean(float(np.mean(self._losses))),
                "steps": float(len(self._losses)),
                **self._gradients.metrics(),
            },
        )

    def further(self, model: Model, *, steps: int) -> Model:
        """Return a model after some steps more on the task's loss alone, at a rate that rises and falls within them."""
        load_model(self._network, model)
        nothing: frozenset[str] = frozenset()
        view = SiteView(round_number=0, parameters=self._parameters, shared=nothing, local=nothing, received={})
        trainer, rate = self._trainer, self._rate
        kept = rate.schedule, self._epochs, trainer.state.epoch_length
        rate.schedule, self._epochs, trainer.state.epoch_length = replace(rate.schedule, rounds=1), 1, steps
        try:
            rate.begin(0)
            self._train(Pass(), view, SiteState(), (self._seed, self._site, "further"))
        finally:
            rate.schedule, self._epochs, trainer.state.epoch_length = kept
        return replace(model, values=self._values_now())

    def _values_now(self) -> dict[str, Tensor]:
        """Return the trained tensors as they are, fp32 on the CPU."""
        return on_cpu(self._parameters)

    def _here(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return tensors on the network's device; where they are there already, the same ones."""
        return {name: tensor.to(self._device) for name, tensor in tensors.items()}

    def _values_of(self, copy: str, shared: Mapping[str, Tensor], state: SiteState) -> dict[str, Tensor]:
        if copy == TRAVELLING:
            return {**shared, **state.local}
        prefix = f"{copy}/"
        return {n.removeprefix(prefix): t for n, t in state.copies.items() if n.startswith(prefix)}

    def _train(self, one: Pass, view: SiteView, state: SiteState, seeds: tuple[object, ...]) -> int:
        optimizer = self._trainer.optimizer
        load_moments(optimizer, self._parameters, state.optimizer, one.copy)
        still = self._still if one.copy == TRAVELLING else frozenset()
        moving = {name for name in self._parameters if one.trains_tensor(name) and name not in still}
        wanted = self._method.program.wants_gradients and one.copy == TRAVELLING
        self._gradients.begin(view, one.regularizers, moving, mean=wanted)
        before = len(self._losses)
        reseed(*seeds)
        self._together.own_transforms(self._trainer.data_loader.dataset, *seeds)  # type: ignore[union-attr]
        self._trainer.state.epoch = 0
        self._trainer.state.iteration = 0
        self._trainer.state.max_epochs = self._epochs
        try:
            self._trainer.run()
        finally:
            view.inputs.stop()
        steps = len(self._losses) - before
        if not steps:
            raise TrainingError(
                f"site {self._site}: training ended without an optimiser step; check the bundle's train#trainer, its "
                "epochs and its train#dataloader"
            )
        for name in [key for key in state.optimizer if key.startswith(f"{one.copy}/")]:
            del state.optimizer[name]
        state.optimizer.update(take_moments(optimizer, self._parameters, one.copy))
        return steps

    def _attach(self) -> None:
        self._trainer.add_event_handler(IterationEvents.LOSS_COMPLETED, self._note_loss)
        self._trainer.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self._gradients.finish)
        self._trainer.add_event_handler(Events.ITERATION_COMPLETED, self._after_step)

    def _note_loss(self, engine: Engine) -> None:
        value = float(engine.state.output[CommonKeys.LOSS].detach())  # type: ignore[index]
        if not math.isfinite(value):
            fault = at_fault({} if self._losses else self._parameters)
            raise TrainingError(f"site {self._site}: the loss is {value} at step {len(self._losses) + 1}; {fault}")
        self._losses.append(value)

    def _after_step(self, engine: Engine) -> None:
        self._gradients.after_step()
        if self._progress is not None:
            self._progress(len(self._losses), self._steps_total, self._losses[-1])

    def _require_finite(self, values: Mapping[str, Tensor], round_number: int) -> None:
        for name, tensor in values.items():
            if not bool(torch.isfinite(tensor).all()):
                raise TrainingError(
                    f"site {self._site}: {name} is not finite after round {round_number + 1}; nothing was sent. "
                    "Lower the bundle's learning_rate or look for images that `sitelora check` warns about"
                )
