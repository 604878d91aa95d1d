"""A site's generations: whole, the last two kept, and a damaged one is named instead of used."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from sitelora.federation.state import SiteState, SiteStore


def state(value: float) -> SiteState:
    return SiteState(
        local={"enc.A": torch.full((2, 3), value)},
        copies={"personal/enc.A": torch.tensor([value, 1.0])},
        memory={"control/enc.B": torch.tensor([value])},
        delta={"enc.lora.B": torch.ones(4, 1) * value, "enc.lora.A": torch.ones(1, 5)},
        optimizer={"/enc.A/exp_avg": torch.full((2, 3), value / 2), "/enc.A/step": torch.tensor(3.0)},
        delta_rounds=[0, 2],
        steps=int(value),
    )


def update(value: float) -> dict[str, Tensor]:
    return {"enc.B": torch.tensor([value])}


def write(store: SiteStore, *rounds: int) -> None:
    for number in rounds:
        store.write(number, state(number), update(number), {"message_sha256": f"m{number}"})


def numbers(store: SiteStore) -> list[str]:
    return sorted(path.name for path in store.folder.iterdir())


def test_everything_comes_back_from_disk(tmp_path: Path) -> None:
    write(SiteStore(tmp_path), 7)
    stored = SiteStore(tmp_path).generation(7)
    assert stored is not None
    back, wanted = stored.state(), state(7)
    assert (back.delta_rounds, back.steps) == ([0, 2], 7)
    assert back.tensors().keys() == wanted.tensors().keys()
    assert all(torch.equal(back.tensors()[name], tensor) for name, tensor in wanted.tensors().items())
    assert torch.equal(stored.update()["enc.B"], torch.tensor([7.0]))
    assert (stored.manifest["round"], stored.manifest["message_sha256"]) == (7, "m7")


def test_the_groups_of_a_state_stay_apart() -> None:
    mixed = SiteState(local={"a:b": torch.zeros(1)}, memory={"a:b": torch.ones(1)}, copies={"c/a:b": torch.ones(2)})
    back = SiteState.from_tensors(mixed.tensors(), delta_rounds=[], steps=0, served_as={})
    assert back.local.keys() == back.memory.keys() == {"a:b"}
    assert back.copies.keys() == {"c/a:b"}
    assert not back.local["a:b"].any()
    assert back.memory["a:b"].all()


def test_the_last_two_generations_are_kept(tmp_path: Path) -> None:
    store = SiteStore(tmp_path)
    write(store, 0, 1, 2, 5)
    assert numbers(store) == ["round_002", "round_005"]
    assert store.generation(1) is None


def test_a_round_starts_from_the_last_one_before_it(tmp_path: Path) -> None:
    store = SiteStore(tmp_path)
    assert store.latest_before(0) is None
    write(store, 3, 5)
    found = [store.latest_before(number) for number in (6, 5, 4)]
    assert [generation.manifest["round"] for generation in found if generation] == [5, 3, 3]
    assert store.latest_before(3) is None  # the site was not there before round 3
    latest = store.latest()
    assert latest is not None
    assert latest.manifest["round"] == 5


def test_a_round_done_again_forgets_what_came_after_it(tmp_path: Path) -> None:
    """Round 4 after another message is another history: the old round 5 does not belong to it."""
    store = SiteStore(tmp_path)
    write(store, 4, 5)
    write(store, 4)
    assert numbers(store) == ["round_004"]


def test_a_state_that_is_no_longer_kept_is_never_taken_for_a_fresh_start(tmp_path: Path) -> None:
    store = SiteStore(tmp_path)
    write(store, 3, 4, 5)
    with pytest.raises(ValueError, match=r"round 4 starts from the state before it, which is gone.*rounds 4, 5"):
        store.latest_before(4)
    with pytest.raises(ValueError, match="which is gone"):
        write(store, 4)
    assert numbers(store) == ["round_004", "round_005"]


def test_rounds_are_numbers_not_words(tmp_path: Path) -> None:
    store = SiteStore(tmp_path)
    write(store, 998, 999, 1000, 1001)
    assert numbers(store) == ["round_1000", "round_1001"]


def test_an_unfinished_generation_does_not_count(tmp_path: Path) -> None:
    store = SiteStore(tmp_path)
    write(store, 1)
    (tmp_path / "round_002").mkdir()
    (tmp_path / "round_002" / "state.safetensors").write_bytes(b"half")
    (tmp_path / ".round_002.0a1b").mkdir()
    again = SiteStore(tmp_path)
    latest = again.latest()
    assert latest is not None
    assert latest.manifest["round"] == 1
    assert not (tmp_path / ".round_002.0a1b").exists()
    write(again, 2)
    assert again.generation(2) is not None


@pytest.mark.parametrize(("file", "read"), [("state", "state"), ("update", "update")])
def test_a_file_that_is_not_what_was_written_is_named(tmp_path: Path, file: str, read: str) -> None:
    store = SiteStore(tmp_path)
    write(store, 4)
    path = tmp_path / "round_004" / f"{file}.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1  # one bit of one value
    path.write_bytes(data)
    stored = store.generation(4)
    assert stored is not None
    with pytest.raises(
        ValueError, match=rf"{file}\.safetensors is not what was written for round 4.*remove its folder"
    ):
        getattr(stored, read)()
