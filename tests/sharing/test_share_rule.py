"""A share rule is total and disjoint, every pattern means something, or it raises with the names."""

import pytest

from sitelora.sharing.rule import REST_OF_BASE, ShareRule, ShareRuleError

BASE = ("enc.q.weight", "enc.q.bias", "dec.v.weight", "head.weight")
ADAPTERS = ("enc.q.lora.A", "enc.q.lora.B", "dec.v.lora.A", "dec.v.lora.B")
SHARED, LOCAL = ("enc.**.B", "dec.**.A", "head.**"), ("enc.**.A", "dec.**.B")


def test_every_tensor_is_exactly_one_of_three() -> None:
    partition = ShareRule(shared=SHARED, local=LOCAL).partition(base=BASE, adapters=ADAPTERS)
    assert partition.shared == ("dec.v.lora.A", "enc.q.lora.B", "head.weight")
    assert partition.local == ("dec.v.lora.B", "enc.q.lora.A")
    assert partition.frozen == ("dec.v.weight", "enc.q.bias", "enc.q.weight")
    assert partition.trained == tuple(sorted(partition.shared + partition.local))
    assert sorted((*partition.trained, *partition.frozen)) == sorted((*BASE, *ADAPTERS))


def test_the_partition_does_not_depend_on_order_or_wrappers() -> None:
    rule = ShareRule(shared=SHARED, local=LOCAL)
    wrapped = rule.partition(
        base=[f"module.{name}" for name in reversed(BASE)], adapters=[f"_orig_mod.{n}" for n in ADAPTERS]
    )
    assert wrapped == rule.partition(base=BASE, adapters=ADAPTERS)


def test_an_adapters_tensor_is_never_swept_up_by_the_rest_of_the_base() -> None:
    with pytest.raises(ShareRuleError) as caught:
        ShareRule(shared=SHARED, local=("enc.**.A",)).partition(base=BASE, adapters=ADAPTERS)
    assert "no pattern names (1)" in str(caught.value)
    assert "dec.v.lora.B" in str(caught.value)
    assert "enc.q.weight" not in str(caught.value)


def test_without_the_rest_of_the_base_every_tensor_needs_a_pattern() -> None:
    with pytest.raises(ShareRuleError) as caught:
        ShareRule(shared=SHARED, local=LOCAL, frozen=("enc.*.weight",)).partition(base=BASE, adapters=ADAPTERS)
    for name in ("enc.q.bias", "dec.v.weight"):
        assert name in str(caught.value)


def test_a_tensor_named_by_two_kinds_is_an_error_with_both_patterns() -> None:
    with pytest.raises(ShareRuleError) as caught:
        ShareRule(shared=(*SHARED, "**.B"), local=LOCAL).partition(base=BASE, adapters=ADAPTERS)
    assert "more than one kind names (1)" in str(caught.value)
    assert "dec.v.lora.B (shared: **.B, local: dec.**.B)" in str(caught.value)


def test_a_tensor_both_trained_and_frozen_is_an_error() -> None:
    with pytest.raises(ShareRuleError, match=r"head\.weight \(shared: head\.\*\*, frozen: head\.weight\)"):
        ShareRule(shared=SHARED, local=LOCAL, frozen=("head.weight", REST_OF_BASE)).partition(
            base=BASE, adapters=ADAPTERS
        )


def test_a_pattern_that_names_nothing_is_an_error_of_its_kind() -> None:
    with pytest.raises(ShareRuleError) as caught:
        ShareRule(shared=SHARED, local=(*LOCAL, "neck.**")).partition(base=BASE, adapters=ADAPTERS)
    assert "no tensor is named by (1)" in str(caught.value)
    assert "local: neck.**" in str(caught.value)


def test_all_problems_come_in_one_error() -> None:
    with pytest.raises(ShareRuleError) as caught:
        ShareRule(shared=("**.B", "nothing"), local=("enc.**.B",)).partition(base=BASE, adapters=ADAPTERS)
    text = str(caught.value)
    assert text.index("no pattern names") < text.index("more than one kind") < text.index("no tensor is named by")


def test_a_long_list_is_cut_but_counted() -> None:
    many = [f"x.lora.{n:02d}" for n in range(30)]
    with pytest.raises(ShareRuleError, match=r"no pattern names \(30\)") as caught:
        ShareRule().partition(base=BASE, adapters=many)
    assert "... and 18 more" in str(caught.value)


def test_the_rest_of_the_base_may_be_nothing() -> None:
    partition = ShareRule(shared=("**",)).partition(base=BASE, adapters=ADAPTERS)
    assert partition.frozen == ()


def test_one_string_where_a_list_belongs_is_caught() -> None:
    with pytest.raises(ShareRuleError, match="one string"):
        ShareRule(shared="**.B")  # type: ignore[arg-type]


def test_is_shared_says_no_where_it_is_not_sure() -> None:
    rule = ShareRule(shared=("**.B",), local=("**.A", "dec.**"))
    assert rule.is_shared("enc.lora.B")
    assert not rule.is_shared("enc.lora.A")
    assert not rule.is_shared("dec.lora.B")  # named twice
    assert not rule.is_shared("enc.weight")  # named by nothing
