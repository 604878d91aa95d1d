import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from sitelora.typed_json import OMIT, REST, TypedJsonError, from_json, to_json
from sitelora.value_kinds import strict_json


@dataclass(frozen=True, kw_only=True)
class Inner:
    name: str
    sizes: Sequence[int] = ()


@dataclass(frozen=True, kw_only=True)
class Outer:
    number: int = field(metadata={"key": "round"})
    share: float | None = None
    told: Mapping[str, str | int] = field(default_factory=dict, metadata=OMIT)
    inner: Inner | None = field(default=None, metadata=OMIT)
    by_site: Mapping[str, Sequence[Inner]] = field(default_factory=dict)
    done: bool = False
    further: Mapping[str, Any] = field(default_factory=dict, metadata=REST)


WHOLE = {
    "round": 3,
    "share": 0.5,
    "told": {"cores": 2, "machine": "x"},
    "inner": {"name": "a", "sizes": [1, 2]},
    "by_site": {"s": [{"name": "b", "sizes": []}]},
    "done": True,
    "own": {"of": ["a", "rule"]},
}


def test_what_is_read_is_written_again_byte_for_byte() -> None:
    found = from_json(Outer, json.loads(json.dumps(WHOLE)))
    assert found.inner == Inner(name="a", sizes=(1, 2))
    assert found.further == {"own": {"of": ["a", "rule"]}}
    assert json.dumps(to_json(found)) == json.dumps(WHOLE)


def test_what_is_absent_or_null_is_the_default_and_an_omitted_default_is_not_written() -> None:
    found = from_json(Outer, {"round": 1, "by_site": None, "done": None})
    assert found == Outer(number=1)
    assert to_json(found) == {"round": 1, "share": None, "by_site": {}, "done": False}
    assert from_json(Outer, {"round": 1, "share": math.nan}).share is None


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"round": "1"}, "round: found '1', expected a whole number"),
        ({"round": True}, "round: found True, expected a whole number"),
        ({"round": None}, "round: found nothing, expected a whole number"),
        ({"share": "x"}, "share: found 'x', expected a number"),
        ({"told": {"cores": []}}, r"told.cores: found \[\], expected a text or a whole number"),
        ({"told": []}, r"told: found \[\], expected an object"),
        ({"inner": {}}, "inner.name: found nothing, expected a text"),
        (
            {"inner": {"name": "a", "size": 1}},
            r"inner.size: found an unknown key \(did you mean 'sizes'\?\), expected name, sizes",
        ),
        ({"by_site": {"s": [{"name": "a"}, 3]}}, r"by_site.s\[1\]: found 3, expected an object"),
        ({"by_site": {"s": {}}}, "by_site.s: found {}, expected a list"),
        ({"done": 1}, "done: found 1, expected true or false"),
    ],
)
def test_anything_else_is_told_with_its_key_and_what_was_expected(change: dict[str, Any], told: str) -> None:
    with pytest.raises(TypedJsonError, match=f"^{told}$"):
        from_json(Outer, {**WHOLE, **change})


def test_a_number_that_may_not_be_none_must_be_finite() -> None:
    @dataclass(frozen=True)
    class Plain:
        value: float

    Plain.__annotations__["value"] = float
    with pytest.raises(TypedJsonError, match="value: found inf, expected a number"):
        from_json(Plain, {"value": math.inf})


@pytest.mark.parametrize("text", ['{"a": 1, "a": 2}', '{"b": {"a": 1, "a": 1}}', '[{"a": 1, "b": 2, "a": 3}]'])
def test_what_a_person_wrote_says_every_key_once(text: str) -> None:
    with pytest.raises(ValueError, match="'a' twice"):
        strict_json(text)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"])
def test_a_number_that_is_none_is_refused_where_it_would_be_no_limit(number: str) -> None:
    with pytest.raises(ValueError, match="expected one that is finite"):
        strict_json(f'{{"a": {number}}}', finite=True)
    assert strict_json('{"a": 1e3, "b": 2}', finite=True) == {"a": 1000.0, "b": 2}
    assert strict_json(b'\xef\xbb\xbf{"a": 1}') == strict_json('\ufeff{"a": 1}') == {"a": 1}
