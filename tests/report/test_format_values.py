import pytest

from sitelora.report.format_values import (
    bytes_text,
    count_text,
    interval_text,
    listed,
    seconds_text,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.00 kB"),
        (9_994, "9.99 kB"),
        (9_996, "10.0 kB"),
        (99_960, "100 kB"),
        (999_400, "999 kB"),
        (999_600, "1.00 MB"),
        (19_482_624, "19.5 MB"),
        (3_000_000_000, "3.00 GB"),
        (5.5e15, "5500 TB"),
    ],
)
def test_bytes_keep_three_digits_and_never_show_a_thousand(value, text):
    assert bytes_text(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (8.44, "8.4 s"),
        (59.96, "1 min 00 s"),
        (185, "3 min 05 s"),
        (7800, "2 h 10 min"),
        (3599.6, "1 h 00 min"),
    ],
)
def test_seconds(value, text):
    assert seconds_text(value) == text


def test_small_words():
    assert (interval_text((0.712, 0.858)), interval_text(None)) == ("0.71–0.86", "")
    assert [count_text(n, "site") for n in (0, 1, 6)] == ["0 sites", "1 site", "6 sites"]
    assert [listed(names) for names in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == ["", "a", "a and b", "a, b and c"]
