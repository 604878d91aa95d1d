"""A method is a value: its passes, what a round sends, what it freezes; and it is found by looking in a folder."""

from __future__ import annotations

import pytest
from torch import nn

from sitelora.adapters.lora import LoRA
from sitelora.method import Method, Pass, ServingRule
from sitelora.method_registry import find_method, method_names
from sitelora.networks.parts import Parts, Projection
from sitelora.regularizers.proximal import Proximal
from sitelora.server.mean import WeightedMean
from sitelora.sharing.rule import Partition, ShareRule, ShareRuleError

RULE = ShareRule(shared=("enc.**.B", "head.**"), local=("enc.**.A",))


def network() -> nn.Module:
    net = nn.ModuleDict({"enc": nn.ModuleDict({"q_proj": nn.Linear(3, 3)}), "head": nn.Linear(3, 2)})
    net.parts = Parts(projections=(Projection(where="enc.q_proj", holds=("q",)),))  # type: ignore[assignment]
    return net


def method(**settings: object) -> Method:
    defaults: dict[str, object] = {
        "name": "m",
        "paper": "none",
        "adapters": (LoRA(where="enc", on="q", rank=2),),
        "share": RULE,
    }
    return Method(**{**defaults, "server": WeightedMean(), **settings})  # type: ignore[arg-type]


def test_by_default_one_pass_trains_everything_with_the_methods_regularizers() -> None:
    pull = Proximal(weight=1.0)
    (one,) = method(regularizers=(pull,)).passes(5)
    assert (one.copy, one.regularizers) == ("", (pull,))
    assert one.trains_tensor("anything.at.all")


def test_phases_say_what_trains_and_so_what_is_sent() -> None:
    phased = method(cycle=((Pass(trains=("**.B",)),), (Pass(trains=("head.**",)),)))
    shared = ("enc.q.lora.B", "head.weight")
    assert phased.sent_in(0, shared) == ("enc.q.lora.B",)
    assert phased.sent_in(1, shared) == ("head.weight",)
    assert method().sent_in(0, shared) == shared


def test_private_copies_are_known_and_never_sent() -> None:
    two = method(cycle=((Pass(trains=("head.**",)), Pass(copy="personal")),))
    assert two.private_copies() == ("personal",)
    assert two.sent_in(0, ("enc.q.lora.B", "head.weight")) == ("head.weight",)
    assert method().private_copies() == ()


def test_adapting_inserts_and_freezes_by_the_share_rule() -> None:
    net = network()
    partition = method().adapt(net, seed=0)
    assert partition.frozen == ("enc.q_proj.bias", "enc.q_proj.weight")
    assert partition.local == ("enc.q_proj.lora.A",)
    assert {name for name, p in net.named_parameters() if p.requires_grad} == set(partition.trained)


def test_a_rule_that_does_not_fit_the_network_raises_at_construction() -> None:
    with pytest.raises(ShareRuleError, match=r"enc\.q_proj\.lora\.A"):
        method(share=ShareRule(shared=("enc.**.B", "head.**"))).adapt(network(), seed=0)


@pytest.mark.parametrize(
    ("partition", "kind", "found"),
    [
        (Partition(("a",), (), ()), "global", None),
        (Partition(("a",), ("b", "c"), ()), "global", "2 tensors of the model are local to a site"),
        (Partition(("a",), ("b",), ()), "unseen", None),
        (Partition((), ("b",), ()), "unseen", "nothing is shared, so there is no model beyond the sites' own"),
        (Partition((), ("b",), ()), "personal", None),
    ],
)
def test_a_kind_of_model_that_cannot_be_says_why(partition: Partition, kind: str, found: str | None) -> None:
    assert ServingRule().why_not(kind, partition) == found


def test_methods_are_found_by_looking_in_the_folder() -> None:
    names = method_names()
    assert names == sorted(names)
    assert {"iat", "flap_sam"} <= set(names)
    assert all(callable(find_method(name)) for name in names)
    with pytest.raises(ValueError, match=r"no method is called 'nothing'; there are: .*iat"):
        find_method("nothing")
