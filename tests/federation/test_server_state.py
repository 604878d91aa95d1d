"""The server's rounds on disk: messages, rule state, base deltas and companions come back; a damaged one is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from sitelora.federation.files import DamagedStateError
from sitelora.federation.server_state import ServerState, ServerStore
from sitelora.server.types import ANY_SITE, Message


def message(value: float, *, delta: bool = False) -> Message:
    return Message(
        values={"enc.B": torch.full((2,), value), "head.w": torch.tensor([[value]])},
        companions={"control/enc.B": torch.tensor([value, 1.0])},
        base_delta={"enc.lora.q": (torch.full((4, 1), value), torch.ones(1, 3))} if delta else {},
    )


def full_state() -> ServerState:
    first = ServerState(round_number=-1, messages={ANY_SITE: message(0)})
    after = first.after(
        0, {ANY_SITE: message(1, delta=True), "site-1": message(2)}, {"weights": torch.eye(2)}, history={}
    )
    after.acknowledge("site-1")
    return after.after(
        1, {ANY_SITE: message(3, delta=True), "site-1": message(4)}, {"weights": torch.ones(1)}, history={"rounds": [1]}
    )


def test_everything_comes_back_from_disk(tmp_path: Path) -> None:
    state = full_state()
    ServerStore(tmp_path).write(state)
    back = ServerStore(tmp_path).load()
    assert back is not None
    assert (back.round_number, back.history, back.has_deltas) == (1, {"rounds": [1]}, {"site-1": 0})
    assert back.tensors().keys() == state.tensors().keys()
    assert all(torch.equal(back.tensors()[name], tensor) for name, tensor in state.tensors().items())
    for site in (ANY_SITE, "site-1", "site-9"):
        found, wanted = back.message_for(site), state.message_for(site)
        assert all(torch.equal(found.values[name], t) for name, t in wanted.values.items())
        assert all(torch.equal(found.companions[name], t) for name, t in wanted.companions.items())
        assert back.deltas_for(site).keys() == state.deltas_for(site).keys()


def test_a_site_without_a_message_of_its_own_gets_everyones() -> None:
    state = full_state()
    assert state.message_for("site-1").values["enc.B"][0] == 4
    assert state.message_for("site-2").values["enc.B"][0] == 3


def test_a_site_gets_the_base_deltas_it_does_not_have_in_order() -> None:
    state = full_state()
    assert list(state.deltas_for("site-2")) == [0, 1]  # never there: all of them
    assert list(state.deltas_for("site-1")) == [1]
    state.acknowledge("site-1")
    assert list(state.deltas_for("site-1")) == []
    assert state.deltas_for("site-2")[0]["enc.lora.q"][0][0, 0] == 1


def test_a_base_delta_is_kept_until_the_last_site_has_it() -> None:
    state = full_state()
    state.forget_deltas(["site-1", "site-2"])
    assert list(state.deltas) == [0, 1]  # site-2 has none yet
    state.forget_deltas(["site-1"])
    assert list(state.deltas) == [1]
    state.acknowledge("site-1")
    state.forget_deltas(["site-1"])
    assert state.deltas == {}


def test_a_tensor_that_no_site_trained_keeps_the_value_that_its_reader_had() -> None:
    only = Message(values={"enc.B": torch.full((2,), 9.0)})
    state = full_state().after(2, {ANY_SITE: only, "site-1": only}, {}, history={})
    assert state.message_for("site-1").values["head.w"].item() == 4
    assert state.message_for("site-2").values["head.w"].item() == 3
    assert state.message_for("site-1").values["enc.B"][0] == 9


def test_a_method_that_shares_nothing_has_a_state_too(tmp_path: Path) -> None:
    ServerStore(tmp_path).write(ServerState(round_number=0, messages={ANY_SITE: Message(values={})}))
    back = ServerStore(tmp_path).load()
    assert back is not None
    assert back.message_for("site-1").values == {}


def test_the_last_two_rounds_are_kept_by_number(tmp_path: Path) -> None:
    store = ServerStore(tmp_path)
    assert store.load() is None
    assert not store.exists()
    for number in (-1, 0, 1, 997, 998, 999, 1000):
        store.write(ServerState(round_number=number, messages={ANY_SITE: message(number)}))
        back = ServerStore(tmp_path).load()
        assert back is not None
        assert back.round_number == number
    assert sorted(path.name for path in tmp_path.iterdir()) == ["round_1000", "round_1001"]
    assert store.exists()


def flip(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("state.safetensors", flip),
        ("state.safetensors", Path.unlink),
        ("state.safetensors", lambda path: path.write_bytes(b"")),
        ("manifest.json", lambda path: path.write_bytes(path.read_bytes()[:-9])),
        ("manifest.json", lambda path: path.write_text("{}")),
    ],
)
def test_a_damaged_round_is_named_and_the_one_before_it_serves(
    tmp_path: Path, file: str, damage: Callable[[Path], object]
) -> None:
    store = ServerStore(tmp_path)
    for number in (4, 5):
        store.write(ServerState(round_number=number, messages={ANY_SITE: message(number)}))
    damage(tmp_path / "round_006" / file)
    back = store.load()
    assert back is not None
    assert back.round_number == 4
    assert ["round_006" in found for found in store.damaged] == [True]
    store.write(ServerState(round_number=5, messages={ANY_SITE: message(5)}))
    again = ServerStore(tmp_path)
    assert again.load().round_number == 5  # type: ignore[union-attr]
    assert again.damaged == []


def test_where_no_kept_round_is_whole_the_last_ones_file_is_named(tmp_path: Path) -> None:
    store = ServerStore(tmp_path)
    for number in (4, 5):
        store.write(ServerState(round_number=number, messages={ANY_SITE: message(number)}))
        flip(tmp_path / f"round_{number + 1:03d}" / "state.safetensors")
    with pytest.raises(DamagedStateError, match=r"round_006/state\.safetensors is not what was written; restore it"):
        store.load()


def test_an_interrupted_write_does_not_count(tmp_path: Path) -> None:
    store = ServerStore(tmp_path)
    store.write(full_state())
    (tmp_path / ".round_009.0a1b").mkdir()
    (tmp_path / "round_010").mkdir()
    back = ServerStore(tmp_path).load()
    assert back is not None
    assert back.round_number == 1
    assert not (tmp_path / ".round_009.0a1b").exists()
