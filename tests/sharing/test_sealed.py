"""Sealed tensors: safetensors' own bytes, read and written without torch."""

import subprocess
import sys

import pytest
import safetensors.torch
import torch

from sitelora.sharing.sealed import SealError, pack, seal, unpack, unseal

PACKET = {
    "b": torch.arange(6, dtype=torch.float32).reshape(2, 3),
    "a": torch.tensor([1.5, -0.0, float("nan")], dtype=torch.bfloat16),
    "counter": torch.tensor(7),
    "empty": torch.zeros(0, 4, dtype=torch.int8),
    "flag": torch.tensor([True, False]),
    "half": torch.full((1, 1, 2), 0.25, dtype=torch.float16),
}


def test_what_safetensors_writes_is_read_and_what_is_packed_it_reads_with_the_same_bits() -> None:
    sealed = unpack(safetensors.torch.save(PACKET))
    assert {name: one.shape for name, one in sealed.items()} == {name: tuple(t.shape) for name, t in PACKET.items()}
    back = safetensors.torch.load(pack(sealed))
    assert back.keys() == PACKET.keys()
    for name, tensor in PACKET.items():
        assert back[name].dtype == tensor.dtype
        assert back[name].shape == tensor.shape
        assert back[name].flatten().view(torch.uint8).equal(tensor.contiguous().flatten().view(torch.uint8)), name


def test_seal_takes_tensors_and_sealed_ones_alike() -> None:
    assert seal(unpack(seal(PACKET))) == pack(unpack(seal(PACKET)))
    assert unseal(seal({})) == {}
    half = {**unpack(seal(PACKET)), "b": PACKET["b"]}  # a filter has looked into one of them
    assert seal(half) == seal(unpack(seal(PACKET)))
    turned = PACKET["b"].t()
    assert unseal(seal({"t": turned}))["t"].equal(turned)


@pytest.mark.parametrize(
    "data",
    [b"", b"\x80\x04K\x01.", b"\xff" * 16, b"\x02" + b"\0" * 7 + b"[]", seal(PACKET)[:-1]],
    ids=["empty", "pickle", "long header", "list", "cut"],
)
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(SealError, match="safetensors"):
        unpack(data)
    with pytest.raises(SealError, match="safetensors"):
        unseal(data)


def test_none_of_it_imports_torch() -> None:
    code = (
        "import sys; from sitelora.sharing.sealed import *; pack(unpack(pack({}))); assert 'torch' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
