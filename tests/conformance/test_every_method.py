"""What every file in ``methods/`` must hold in a federation; a method receives these tests by being in the folder."""

from __future__ import annotations

import copy
import importlib
import inspect
import json
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from run_states import state_hashes
from sitelora.adapters.base import adapter_tensor_names, adapters_of, merge_adapters
from sitelora.adapters.bottleneck import Bottleneck
from sitelora.adapters.lora import set_strengths
from sitelora.adapters.low_rank import LowRankPair
from sitelora.egress import egress_statement
from sitelora.federation.build_network import trained_parameters
from sitelora.federation.in_process import run_in_process
from sitelora.federation.model_kinds import personal_model
from sitelora.method import BEST_RANK, EXACT, INEXACT, NO_MEAN, TRAVELLING
from sitelora.sharing.patterns import matches_any
from sitelora.sharing.wire import packet_bytes
from small_network import small_network


def tensor_name(name: str) -> str:
    """The shared tensor that something on the wire belongs to."""
    return name.partition("/")[2] if name.startswith("@") else name


def declared(run: Any, site: str, round_number: int) -> dict[str, tuple[int, ...]]:
    """What the method says a site sends in a round: name on the wire and shape."""
    names = run.method.sent_in(round_number, run.partition.shared)
    shapes = run.method.ranks.cut_shapes({name: run.shapes[name] for name in names}, site)
    return shapes | {f"@{c}/{name}": shapes[name] for c in run.method.program.companions for name in names}


def test_file_function_and_method_have_one_name_and_say_their_paper_and_claim(run: Any) -> None:
    function = run.function
    module = importlib.import_module(function.__module__)
    assert run.method.name == function.__name__ == run.name.partition("+")[0].rpartition(".")[2]
    assert run.method.paper.removeprefix("arXiv:") in (module.__doc__ or "").splitlines()[0] + " baseline"
    assert run.method.mean_product in (EXACT, BEST_RANK, INEXACT, NO_MEAN)
    if any(isinstance(m, LowRankPair) for m in run.network.modules()):
        assert {"rank", "scale"} <= set(inspect.signature(function).parameters)


def test_the_partition_is_total_and_disjoint(run: Any) -> None:
    partition = run.partition
    names = [*partition.shared, *partition.local, *partition.frozen]
    assert sorted(names) == sorted(run.shapes)
    assert adapter_tensor_names(run.network) <= {*partition.trained, *partition.frozen}
    assert set(trained_parameters(run.network)) == set(partition.trained)


def test_the_adapted_network_starts_as_the_base(run: Any) -> None:
    picture = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(1))
    plain = small_network(run.bundle)
    plain.load_state_dict(run.base)
    with torch.no_grad():
        assert torch.equal(plain(picture), run.network(picture))


def test_nvflares_serialised_payload_holds_the_shared_values_and_nothing_else(run: Any) -> None:
    kept = [*run.partition.local, *run.partition.frozen]
    for (site, round_number), raw in run.raw.items():
        packet = run.sent[site, round_number]
        assert {tensor_name(name) for name in packet} <= set(run.partition.shared)
        assert [name for name in packet if name.encode() not in raw] == []
        assert [name for name in kept if name.encode() in raw] == []
        assert len(raw) < 1.05 * packet_bytes(packet) + 30_000


def test_ranks_and_shapes_travel_as_declared(run: Any) -> None:
    for (site, round_number), message in run.received.items():
        sent = {name: tuple(tensor.shape) for name, tensor in run.sent[site, round_number].items()}
        assert sent == declared(run, site, round_number)
        shapes = run.method.ranks.cut_shapes({name: run.shapes[name] for name in run.partition.shared}, site)
        plain = {name: tuple(tensor.shape) for name, tensor in message.items() if not name.startswith("@")}
        assert plain == shapes
    if "rank" in inspect.signature(run.function).parameters:
        rank = inspect.signature(run.function).parameters["rank"].default
        assert {m.A.shape[0] for m in run.network.modules() if isinstance(m, LowRankPair)} == {rank}


def test_ledger_audit_log_and_egress_statement_are_one_number(run: Any) -> None:
    statement = egress_statement(run.bundle, run.overrides, rounds=2, sites=2)
    for round_number, entry in enumerate(run.result.rounds):
        for site, ledger in entry.sites.items():
            log = (run.folder / site / "audit.jsonl").read_text().splitlines()
            lines = [line for line in map(json.loads, log) if line["round"] == round_number]
            shapes = declared(run, site, round_number) if ledger.status == "ok" else {}
            assert ledger.bytes_up == 2 * sum(math.prod(shape) for shape in shapes.values())
            assert sum(line["bytes"] for line in lines) == ledger.bytes_up
            assert sorted(line["name"] for line in lines) == sorted(shapes)
            assert ledger.bytes_up <= statement.bytes_up[round_number]
            if ledger.status == "ok":
                assert ledger.bytes_down == packet_bytes(run.received[site, round_number])
    assert run.result.rounds[0].sites["site-1"].bytes_up == statement.bytes_up[0]  # it has the full rank
    assert run.result.sites["site-1"].begin_bytes_up == statement.begin_bytes_up


def test_frozen_tensors_are_bit_identical_after_training_and_serving(run: Any) -> None:
    for site in run.sites:
        after = run.frozen_after[site]
        assert [name for name, tensor in run.frozen_before[site].items() if not torch.equal(tensor, after[name])] == []


def test_every_kind_of_trained_tensor_moved(run: Any) -> None:
    assert run.moved <= set(run.partition.trained)
    for kind in ("shared", "local"):
        names = set(getattr(run.partition, kind))
        assert not names or names & run.moved, f"no {kind} tensor moved in two rounds"


