"""The arithmetic of `sitelora fit`: lines, largest batches, seconds of rounds; nothing is run."""

from dataclasses import replace

import pytest

from sitelora.fitting.estimate import Line, prefix_fits, process_bytes, seconds_of
from sitelora.fitting.measured import Measured, Memory
from sitelora.typed_json import from_json, to_json

COUNTS = {"training": 10, "validation": 4, "test": 6}
MEASURED = Measured(
    batch=4,
    image_size=96,
    epochs=2,
    steps_per_epoch=0,
    validate_every=2,
    device="cpu",
    passes=1,
    cases={"training": 2, "validation": 1, "test": 1},
    ready_s=5.0,
    build_s=1.0,
    check_case_s=0.1,
    cache_case_s=0.2,
    first_step_s=0.5,
    step_s=2.0,
    processor_share=1.0,
    prepare_case_s=0.25,
    validation_case_s=0.5,
    round_rest_s=1.0,
    begin=Memory(process=400),
    train=Memory(process=1000),
    case_bytes=7,
    kept_bytes=5,
    room=30,
    evaluate=Memory(process=900),
    test_case_s=3.0,
    evaluation_rest_s=2.0,
)


def test_what_goes_through_the_pipe_comes_out_of_it() -> None:
    assert from_json(Measured, to_json(MEASURED)) == MEASURED


def test_what_is_kept_of_views_is_counted_whole_or_not_at_all() -> None:
    without = process_bytes(MEASURED, MEASURED.train, COUNTS)
    kept = replace(MEASURED, prefix_case_bytes=100, prefix_room=10 * 100)
    assert prefix_fits(kept, COUNTS)
    assert process_bytes(kept, kept.train, COUNTS) == without + 8 * 100, "the probe held two of ten"
    assert process_bytes(replace(kept, prefix_room=999), kept.train, COUNTS) == without


def test_seconds_are_counted_for_the_whole_site() -> None:
    took = seconds_of(MEASURED, COUNTS, rounds=5, evaluates=True)
    assert took.steps == 2 * 3, "ten cases by four, twice"
    assert took.start == pytest.approx(5 + 1 + 0.5 + 0.1 * 20 + 0.2 * 10 + 0.25 * 4)
    assert took.round == pytest.approx(6 * 2 + 1 + 2 * 0.5 * 4)
    assert took.evaluation == pytest.approx(2 + 3 * 6 + 0.5 * 4)
    validated = 4  # the first, the second, the fourth, the last
    assert took.whole == pytest.approx(took.start + 5 * 13 + validated * 4 + took.evaluation)


def test_steps_that_a_job_names_are_taken_and_so_are_passes() -> None:
    took = seconds_of(replace(MEASURED, steps_per_epoch=7, passes=2), COUNTS, rounds=1, evaluates=False)
    assert (took.steps, took.evaluation) == (2 * 2 * 7, 0)


def test_the_cases_that_were_not_probed_are_added_to_memory() -> None:
    """Eight more training cases of seven bytes, and kept ones up to the room, of which five were held."""
    assert process_bytes(MEASURED, MEASURED.train, COUNTS) == 1000 + 8 * 7 + (30 - 5)
    few = {"training": 2, "validation": 1, "test": 0}
    assert process_bytes(MEASURED, MEASURED.train, few) == 1000


def test_the_largest_batch_is_on_the_line_with_room_to_spare() -> None:
    line = Line.through({2: 120.0, 4: 140.0, 8: 180.0}, floor=90)
    assert (line.base, line.each, line.missed) == pytest.approx((100, 10, 0))
    assert (line.at(1), line.at(20)) == pytest.approx((110, 300))
    assert line.largest(1.15 * 300.01, most=1024) == 20
    assert line.largest(1.15 * 300.01, most=1024, below=16) == 15, "it was tried and did not fit"
    assert line.largest(100, most=1024) == 0
    assert line.largest(1e9, most=1024) == 1024
    assert Line.through({2: 120.0, 4: 140.0}, floor=500).largest(1.15 * 400, most=1024) == 0, (
        "what does not grow does not fit"
    )


def test_noise_is_no_slope() -> None:
    line = Line.through({2: 101.0, 4: 100.0}, floor=0)
    assert (line.each, line.missed) == (0, None)
    assert line.largest(200, most=1024) == 1024
    assert Line.through({3: 50.0}, floor=0).at(9) == 50


def test_a_point_off_the_line_is_told() -> None:
    assert Line.through({1: 100.0, 2: 150.0, 3: 100.0}, floor=0).missed == pytest.approx(2 / 9), "33 of 150"
