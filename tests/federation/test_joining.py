"""Who joins a run at its next submission, and who leaves it for good: the run goes on, and the record says who."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sitelora.federation.coordinator import FederationError
from sitelora.federation.server_state import ServerState
from sitelora.run_result import RunResult
from sitelora.server.types import ANY_SITE, Message

Federate = Callable[..., RunResult]
TWO, THREE = ("site-1", "site-2"), ("site-1", "site-2", "site-3")
FEDEX = {"method": "fedex_lora", "method#rank": 2, "method#scale": 1.0}


def there(result: RunResult) -> list[list[str]]:
    return [sorted(site for site, entry in each.sites.items() if entry.status == "ok") for each in result.rounds]


def test_a_site_joins_at_the_next_submission(federate: Federate, tmp_path: Path) -> None:
    federate(tmp_path, rounds=1, sites=TWO)
    joined = federate(tmp_path, rounds=2, sites=THREE, resume=True)
    assert there(joined) == [[*TWO], [*THREE]]
    assert "resumed: site-3 was not there when the run began" in joined.warnings


def test_a_site_leaves_for_good_at_the_next_submission(federate: Federate, tmp_path: Path) -> None:
    federate(tmp_path, rounds=1, sites=THREE)
    went_on = federate(tmp_path, rounds=2, sites=TWO, resume=True, evaluate=True)
    assert went_on.completed
    assert there(went_on) == [[*THREE], [*TWO]]
    assert sorted(went_on.evaluation) == [*TWO]
    assert "resumed: site-3 was there when the run began and is not now" in went_on.warnings


def test_who_joins_too_late_for_base_deltas_is_left_out_by_name(federate: Federate, tmp_path: Path) -> None:
    """After round 2 every site has the residual of round 1 beside its base, and the server has dropped it."""
    federate(tmp_path, rounds=2, sites=TWO, overrides=FEDEX)
    went_on = federate(tmp_path, rounds=3, sites=THREE, overrides=FEDEX, resume=True)
    assert there(went_on) == [[*TWO]] * 3
    (said,) = [line for line in went_on.warnings if "left out of this run" in line]
    assert "site-3: was not there while base deltas were sent that are no longer kept" in said
    with pytest.raises(FederationError, match=r"site-3: was not there while base deltas .* run with another uid"):
        federate(tmp_path, rounds=4, sites=THREE, overrides=FEDEX, resume=True, min_sites=3)


def test_who_joins_while_all_base_deltas_are_kept_takes_part(federate: Federate, tmp_path: Path) -> None:
    federate(tmp_path, rounds=1, sites=TWO, overrides=FEDEX)
    joined = federate(tmp_path, rounds=2, sites=THREE, overrides=FEDEX, resume=True)
    assert there(joined) == [[*TWO], [*THREE]]


def test_a_state_knows_who_lacks_what_it_has_dropped() -> None:
    import torch

    delta = {"enc.lora": (torch.ones(2, 1), torch.ones(1, 2))}
    state = ServerState(round_number=-1, messages={ANY_SITE: Message(values={})})
    for number in range(3):
        state.acknowledge("site-1")
        state.forget_deltas(["site-1"])
        assert state.is_behind("site-9") == (number > 0)
        assert not state.is_behind("site-1")
        state = state.after(number, {ANY_SITE: Message(values={}, base_delta=delta)}, {}, history={})
    assert list(state.deltas) == [2]