def test_local_tensors_are_bit_identical_on_disk_and_in_the_personal_model(run: Any) -> None:
    for (site, round_number), local in run.local.items():
        stored = run.sites[site].store.generation(round_number)
        state = stored.state()
        assert sorted(state.local) == list(run.partition.local)
        if not run.method.private_copies():
            assert [name for name, tensor in local.items() if not torch.equal(tensor, state.local[name])] == []
            served = personal_model(run.method, {}, state).values
            assert [name for name, tensor in local.items() if not torch.equal(tensor, served[name])] == []


def test_moments_go_on_but_for_factors_that_the_server_replaced(run: Any) -> None:
    before, after = (run.sites["site-1"].store.generation(round_number).state() for round_number in range(2))
    in_the_round = after.steps - before.steps
    for key, steps in ((k, int(t)) for k, t in after.optimizer.items() if k.endswith("/step")):
        owner, name = key.partition("/")[0], key.partition("/")[2].removesuffix("/step")
        if owner == TRAVELLING and matches_any(run.method.fresh_moments, name):
            assert steps <= in_the_round
        else:
            assert steps >= int(before.optimizer.get(key, 0))
            assert not run.method.fresh_moments or steps > in_the_round


def test_a_missing_site_is_named_and_goes_on_from_the_current_message(run: Any) -> None:
    first, second = run.result.rounds
    assert run.result.completed
    assert first.sites["site-2"].status == "missing"
    assert {entry.status for entry in second.sites.values()} == {"ok"}
    mine, other = run.received["site-1", 1], run.received["site-2", 1]
    assert {n for n in other if n.startswith("@delta")} == {n for n in mine if n.startswith("@delta")}


def test_the_record_says_what_aggregation_did_to_the_products(run: Any) -> None:
    sent = run.sent["site-1", 1]
    pairs = {name[:-2] for name in sent if name.endswith(".A") and f"{name[:-1]}B" in sent and "@" not in name}
    entry = run.result.rounds[1]
    assert set(entry.details.layers) == pairs
    if pairs:
        assert entry.server["product_error"] >= 0
        assert entry.server["averaging_error"] > 1e-4  # two sites with other images are not the same
        assert ("truncation_lost" in entry.server) == (run.method.mean_product == BEST_RANK)
        assert (entry.server["product_error"] < 1e-5) == (run.method.mean_product == EXACT)


def test_interrupted_is_uninterrupted_bit_for_bit(run: Any) -> None:
    resumed = run_in_process(
        bundle=run.bundle,
        dataset=run.dataset,
        sites=run.sites_there,
        rounds=2,
        federation="conformance",
        overrides=run.overrides,
        data=run.data,
        home_folder=run.copy,
        uid="whole",
        resume=True,
        evaluate=False,
        attends=run.attends,
    )
    assert resumed.fingerprint == run.result.fingerprint
    assert state_hashes(run.copy / "conformance" / "whole") == state_hashes(run.folder)


def bad_updates(packet: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """By the words that the rejection must hold."""
    bad = {"unexpected tensor": {**packet, "decoder.smuggled.weight": torch.zeros(2, dtype=torch.bfloat16)}}
    if packet:
        name = sorted(packet)[len(packet) // 2]
        good = packet[name]
        for value in (float("nan"), float("inf")):
            broken = good.clone()
            broken.view(-1)[0] = value
            bad[f"{name}: 1 values are NaN or infinite" + " " * (value > 0)] = {**packet, name: broken}
        bad[f"{name}: shape"] = {**packet, name: torch.cat([good, good])}
        bad[f"{name}: dtype"] = {**packet, name: good.double()}
        bad[f"{name}: missing"] = {n: t for n, t in packet.items() if n != name}
    return bad


def test_a_broken_or_oversized_update_is_rejected_by_name(run: Any) -> None:
    for words, packet in bad_updates(dict(run.sent["site-1", 0])).items():
        assert not run.coordinator.receive("site-1", packet, run.reports["site-1", 0])
        reason = run.coordinator.record.rounds[max(run.coordinator.record.rounds)].sites["site-1"].reason
        assert reason.startswith("site-1: ")
        assert words.strip() in reason


def test_every_kind_of_model_is_scored_or_says_why_not(run: Any) -> None:
    for site, evaluation in run.result.evaluation.items():
        assert set(evaluation) == {"base", "personal", "global", "unseen"}
        for kind, scores in evaluation.items():
            reason = run.method.serving.why_not(kind, run.partition)
            assert scores.not_applicable == reason
            assert reason or 0 <= scores.score <= 1
        assert (run.folder / site / "models" / "personal.pt").is_file()


def test_merging_keeps_the_output(run: Any) -> None:
    network = copy.deepcopy(run.network)
    picture = torch.rand(1, 1, 32, 32, generator=torch.Generator().manual_seed(2))
    generator = torch.Generator().manual_seed(3)
    for pair in (m for m in network.modules() if isinstance(m, LowRankPair)):
        pair.B.data = torch.randn(pair.B.shape, generator=generator) / 4
    set_strengths(network, run.method.serving.strengths_of("personal"))
    with torch.no_grad():
        expected = network(picture)
        if any(isinstance(a, Bottleneck) for _, _, a in adapters_of(network)):
            with pytest.raises(TypeError, match="cannot be merged"):
                merge_adapters(network)
            return
        merge_adapters(network)
        torch.testing.assert_close(network(picture), expected, atol=2e-3, rtol=1e-3)
