"""What a site is served: received, trained or previous, by its own validation cases."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from sitelora.data.phantom.make import TINY, make_phantom
from sitelora.data.site_folder import SiteFolder
from sitelora.evaluation.cases import evaluate_cases
from sitelora.federation.bundle_config import read_bundle
from sitelora.federation.served import (
    PREVIOUS,
    RECEIVED,
    TRAINED,
    Candidate,
    choose,
    from_tensors,
    to_tensors,
)
from sitelora.method import Model
from sitelora.networks.sam import SamSegmenter
from sitelora.run_result import RunResult
from sitelora.tasks.segmentation import DICE, HD95, TASK

MODEL = Model({"w": torch.ones(2)})


def candidates(**cases: tuple[float, ...]) -> list[Candidate]:
    return [Candidate(kind=kind, model=MODEL, round_number=3, cases=scores) for kind, scores in cases.items()]


@pytest.mark.parametrize(
    ("newest_first", "expected"),
    [
        ({RECEIVED: (0.9,), TRAINED: (0.8,), PREVIOUS: (0.7,)}, RECEIVED),
        ({RECEIVED: (0.7,), TRAINED: (0.8,), PREVIOUS: (0.6,)}, TRAINED),
        ({RECEIVED: (0.7,), TRAINED: (0.6,), PREVIOUS: (0.8,)}, PREVIOUS),
        ({RECEIVED: (0.8,), TRAINED: (0.8,), PREVIOUS: (0.8,)}, RECEIVED),
        ({RECEIVED: (), TRAINED: ()}, TRAINED),
        ({RECEIVED: (0.0,), PREVIOUS: (0.1,)}, PREVIOUS),
        # 0.01 better at every case is better; 0.01 better on average, by one lucky case, is not
        ({RECEIVED: (0.8, 0.7, 0.9), PREVIOUS: (0.81, 0.71, 0.91)}, PREVIOUS),
        ({RECEIVED: (0.8, 0.7, 0.9), PREVIOUS: (0.85, 0.69, 0.89)}, RECEIVED),
        ({RECEIVED: (0.6, 0.6), TRAINED: (0.79, 0.71), PREVIOUS: (0.72, 0.80)}, TRAINED),
    ],
)
def test_the_newest_that_is_not_clearly_worse_is_served_and_without_validation_the_trained_one(
    newest_first: dict[str, tuple[float, ...]], expected: str
) -> None:
    served = choose(candidates(**newest_first), primary=DICE)
    assert served.candidate.kind == expected
    said = served.to_json()
    assert said["model"] == expected
    assert said["round"] == 3
    assert ("no validation cases" in said["why"]) == (not newest_first.get(TRAINED, (0.0,)))
    means = {kind: statistics.fmean(cases) if cases else None for kind, cases in newest_first.items()}
    assert {k.removeprefix("validation_"): v for k, v in said.items() if k.startswith("validation_")} == means
    assert ("newest of those" in said["why"]) == (
        said["validation"] is not None and said["validation"] < max(mean for mean in means.values() if mean is not None)
    )


@pytest.mark.parametrize(
    ("newest_first", "expected"),
    [
        ({RECEIVED: (9.0,), TRAINED: (8.0,), PREVIOUS: (7.0,)}, PREVIOUS),
        ({RECEIVED: (7.0,), TRAINED: (8.0,), PREVIOUS: (9.0,)}, RECEIVED),
        ({RECEIVED: (4.1, 3.1, 5.1), PREVIOUS: (4.0, 3.0, 5.0)}, PREVIOUS),
        ({RECEIVED: (4.0, 3.2, 5.2), PREVIOUS: (4.3, 3.1, 5.1)}, RECEIVED),
    ],
)
def test_of_a_distance_less_is_better(newest_first: dict[str, tuple[float, ...]], expected: str) -> None:
    served = choose(candidates(**newest_first), primary=HD95[0])
    assert served.candidate.kind == expected
    assert served.to_json()["validation"] == statistics.fmean(newest_first[expected])  # as it is, and not its negative
    best = min(statistics.fmean(cases) for cases in newest_first.values())
    assert statistics.fmean(served.best) == best
    assert ("best by" in served.why) == (served.candidate.score == best)


def test_a_row_of_small_steps_does_not_lead_down() -> None:
    # each model is a little worse than the one before, and none of the steps is larger than its standard error
    first = (0.9, 0.8, 0.7, 0.6)
    served = choose(candidates(**{TRAINED: first}), primary=DICE)
    for step in range(1, 40):
        swing = 0.03 if step % 2 else -0.03
        worse = tuple(score - 0.006 * step + swing * (1 if i % 2 else -1) for i, score in enumerate(first))
        kept = Candidate(kind=PREVIOUS, model=MODEL, round_number=step, cases=served.candidate.cases)
        served = choose([*candidates(**{TRAINED: worse}), kept], primary=DICE, best=served.best)
    assert served.best == first
    assert not DICE.clearly_better(first, served.candidate.cases)
    assert statistics.fmean(served.candidate.cases) > statistics.fmean(first) - 0.03


def test_other_validation_cases_than_before_are_compared_by_their_means() -> None:
    def kind(best: tuple[float, ...], **cases: tuple[float, ...]) -> str:
        return choose(candidates(**cases), primary=DICE, best=best).candidate.kind

    assert kind((0.7, 0.8, 0.9), **{TRAINED: (0.8, 0.9)}) == TRAINED
    assert kind((0.7,), **{TRAINED: (0.5, 0.6), PREVIOUS: (0.7,)}) == PREVIOUS
    # what was best is gone: the best of what is there
    assert kind((0.9,), **{RECEIVED: (0.5,), TRAINED: (0.6,)}) == TRAINED


def test_nothing_to_choose_from_is_refused() -> None:
    with pytest.raises(ValueError, match="received or trained"):
        choose([], primary=DICE)


def test_a_model_with_a_base_delta_comes_back_from_its_tensors() -> None:
    pair = (torch.rand(4, 2), torch.rand(2, 3))
    model = Model({"a.b": torch.rand(3)}, {"x.lora.q": pair}, {"lora": 0.5})
    back = from_tensors(to_tensors(model), {"lora": 0.5})
    assert torch.equal(back.values["a.b"], model.values["a.b"])
    assert all(torch.equal(one, two) for one, two in zip(back.base_delta["x.lora.q"], pair, strict=True))
    assert back.strengths == model.strengths


def test_the_served_score_of_a_site_never_falls_and_is_what_the_record_says(
    tmp_path: Path, federate: Callable[..., RunResult]
) -> None:
    # a rate at which training spoils more than it mends; with one validation case a site the plain score decides
    result = federate(tmp_path, rounds=3, evaluate=True, overrides={"learning_rate": 0.3})
    for site, evaluation in result.evaluation.items():
        metrics = [entry.sites[site].metrics for entry in result.rounds]
        course = [one["score_served"] for one in metrics]
        assert course == sorted(course)
        seen = [one[key] for one in metrics for key in ("score_received", "score_personal")]
        served = evaluation["personal"].served
        assert served.validation == max([*seen, served.candidates["validation_received"]])
        stored = json.loads((tmp_path / "tests" / "u" / site / "round_002" / "manifest.json").read_text())
        assert stored["served_as"]["score"] == course[-1]


def test_what_is_scored_is_what_is_served(tmp_path: Path, federate: Callable[..., RunResult], phantom: Path) -> None:
    result = federate(tmp_path, rounds=2, evaluate=True, overrides={"learning_rate": 0.3})
    file = tmp_path / "tests" / "u" / "site-1" / "models" / "personal.pt"
    network = SamSegmenter(arch="sam_tiny", image_size=32, base=None, quiet=True, precision="fp32").eval()
    network.load_state_dict(torch.load(file, weights_only=True)["model"])
    pipeline = read_bundle("iat_segmentation", {"image_size": 32, "slices": 3}, config="inference")
    folder = SiteFolder.read(phantom / "prostate" / "site-1")
    scores = evaluate_cases(network, folder, "test", TASK, pipeline=pipeline.get_parsed_content)
    assert scores["score"] == pytest.approx(result.evaluation["site-1"]["personal"].score, abs=1e-4)


def test_a_site_without_validation_cases_is_served_the_trained_model_and_the_record_says_so(
    tmp_path: Path, federate: Callable[..., RunResult]
) -> None:
    make_phantom(tmp_path / "data", size=TINY, sites=("site-1",))
    folder = tmp_path / "data" / "prostate" / "site-1" / "dataset.json"
    content = json.loads(folder.read_text())
    content["training"] += content["validation"]
    content["validation"] = []
    folder.write_text(json.dumps(content))
    result = federate(tmp_path / "home", rounds=1, evaluate=True, sites=("site-1",), data=tmp_path / "data")
    served = result.evaluation["site-1"]["personal"].served
    assert served.model == TRAINED
    assert served.validation is None
    assert "no validation cases" in served.why


def test_where_nothing_is_shared_nothing_is_said_to_be_received(
    tmp_path: Path, federate: Callable[..., RunResult]
) -> None:
    result = federate(tmp_path, rounds=2, evaluate=True, overrides={"method": "local"})
    for evaluation in result.evaluation.values():
        served = evaluation["personal"].served
        assert served.model in (TRAINED, PREVIOUS)
        assert served.round_number in (0, 1)
        assert "validation_received" not in served.candidates


def test_validation_every_few_rounds_chooses_in_the_first_in_those_and_in_the_last(
    tmp_path: Path, federate: Callable[..., RunResult]
) -> None:
    values = {"learning_rate": 0.3, "validate_every": 3}
    result = federate(tmp_path, rounds=5, evaluate=True, overrides=values, sites=("site-1", "site-2"))
    for site, evaluation in result.evaluation.items():
        metrics = [entry.sites[site].metrics for entry in result.rounds]
        for key in ("score_received", "score_personal"):
            assert [number for number, one in enumerate(metrics, start=1) if key in one] == [1, 3, 5]
        course = [one["score_served"] for one in metrics]
        assert course == sorted(course)
        assert course[1] == course[0]
        assert course[3] == course[2]
        served = evaluation["personal"].served
        seen = [one[key] for one in metrics for key in ("score_received", "score_personal") if key in one]
        assert served.validation == max([*seen, served.candidates["validation_received"]])
        assert served.round_number in (0, 2, 4, 5)
