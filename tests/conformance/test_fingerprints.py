"""What every method computes stays what it is, unless an issue names the change and CHANGELOG says why."""

from __future__ import annotations

from pathlib import Path

import pytest

from fingerprints import VARIANTS, Fingerprint, differences, fingerprint, read_reference, two_rounds, write_reference
from fixed_input import write_fixed_input
from sitelora.method_registry import method_names


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_fixed_input(tmp_path_factory.mktemp("fixed_input"))


@pytest.mark.parametrize("method", [*method_names(), *VARIANTS])
def test_two_rounds_end_with_the_committed_fingerprint(
    method: str, data: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    renewed = request.config.getoption("--renew", None) or ()
    if renewed and method not in renewed:
        pytest.skip("not named by --renew")
    found = fingerprint(two_rounds(method, data=data, home=tmp_path))
    if method in renewed:
        write_reference(method, found)
    wrong = differences(found, read_reference(method))
    assert not wrong, (
        f"{method} ends with other tensors than the committed ones, {len(wrong)} differences:\n  "
        + "\n  ".join(wrong[:8])
        + f"\nOnly where an issue names this change: `pytest tests/conformance --renew {method}`, say why in CHANGELOG"
    )


def test_no_reference_is_left_of_a_method_that_is_gone() -> None:
    from fingerprints import FOLDER

    assert {path.stem for path in FOLDER.glob("*.json")} == {*method_names(), *VARIANTS}


KNOWN: Fingerprint = {
    "server:message:*:value:a": [2.0, 400, *(0.1,) * 8],
    **{f"server:message:*:value:b{i}": [2.0, 400, *(0.1,) * 8] for i in range(50)},
    "site-1:delta:c": [1e-12, 4, 1e-13, 1e-13, 1e-13, 1e-13],
}


def changed(name: str, place: int, value: float) -> Fingerprint:
    return {**KNOWN, name: [*KNOWN[name][:place], value, *KNOWN[name][place + 1 :]]}


def test_a_change_of_a_tensor_is_named() -> None:
    assert differences(KNOWN, KNOWN) == []
    name = "server:message:*:value:a"
    for place, value in ((0, 2.001), (0, float("nan")), (1, 399), (2, -0.1), (5, float("nan"))):
        (line,) = differences(changed(name, place, value), KNOWN)
        assert line.startswith(name)
    assert differences({n: v for n, v in KNOWN.items() if n != name}, KNOWN) == [f"{name}: no longer there"]
    assert differences(KNOWN, {n: v for n, v in KNOWN.items() if n != name}) == [f"{name}: not there before"]
    slightly = {n: [v[0], v[1], *(x * 1.0005 for x in v[2:])] for n, v in KNOWN.items()}
    assert len(differences(slightly, KNOWN)) == 51 * 8


def test_what_another_processor_rounds_is_no_change() -> None:
    assert differences(changed("server:message:*:value:a", 0, 2.0001), KNOWN) == []
    assert differences(changed("server:message:*:value:a", 4, 0.10005), KNOWN) == []
    assert differences(changed("site-1:delta:c", 0, 1.01e-12), KNOWN) == []
