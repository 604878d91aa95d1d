"""What a method's passes and regularizers do inside a real round."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sitelora.federation.build_network import partition_of, trained_parameters
from sitelora.federation.site import Site
from sitelora.federation.site_settings import Answer
from sitelora.settings import with_method
from sitelora.sharing.wire import cast, packet_sha256

BUNDLE = "iat_segmentation"
MakeSite = Callable[..., Site]


def method(name: str, **arguments: Any) -> dict[str, Any]:
    return with_method(BUNDLE, {}, name, {"rank": 2, "scale": 1.0, **arguments})


def two_rounds(site: Site) -> tuple[list[dict[str, Tensor]], list[Answer]]:
    """Two rounds of a federation of one: the messages and the answers."""
    values = {name: tensor.clone() for name, tensor in site.begin().tensors.items()}
    messages, answers = [], []
    for number in range(2):
        messages.append(cast(values, torch.bfloat16))
        answers.append(site.train(number, messages[-1]))
        values = {name: t + answers[-1].tensors.get(name, torch.zeros_like(t)) for name, t in values.items()}
    return messages, answers


def test_a_factor_that_rests_keeps_its_value_and_is_not_sent(make_site: MakeSite, tmp_path: Path) -> None:
    site = make_site(tmp_path, overrides=method("rolora"))
    messages, answers = two_rounds(site)
    for rests, moves, answer in zip("AB", "BA", answers, strict=True):
        assert not any(name.endswith(f".{rests}") for name in answer.tensors)
        assert all(tensor.any() for name, tensor in answer.tensors.items() if name.endswith(f".{moves}"))
    now = trained_parameters(site.network)  # as round 1 left them: B rested
    assert all(torch.equal(p, messages[1][n].float()) for n, p in now.items() if n.endswith(".B"))
    stored = site.store.generation(0)
    assert stored is not None
    moments = {key.split("/")[1] for key in stored.state().optimizer}
    assert not any(name.endswith(".A") for name in moments)  # not even a weight decay touched them


def test_a_private_copy_trains_beside_the_travelling_one_and_never_leaves(make_site: MakeSite, tmp_path: Path) -> None:
    site = make_site(tmp_path, overrides=method("ditto"))
    plain = make_site(tmp_path / "plain", overrides=method("fedavg_lora"))
    messages, answers = two_rounds(site)
    states = [stored.state() for stored in (site.store.generation(0), site.store.generation(1)) if stored]
    trained = partition_of(site.network).trained
    for state in states:
        assert sorted(state.copies) == [f"personal/{name}" for name in trained]
        assert {key.partition("/")[0] for key in state.optimizer} == {"", "personal"}
    assert not any(torch.equal(states[0].copies[key], states[1].copies[key]) for key in states[0].copies)
    assert all(name in messages[0] for answer in answers for name in answer.tensors)
    alone = plain.train(0, messages[0])
    assert packet_sha256(alone.tensors) == packet_sha256(answers[0].tensors)  # the private pass leaves no trace in it
    assert answers[0].report["metrics"]["steps"] == 2 * alone.report["metrics"]["steps"]


def test_the_subspace_regularizer_is_silent_in_the_first_round_and_acts_in_the_second(
    make_site: MakeSite, tmp_path: Path
) -> None:
    _, without = two_rounds(make_site(tmp_path / "0", overrides=method("iat", sor_weight=0.0)))
    _, strong = two_rounds(make_site(tmp_path / "1", overrides=method("iat", sor_weight=10.0)))
    assert packet_sha256(without[0].tensors) == packet_sha256(strong[0].tensors)
    different = {n for n, t in without[1].tensors.items() if not torch.equal(t, strong[1].tensors[n])}
    assert {n for n in without[1].tensors if ".lora." in n} <= different
    for first, second in zip(without, strong, strict=True):  # what is reported is the task's loss alone
        assert first.report["metrics"]["loss"] == pytest.approx(second.report["metrics"]["loss"], rel=0.2)


def test_the_proximal_term_holds_the_personal_copy_near_what_was_received(make_site: MakeSite, tmp_path: Path) -> None:
    def distance(weight: float) -> float:
        faster = {"learning_rate": 0.01, "epochs": 4}
        site = make_site(tmp_path / str(weight), overrides={**method("ditto", weight=weight), **faster})
        message = cast({n: t + 0.1 for n, t in site.begin().tensors.items()}, torch.bfloat16)
        site.train(0, message)
        stored = site.store.generation(0)
        assert stored is not None
        copies = stored.state().copies
        moved = [copies[f"personal/{n}"] - t.float() for n, t in message.items() if n.endswith(".B")]
        return float(torch.cat([t.flatten() for t in moved]).norm())

    assert distance(1000.0) < 0.5 * distance(0.0)
