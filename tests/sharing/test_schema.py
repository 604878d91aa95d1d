"""Reports: known keys, finite numbers, short texts, two levels; whatever else is refused by site and field."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sitelora.sharing.schema import HEX, Either, Flag, Number, Row, Schema, SchemaError, Table, Text

SCHEMA = Schema(
    required={
        "cases": Number(lowest=1, whole=True),
        "metrics": Table(of=Number(), keys=("loss", "dice")),
        "hash": HEX,
        "name": Text(longest=20),
    },
    optional={
        "labels": Table(of=Text(longest=10), pattern=r"\d{1,3}", most=4),
        "scores": Row(of=Number(or_none=True), longest=3),
        "resent": Flag(),
        "machine": Table(of=Either((Number(), Text())), keys=("cores", "cpu")),
    },
)


def report(**changes: Any) -> dict[str, Any]:
    return {"cases": 3, "metrics": {"loss": 0.5, "dice": 1}, "hash": "a" * 64, "name": "Radboud", **changes}


def deep(levels: int) -> Any:
    value: Any = 1.0
    for _ in range(levels):
        value = {"loss": value}
    return value


def test_a_sound_report_comes_back_as_plain_json() -> None:
    class Version(str):
        """As torch.__version__: a kind of text that NVFlare cannot send."""

    full = report(
        labels={"1": Version("prostate")},
        scores=[0.5, None, 1],
        resent=True,
        machine={"cores": 2, "cpu": "x86"},
        name="Universitätsklinik",
    )
    said = SCHEMA.read(full, sender="site-1")
    assert json.loads(json.dumps(said)) == said == full
    assert type(said["labels"]["1"]) is str


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"metrics": {"loss": float("nan")}}, "metrics.loss: found nan, expected a finite number"),
        ({"metrics": {"loss": float("inf")}}, "metrics.loss: found inf"),
        ({"metrics": {"loss": deep(3000)}}, "metrics.loss: found dict of 1, expected a finite number"),
        ({"metrics": deep(3000)}, "metrics.loss: found dict of 1"),
        ({"metrics": {"loss": "a" * 1_400_000}}, "metrics.loss: found a text of 1400000 characters"),
        ({"metrics": {"b" * 1_400_000: 1.0}}, "metrics: found the key a text of 1400000 characters"),
        ({"metrics": {"accuracy": 1.0}}, "metrics: found the key accuracy, expected one of loss, dice"),
        ({"metrics": {1: 1.0}}, "metrics: found the key 1"),
        ({"metrics": [0.5]}, "metrics: found list of 1, expected names and values"),
        ({"metrics": {"loss": True}}, "metrics.loss: found True"),
        ({"metrics": {"loss": object()}}, "metrics.loss: found object"),
        ({"cases": 2.5}, "cases: found 2.5, expected a whole number"),
        ({"cases": 0}, "cases: found 0"),
        ({"cases": None}, "cases: found None"),
        ({"cases": 10**400}, "cases: found a huge number"),
        ({"name": "a" * 21}, "name: found a text of 21 characters, expected a printable text of at most 20"),
        ({"name": "a\x1b[2J"}, "name: found a text of 5 characters"),
        ({"name": "two\nlines"}, "name: found a text of 9 characters"),
        ({"hash": "A" * 64}, "hash: found a text of 64 characters, expected a text like"),
        ({"hash": "a" * 63}, "hash: found"),
        ({"labels": {"one": "x"}}, "labels: found the key one, expected a name like"),
        ({"labels": {str(n): "x" for n in range(5)}}, "labels: found dict of 5, expected names and values, at most 4"),
        ({"scores": [1.0, "x"]}, r"scores\[1\]: found a text of 1 characters"),
        ({"scores": [1.0] * 4}, "scores: found list of 4, expected a list of at most 3"),
        ({"scores": [[1.0]]}, r"scores\[0\]: found list of 1"),
        ({"resent": 1}, "resent: found 1, expected true or false"),
        ({"machine": {"cpu": ["x"]}}, "machine.cpu: found list of 1, .* or found list of 1"),
        ({"patient": "x"}, "unknown key patient, known: cases, metrics"),
        ({"P Müller": 1}, "unknown key a text of 8 characters"),
        ({3: 1}, "unknown key 3"),
    ],
)
def test_anything_else_is_refused_with_site_and_field(changes: dict[Any, Any], found: str) -> None:
    with pytest.raises(SchemaError, match=f"^site-7: its report: {found}"):
        SCHEMA.read({**report(), **changes}, sender="site-7")


@pytest.mark.parametrize("key", ["cases", "metrics", "hash", "name"])
def test_a_missing_key_is_named(key: str) -> None:
    content = report()
    del content[key]
    with pytest.raises(SchemaError, match=f"site-7: its report: {key} is missing"):
        SCHEMA.read(content, sender="site-7")


@pytest.mark.parametrize("whole", [None, [], "text", 3, object()])
def test_what_is_no_report_at_all_is_refused(whole: object) -> None:
    with pytest.raises(SchemaError, match=r"site-7: its report: found .*, expected an object"):
        SCHEMA.read(whole, sender="site-7")


def test_a_refusal_repeats_no_text() -> None:
    """It may end in a server's record, and the text may be a patient's name."""
    for changes in ({"cases": "Miller Hans"}, {"metrics": {"loss": "Miller Hans"}}, {"Miller Hans": 1}):
        with pytest.raises(SchemaError) as caught:
            SCHEMA.read(report(**changes), sender="site-7")
        assert "Miller" not in str(caught.value)
