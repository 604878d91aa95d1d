"""A site's privacy budget: the site stops before the round that would pass it, over runs, whatever a job says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sitelora.federation.refusals import REMEDIES, code_of
from sitelora.federation.site import Site
from sitelora.run_result import RunResult
from sitelora.sharing.accounting import same_noise
from sitelora.sharing.bounds import ExitBounds
from sitelora.sharing.ledger import EpsilonSpentError
from sitelora.sharing.wire import WireFormat, packet_sha256

MakeSite = Callable[..., Site]
Federate = Callable[..., RunResult]
NOISE = WireFormat(clip_norm=0.05, noise_std=2.0)
TWO_ROUNDS = ExitBounds(max_epsilon=same_noise(2.0, 2))
BOTH = {"method": "fedavg_lora", "method#rank": 2}


def audited(site: Site) -> list[int]:
    lines = (site.store.folder / "audit.jsonl").read_text().splitlines()
    return sorted({json.loads(line)["round"] for line in lines})


def test_a_site_stops_before_the_round_that_would_pass_its_budget(make_site: MakeSite, tmp_path: Path) -> None:
    site = make_site(tmp_path, wire=NOISE, bounds=TWO_ROUNDS, rounds=5)
    message = site.begin().tensors  # the seeded values hold no data and cost nothing
    last = [site.train(number, message) for number in range(2)][-1]
    with pytest.raises(EpsilonSpentError, match="max_epsilon: round 2 would be release 3") as error:
        site.train(2, message)
    assert audited(site) == [-1, 0, 1]
    assert site.store.generation(2) is None  # nor was it trained
    assert code_of(error.value) == "epsilon_spent"
    assert "max_epsilon" in REMEDIES["epsilon_spent"]
    again = site.train(1, message)  # the same bits once more are no release
    assert packet_sha256(again.tensors) == packet_sha256(last.tensors)


def test_what_a_run_spent_before_it_was_resumed_counts_and_so_does_another_run(
    make_site: MakeSite, tmp_path: Path
) -> None:
    first = make_site(tmp_path, wire=NOISE, bounds=TWO_ROUNDS, rounds=5)
    message = first.begin().tensors
    first.train(0, message)
    resumed = make_site(tmp_path, wire=NOISE, bounds=TWO_ROUNDS, rounds=5)
    resumed.begin()
    resumed.train(1, message)
    for uid in ("u", "another"):
        with pytest.raises(EpsilonSpentError):
            make_site(tmp_path, wire=NOISE, bounds=TWO_ROUNDS, rounds=5, uid=uid).train(2 if uid == "u" else 0, message)
    make_site(tmp_path, "site-2", wire=NOISE, bounds=TWO_ROUNDS, rounds=5).train(0, message)  # has its own


@pytest.mark.parametrize(
    ("wire", "why"),
    [
        (WireFormat(), "without noise"),
        (WireFormat(clip_norm=1e-9), "without noise"),
        (WireFormat(clip_norm=1.0, noise_std=0.5), r"epsilon 1\d\."),
    ],
)
def test_a_job_cannot_lower_it(make_site: MakeSite, tmp_path: Path, wire: WireFormat, why: str) -> None:
    site = make_site(tmp_path, wire=wire, bounds=TWO_ROUNDS, rounds=5)
    message = site.begin().tensors
    with pytest.raises(EpsilonSpentError, match=why):
        site.train(0, message)
    assert audited(site) == [-1]


def test_the_exit_itself_holds_it_whoever_asks(make_site: MakeSite, tmp_path: Path) -> None:
    """A round that was trained and not sent, as after a crash, does not leave once the budget is gone."""
    free = make_site(tmp_path, wire=NOISE, rounds=5)
    message = free.begin().tensors
    for number in range(3):
        free.train(number, message)
    site = make_site(tmp_path, wire=NOISE, bounds=TWO_ROUNDS, rounds=5)
    stored = site.store.generation(2)
    assert stored is not None
    moved = {name: value + 1 for name, value in stored.update().items()}
    with pytest.raises(EpsilonSpentError):
        site.border.round(2, moved, stored, seconds=0.0, resent=False)


def test_companions_that_are_noised_apart_count_apart(make_site: MakeSite, tmp_path: Path) -> None:
    site = make_site(
        tmp_path, wire=NOISE, bounds=TWO_ROUNDS, rounds=5, overrides={"method": "scaffold", "method#rank": 2}
    )
    message = site.begin().tensors
    message = {**message, **{f"@control/{name}": torch.zeros_like(value) for name, value in message.items()}}
    site.train(0, message)
    with pytest.raises(EpsilonSpentError, match="round 1 would be release 3"):
        site.train(1, message)


def test_with_noise_one_factor_of_a_pair_moves_and_the_other_leaves_as_zeros(
    make_site: MakeSite, tmp_path: Path
) -> None:
    one = make_site(tmp_path / "one", wire=NOISE, overrides=BOTH)
    message = one.begin().tensors
    left = one.train(0, message).tensors
    stored = one.store.generation(0).update()  # type: ignore[union-attr]
    factors = {name for name in left if name.endswith(".A")}
    assert factors
    assert not any(left[name].any() for name in factors)
    assert not any(stored[name].any() for name in factors)  # A was not trained either, so B fits the A that all have
    assert all(left[name].any() for name in left.keys() - factors)
    both = make_site(tmp_path / "both", wire=WireFormat(clip_norm=0.05, noise_std=2.0, noise_on="both"), overrides=BOTH)
    left = both.train(0, message).tensors
    assert all(left[name].any() for name in factors)
    plain = make_site(tmp_path / "plain", overrides=BOTH)
    plain.train(0, message)  # B starts at zero, so its first step moves B alone; without noise A is free to move
    assert any(plain.store.generation(0).update()[name].any() for name in factors)  # type: ignore[union-attr]


def test_the_record_says_what_the_noise_is_worth(federate: Federate, tmp_path: Path) -> None:
    noisy = federate(tmp_path / "noisy", rounds=2, wire=NOISE)
    told = json.loads((tmp_path / "noisy" / "tests" / "u" / "server" / "result.json").read_text())["privacy"]
    assert told == {**told, "unit": "site", "noise_multiplier": 2.0, "rounds": 2, "releases": 2, "delta": 1e-5}
    assert told["epsilon"] == same_noise(2.0, 2)
    assert told["epsilon_replaced"] == same_noise(1.0, 2)
    assert noisy.privacy is not None
    assert RunResult.from_json(noisy.to_json()).privacy == noisy.privacy
    resumed = federate(tmp_path / "noisy", rounds=3, wire=NOISE, resume=True)
    assert resumed.privacy is not None
    assert (resumed.privacy.rounds, resumed.privacy.epsilon) == (3, same_noise(2.0, 3))


def test_a_run_without_noise_has_no_formal_guarantee(federate: Federate, tmp_path: Path) -> None:
    told: Any = federate(tmp_path, rounds=1).privacy
    assert told.epsilon is None
    assert told.headline == "No formal guarantee: no noise is added, so no epsilon holds."
