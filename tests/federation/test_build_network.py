"""From a base and a method to the network that trains, and back to one that any viewer serves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sitelora.federation.build_network import (
    adapted_network,
    load_model,
    load_values,
    merged_state,
    model_sha256,
    partition_of,
    save_merged,
    trained_parameters,
)
from sitelora.federation.model_kinds import serve
from sitelora.federation.packets import Received
from sitelora.federation.state import SiteState
from sitelora.method import Method, Model
from sitelora.method_registry import find_method
from sitelora.networks.sam import SamSegmenter


def base() -> SamSegmenter:
    return SamSegmenter(arch="sam_tiny", image_size=32, base=None, quiet=True, precision="fp32").eval()


def adapted(name: str = "iat", precision: str = "fp32", **arguments: Any) -> tuple[SamSegmenter, Method]:
    method = find_method(name)(**arguments)
    network = adapted_network(base(), method, seed=0, precision=precision, device="cpu")
    assert isinstance(network, SamSegmenter)
    return network.eval(), method


def some_values(network: SamSegmenter, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        n: p.detach() + 0.1 * torch.randn(p.shape, generator=generator) for n, p in trained_parameters(network).items()
    }


@pytest.fixture
def picture() -> Tensor:
    return torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(3))


def test_exactly_the_partitions_trained_tensors_take_gradients() -> None:
    network, _ = adapted()
    partition = partition_of(network)
    assert tuple(trained_parameters(network)) == partition.trained
    assert set(partition.frozen) == set(network.state_dict()) - set(partition.trained)


@pytest.mark.usefixtures("bf16_anywhere")
def test_a_bf16_base_keeps_its_adapters_in_fp32() -> None:
    network, _ = adapted(precision="bf16")
    assert {p.dtype for p in trained_parameters(network).values()} == {torch.float32}
    assert network.image_encoder.blocks[0].attn.qkv.weight.dtype == torch.bfloat16
    assert {tensor.dtype for tensor in merged_state(network).values()} == {torch.float32}


def test_values_go_where_their_names_say_or_nowhere() -> None:
    network, _ = adapted()
    values = some_values(network)
    load_values(network, values)
    assert all(torch.equal(p, values[n]) for n, p in trained_parameters(network).items())
    with pytest.raises(KeyError, match=r"image_encoder\.pos_embed is no trained tensor"):
        load_values(network, {"image_encoder.pos_embed": torch.zeros(1)})


@pytest.mark.parametrize("with_delta", [False, True])
def test_the_merged_state_is_a_plain_sam_that_answers_the_same(
    picture: Tensor, tmp_path: Path, with_delta: bool
) -> None:
    network, _ = adapted("fedex_lora")
    delta = {"image_encoder.blocks.1.attn.qkv.lora.q": (torch.ones(192, 1) / 50, torch.ones(1, 192) / 50)}
    values = some_values(network)
    load_model(network, Model(values, delta if with_delta else {}))
    plain = base()
    names = set(plain.state_dict())
    plain.load_state_dict(torch.load(save_merged(network, tmp_path / "deep" / "model.pt"))["model"])
    with torch.no_grad():
        wanted = network(picture)
        torch.testing.assert_close(plain(picture), wanted, atol=1e-4 * float(wanted.abs().max()), rtol=0)
        before = wanted.clone()
        load_model(network, Model(values, {}))
        assert torch.equal(network(picture), before) != with_delta  # a delta is gone with its model
    assert set(merged_state(network)) == names
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["model.pt"]


def test_merging_for_serving_leaves_the_network_as_it_was(picture: Tensor) -> None:
    network, _ = adapted()
    load_values(network, some_values(network))
    with torch.no_grad():
        before = network(picture)
        merged_state(network)
        assert torch.equal(network(picture), before)


def test_what_cannot_be_merged_is_served_with_its_adapters(picture: Tensor) -> None:
    network, _ = adapted("fedsca")
    assert set(merged_state(network)) == set(network.state_dict())


@pytest.mark.parametrize(
    "changed",
    [
        {"values": {"a": torch.ones(2) + 1e-7, "b": torch.zeros(1)}},
        {"values": {"a": torch.ones(2)}},
        {"base_delta": {"x": (torch.ones(2, 1), torch.zeros(1, 2))}},
        {"strengths": {"global": 0.5}},
    ],
)
def test_a_models_hash_is_of_everything_that_it_puts_into_a_network(changed: dict[str, Any]) -> None:
    values, delta = {"a": torch.ones(2), "b": torch.zeros(1)}, {"x": (torch.ones(2, 1), torch.ones(1, 2))}
    model = Model(values, delta, {"global": 1.0})
    assert model_sha256(model) == model_sha256(Model(dict(reversed(values.items())), delta, {"global": 1.0}))
    assert model_sha256(model) != model_sha256(replace(model, **changed))


def test_a_network_that_nobody_adapted_has_no_partition() -> None:
    with pytest.raises(TypeError, match="make it with adapted_network"):
        partition_of(base())


# serving


def served(name: str, **state: Any) -> tuple[dict[str, Model | str], dict[str, dict[str, Tensor]]]:
    network, method = adapted(name)
    partition = partition_of(network)
    initial = {n: p.detach().clone() for n, p in trained_parameters(network).items()}
    own, mean, private = (some_values(network, seed) for seed in (1, 2, 3))
    models = serve(
        method,
        partition,
        received=Received({n: own[n] for n in partition.shared}),
        unseen_site=Received({n: mean[n] for n in partition.shared}),
        state=SiteState(local={n: private[n] for n in partition.local}, **state),
        initial=initial,
    )
    return models, {"initial": initial, "own": own, "mean": mean, "private": private}


def test_iat_has_a_personal_and_an_unseen_site_model_but_no_global_one() -> None:
    models, source = served("iat")
    personal, unseen, plain = models["personal"], models["unseen"], models["base"]
    assert isinstance(models["global"], str)
    assert isinstance(personal, Model)
    assert isinstance(unseen, Model)
    assert isinstance(plain, Model)
    a, b = "image_encoder.blocks.0.attn.qkv.lora.q.A", "image_encoder.blocks.0.attn.qkv.lora.q.B"
    assert torch.equal(personal.values[a], source["private"][a])
    assert torch.equal(personal.values[b], source["own"][b])
    assert torch.equal(unseen.values[a], source["initial"][a])
    assert torch.equal(unseen.values[b], source["mean"][b])
    assert all(torch.equal(plain.values[n], t) for n, t in source["initial"].items())
    assert personal.values.keys() == unseen.values.keys() == source["initial"].keys()


def test_dittos_personal_model_is_its_private_copy() -> None:
    network, _ = adapted("ditto")
    copy = {f"personal/{n}": torch.full_like(p, 9.0) for n, p in trained_parameters(network).items()}
    models, source = served("ditto", copies=copy)
    personal, everyones = models["personal"], models["global"]
    assert isinstance(personal, Model)
    assert isinstance(everyones, Model)
    assert all(bool((t == 9).all()) for t in personal.values.values())
    assert all(torch.equal(t, source["mean"][n]) for n, t in everyones.values.items())


def test_local_training_has_only_personal_models() -> None:
    models, source = served("local")
    assert isinstance(models["global"], str)
    assert isinstance(models["unseen"], str)
    personal = models["personal"]
    assert isinstance(personal, Model)
    assert all(torch.equal(t, source["private"][n]) for n, t in personal.values.items())


def test_base_deltas_belong_to_every_model_but_the_base() -> None:
    delta = {"x.lora.B": torch.ones(2, 1), "x.lora.A": torch.ones(1, 2)}
    models, _ = served("fedex_lora", delta=delta)
    for kind in ("personal", "global", "unseen"):
        model = models[kind]
        assert isinstance(model, Model)
        assert list(model.base_delta) == ["x.lora"]
    plain = models["base"]
    assert isinstance(plain, Model)
    assert plain.base_delta == {}
