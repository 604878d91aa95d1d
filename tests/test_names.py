"""One grammar for names: everything that it takes, NVFlare takes too; what NVFlare would stumble over is refused."""

import itertools

import pytest
from nvflare.apis.utils.format_check import name_check
from nvflare.fuel.f3.cellnet.fqcn import FQCN

from sitelora.names import LONGEST, checked_name, checked_sites

GOOD = ("site-1", "Oslo_2", "7", "a" * LONGEST, "x" + "-" * 5, "20260101-000000-1f00aa55")
BAD = ("", "a.b", "site.1", "-x", "_x", "a b", "a/b", "../up", "a\n", "å", "a" * (LONGEST + 1), None, 3)


@pytest.mark.parametrize("kind", ["site", "federation", "dataset", "uid"])
def test_what_is_taken_names_a_site_and_a_job_of_nvflare(kind: str) -> None:
    for name in GOOD:
        assert checked_name(kind, name) == name
        for entity in ("client", "site", "job_name"):
            refused, why = name_check(name, entity)
            assert not refused, why
        assert FQCN.validate(name) == ""
        assert FQCN.split(name) == [name]


@pytest.mark.parametrize("name", BAD)
def test_what_some_part_would_not_take_is_refused_at_once(name: object) -> None:
    with pytest.raises(ValueError, match=r"site .*expected 1 to 63 letters, digits.*names a folder"):
        checked_name("site", name)


@pytest.mark.parametrize("name", ["secret", "data", "Phantom"])
def test_no_federation_is_called_like_what_else_lies_in_a_home(name: str) -> None:
    with pytest.raises(ValueError, match=rf"federation '{name}': this name is taken"):
        checked_name("federation", name)
    assert checked_name("dataset", name) == name


def test_every_short_name_is_judged_as_nvflare_judges_it() -> None:
    for letters in itertools.product("aZ0-_.", repeat=2):
        name = "".join(letters)
        nvflare_takes = not any(name_check(name, entity)[0] for entity in ("client", "job_name"))
        try:
            ours = checked_name("federation", name) == name
        except ValueError:
            ours = False
        assert ours == nvflare_takes, name


@pytest.mark.parametrize("name", ["server", "Server", "ALL", "workspace", "job", "report"])
def test_a_site_has_no_name_that_is_taken(name: str) -> None:
    with pytest.raises(ValueError, match=f"site '{name}': this name is taken"):
        checked_sites(["site-1", name])


def test_sites_have_every_name_once_whatever_the_case() -> None:
    assert checked_sites(["b", "a"]) == ("a", "b")
    with pytest.raises(ValueError, match="'Oslo' and 'oslo' are one name"):
        checked_sites(["oslo", "Oslo"])
    with pytest.raises(ValueError, match="no sites"):
        checked_sites([])


def test_a_long_name_is_not_repeated_in_full() -> None:
    with pytest.raises(ValueError, match="of 260: expected 1 to 63") as caught:
        checked_name("site", "x" * 260)
    assert len(str(caught.value)) < 300
