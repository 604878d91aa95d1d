"""A site's ledger: every release once, over runs and federations, and nothing beyond the budget."""

import json
from pathlib import Path

import pytest

from sitelora.sharing.accounting import Releases, same_noise
from sitelora.sharing.ledger import EpsilonSpentError, Ledger, LedgerDamagedError, ledger_file

NOISE = Releases(noise_multiplier=2.0, count=1)
BARE = Releases(noise_multiplier=0.0, count=1)


def ledger(folder: Path, largest: float | None = None, *, dataset: str = "prostate", secret: bytes = b"s") -> Ledger:
    return Ledger(path=ledger_file(folder, "site-1"), secret=secret, dataset=dataset, largest=largest)


def note(book: Ledger, number: int, releases: Releases = NOISE, *, uid: str = "u", sha256: str = "") -> None:
    book.note(releases, sha256=sha256 or f"{uid}-{number}", federation="f", uid=uid, site="site-1", round=number)


def count(book: Ledger) -> int:
    return sum(one.count for one in book.spent())


def test_the_budget_ends_at_the_exact_release(tmp_path: Path) -> None:
    book = ledger(tmp_path, largest=same_noise(2.0, 3))
    for number in range(3):
        book.require(NOISE, round_number=number)
        note(book, number)
    before = book.path.read_bytes()
    with pytest.raises(EpsilonSpentError, match=r"max_epsilon: round 3 would be release 4 .*'prostate'") as error:
        book.require(NOISE, round_number=3)
    assert f"epsilon {same_noise(2.0, 4):.4g} (delta 1e-05), allowed is {same_noise(2.0, 3):g}" in str(error.value)
    with pytest.raises(EpsilonSpentError):
        note(book, 3)
    assert book.path.read_bytes() == before
    assert error.value.code == "epsilon_spent"


def test_two_releases_of_one_round_are_two(tmp_path: Path) -> None:
    book = ledger(tmp_path, largest=same_noise(2.0, 3))
    both = Releases(noise_multiplier=2.0, count=2)
    note(book, 0, both)
    with pytest.raises(EpsilonSpentError):
        note(book, 1, both)
    note(book, 1)
    assert count(book) == 3


def test_what_is_sent_again_is_no_release_and_other_bits_are(tmp_path: Path) -> None:
    book = ledger(tmp_path, largest=same_noise(2.0, 2))
    note(book, 0)
    note(book, 0)
    assert count(book) == 1
    note(book, 0, sha256="other")
    assert count(book) == 2
    note(book, 0)
    with pytest.raises(EpsilonSpentError):
        note(book, 0, sha256="a third")


def test_a_new_uid_or_an_older_ledger_is_no_new_budget_and_other_data_are(tmp_path: Path) -> None:
    note(ledger(tmp_path), 0, uid="before there was a budget")
    book = ledger(tmp_path, largest=same_noise(2.0, 2))
    note(book, 0, uid="one")
    with pytest.raises(EpsilonSpentError):
        note(book, 0, uid="two")
    other = ledger(tmp_path, largest=same_noise(2.0, 1), dataset="lungs")
    note(other, 0, uid="two")
    assert (count(book), count(other)) == (2, 1)


def test_less_noise_than_before_costs_more(tmp_path: Path) -> None:
    book = ledger(tmp_path, largest=same_noise(2.0, 4))
    note(book, 0)
    with pytest.raises(EpsilonSpentError):
        note(book, 1, Releases(noise_multiplier=0.5, count=1))
    assert count(book) == 1


def test_without_noise_nothing_is_within_a_budget_and_once_bare_is_bare_for_good(tmp_path: Path) -> None:
    book = ledger(tmp_path, largest=1e9)
    with pytest.raises(EpsilonSpentError, match="1 of them without noise, so no epsilon holds"):
        book.require(BARE, round_number=0)
    note(ledger(tmp_path), 0, BARE)
    with pytest.raises(EpsilonSpentError, match="without noise"):
        note(book, 1)


@pytest.mark.parametrize("hurt", ["removed", "changed", "repeated", "foreign"])
def test_a_ledger_that_was_changed_lets_nothing_out_where_there_is_a_budget(tmp_path: Path, hurt: str) -> None:
    book = ledger(tmp_path, largest=1e9)
    for number in range(3):
        note(book, number)
    lines = book.path.read_bytes().splitlines(keepends=True)
    if hurt == "removed":
        lines = [lines[0], lines[2]]
    elif hurt == "changed":
        lines[1] = lines[1].replace(b'"noise_multiplier": 2.0', b'"noise_multiplier": 9.0')
    elif hurt == "repeated":
        lines = [*lines, lines[1]]
    book.path.write_bytes(b"".join(lines))
    judge = ledger(tmp_path, largest=1e9, secret=b"another") if hurt == "foreign" else book
    with pytest.raises(LedgerDamagedError, match="nobody can say what was spent"):
        note(judge, 3)
    with pytest.raises(LedgerDamagedError):
        judge.require(NOISE, round_number=3)
    note(ledger(tmp_path), 3)  # without a budget nothing hangs on it


def test_a_line_that_was_cut_is_of_an_answer_that_never_left(tmp_path: Path) -> None:
    book = ledger(tmp_path, largest=same_noise(2.0, 2))
    note(book, 0)
    book.path.write_bytes(book.path.read_bytes() + b'{"seq": 1, "prev')
    note(book, 1)
    assert count(book) == 2
    with pytest.raises(EpsilonSpentError):
        note(book, 2)


def test_the_ledger_is_the_owners_alone_and_says_what_left(tmp_path: Path) -> None:
    book = ledger(tmp_path / "home")
    note(book, 4)
    assert book.path.stat().st_mode & 0o777 == 0o600
    told = json.loads(book.path.read_text())
    said = {key: told[key] for key in ("dataset", "federation", "uid", "round", "noise_multiplier", "releases")}
    assert said == {
        "dataset": "prostate",
        "federation": "f",
        "uid": "u",
        "round": 4,
        "noise_multiplier": 2.0,
        "releases": 1,
    }
