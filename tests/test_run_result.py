import json
from pathlib import Path

import pytest

from sitelora.names import natural
from sitelora.run_result import (
    CaseScore,
    ModelScore,
    Round,
    RoundDetails,
    RunResult,
    RunResultError,
    ServedModel,
    SiteRound,
)

SERVED = ServedModel(
    model="received", round_number=2, validation=0.9, candidates={"validation_received": 0.9}, why="best"
)
CASE = CaseScore(case="case 1", patient="patient 1", metrics={"prostate": {"dice": 0.5, "hd95_mm": None}})
RESULT = RunResult(
    completed=True,
    rounds_done=1,
    rounds=(
        Round(
            number=0,
            sites={"site-1": SiteRound(status="ok", cases=8, metrics={"loss": 0.5})},
            server={"product_error": 0.25},
            details=RoundDetails(further={"own": [1]}, layers={"a.lora": {"product_error": 0.25}}),
            seconds=1.5,
        ),
        Round(number=1),
    ),
    evaluation={
        "site-1": {
            "personal": ModelScore(score=0.5, score_ci95=None, cases=(CASE,), served=SERVED),
            "global": ModelScore(not_applicable="nothing is shared"),
        }
    },
    warnings=("a warning",),
)


def test_a_record_is_read_as_it_was_written() -> None:
    told = json.loads(json.dumps(RESULT.to_json()))
    assert RunResult.from_json(told) == RESULT
    assert list(told["rounds"][0]["details"]) == ["own", "layers"]
    assert told["rounds"][1] == {"round": 1, "sites": {}}  # it is not done
    personal, shared = (told["evaluation"]["site-1"][kind] for kind in ("personal", "global"))
    assert (list(personal), personal["score_ci95"]) == (["score", "score_ci95", "cases", "served"], None)
    assert personal["served"]["validation_received"] == 0.9
    assert shared == {"not_applicable": "nothing is shared"}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_that_an_editor_left_is_no_error(encoding: str, tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    file.write_bytes(json.dumps(RESULT.to_json()).encode(encoding))
    assert RunResult.read(file) == RESULT


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"completed": tr', "is not readable JSON .*was the run stopped while writing it"),
        ("[]", r": found \[\], expected an object"),
        ('{"format": 0}', ": has format 0, expected 2: read it with the SiteLoRA that wrote it"),
        ('{"completed": "yes"}', ": completed: found 'yes', expected true or false; was the file edited by hand"),
        ('{"rounds": [{"round": 0, "sites": {"a": {}}}]}', r": rounds\[0\].sites.a.status: found nothing"),
    ],
)
def test_a_file_that_says_something_else_is_named_with_the_key(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "result.json").write_text(text)
    with pytest.raises(RunResultError, match=f"^{tmp_path / 'result.json'}.*{told}"):
        RunResult.read(tmp_path / "result.json")


def test_an_interval_is_there_or_not() -> None:
    assert ModelScore(score_ci95=(0.1, 0.2)).interval == (0.1, 0.2)
    assert ModelScore(score_ci95=None).interval is None
    assert ModelScore().interval is None


def test_sites_are_sorted_by_their_numbers() -> None:
    assert sorted(["site-10", "site-2", "a"], key=natural) == ["a", "site-2", "site-10"]
