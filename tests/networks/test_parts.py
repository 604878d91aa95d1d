"""A pattern may speak of a part: it stands for the network's own names, or says what the network has instead."""

from __future__ import annotations

import pickle

import pytest
from torch import nn

from sitelora.method_registry import find_method, method_names
from sitelora.networks.parts import Parts, PartsError, Projection, parts_of
from sitelora.networks.sam_parts import sam_parts

PARTS = Parts(
    members={
        "encoder": ("enc",),
        "decoder": (),
        "blocks": tuple(f"enc.{number}" for number in range(5)),
    }
)


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("enc.**.A", ("enc.**.A",)),
        ("@encoder", ("enc.**",)),
        ("@encoder.**.B", ("enc.**.B",)),
        ("@decoder.**.B", ()),
        ("@blocks[1]", ("enc.1.**",)),
        ("@blocks[-2:].*.A", ("enc.3.*.A", "enc.4.*.A")),
        ("@blocks[:1/2]", ("enc.0.**", "enc.1.**")),
        ("@blocks[1/2:]", ("enc.2.**", "enc.3.**", "enc.4.**")),
        ("@blocks[5:]", ()),
    ],
)
def test_a_part_is_written_out(pattern: str, names: tuple[str, ...]) -> None:
    assert PARTS.expand(pattern) == names


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("@heads", "declares no part @heads; its parts: @blocks, @decoder, @encoder"),
        ("@blocks[6:]", r"found \[6:\]"),
        ("@blocks[5]", r"found \[5\]"),
        ("@blocks[x]", r"found \[x\]"),
        ("@blocks[1/0:]", r"found \[1/0:\]"),
        ("@Blocks", "expected @PART"),
        ("@blocks[1", "expected @PART"),
    ],
)
def test_what_a_network_does_not_have_is_named(pattern: str, says: str) -> None:
    with pytest.raises(PartsError, match=says):
        PARTS.expand(pattern)


def test_a_network_without_parts_says_how_to_give_it_some() -> None:
    with pytest.raises(PartsError, match="give it an attribute `parts`"):
        parts_of(nn.Linear(2, 2)).expand("@encoder")


def test_a_fused_projection_knows_its_rows() -> None:
    assert Projection(where="qkv", holds=("q", "k", "v")).rows("v", 12) == slice(8, 12)
    assert Projection(where="kv", holds=("k", "v")).rows("k", 12) == slice(0, 6)


@pytest.mark.parametrize("name", method_names())
def test_a_method_is_a_value(name: str) -> None:
    method = find_method(name)()
    assert method == find_method(name)()
    assert pickle.loads(pickle.dumps(method)) == method
    bound = method.on(sam_parts(6))
    assert bound == bound.on(sam_parts(6))
