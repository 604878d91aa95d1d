"""Patterns match by whole segments, `**` stands for any number of them, wrappers' prefixes do not count."""

import pytest

from sitelora.sharing.patterns import clean_name, matches, matches_any


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("image_encoder.**.B", "image_encoder.blocks.3.attn.qkv.lora.q.B"),
        ("image_encoder.**.B", "image_encoder.B"),  # ** may stand for nothing
        ("image_encoder.**", "image_encoder"),
        ("image_encoder.**", "image_encoder.neck.0.weight"),
        ("**.A", "A"),
        ("**", "anything.at.all"),
        ("**.lora.**.A", "x.lora.A"),
        ("**.lora.**.A", "x.y.lora.q.A"),
        ("blocks.*.weight", "blocks.11.weight"),
        ("blocks.1*.weight", "blocks.11.weight"),
        ("a.b", "a.b"),
    ],
)
def test_names(pattern: str, name: str) -> None:
    assert matches(pattern, name)


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("image_encoder.**.B", "image_encoder.blocks.3.attn.qkv.lora.q.A"),
        ("image_encoder.**.B", "image_encoder.blocks.subB"),  # a segment is matched whole
        ("image_encoder.**.B", "my_image_encoder.x.B"),
        ("image_encoder.**.B", "x.image_encoder.y.B"),  # anchored at the first segment
        ("image_encoder", "image_encoder.B"),  # and at the last
        ("image_encoder.**", "image_encoder2.x"),
        ("blocks.*.weight", "blocks.1.attn.weight"),  # * never crosses a dot
        ("blocks.*.weight", "blocks.weight"),
        ("blocks.1.weight", "blocks.11.weight"),
        ("a.b", "aXb"),  # a dot is a dot, not any character
        ("a.+", "a.b"),  # nothing else is special
    ],
)
def test_does_not_name(pattern: str, name: str) -> None:
    assert not matches(pattern, name)


def test_any_of_several() -> None:
    assert matches_any(["x", "**.A"], "q.A")
    assert not matches_any(["x", "**.A"], "q.B")
    assert not matches_any([], "q.B")


@pytest.mark.parametrize("pattern", ["", ".a", "a..b", "a."])
def test_an_empty_segment_is_an_error_that_shows_the_pattern(pattern: str) -> None:
    with pytest.raises(ValueError, match="empty segment") as caught:
        matches(pattern, "a")
    assert repr(pattern) in str(caught.value)


@pytest.mark.parametrize(
    "wrapped",
    [
        "module.a.B",
        "_orig_mod.a.B",
        "module._orig_mod.a.B",
        "_orig_mod.module.a.B",
        "module.module.a.B",
        "a.module.B",
        "a._orig_mod.module.B",
        "a.module.module.B",
        "module.a._orig_mod._orig_mod.module.B",
    ],
)
def test_wrappers_add_nothing_however_deep(wrapped: str) -> None:
    assert clean_name(wrapped) == "a.B"
    assert matches("a.*", wrapped)


@pytest.mark.parametrize("name", ["submodule.a", "a.module", "amodule.x", "module", "a._orig_mod", "module_list.0.w"])
def test_a_name_that_only_looks_like_a_wrapper_stays(name: str) -> None:
    assert clean_name(name) == name
