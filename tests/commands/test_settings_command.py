"""`sitelora settings`: every id with its type, range and default, told apart by who may choose."""

import pytest

from sitelora.bundle import bundle_names
from sitelora.cli import main
from sitelora.declared import SITE, argument_kinds, declared
from sitelora.method_registry import find_method


@pytest.mark.parametrize("bundle", bundle_names())
def test_everything_that_may_be_set_is_listed_once(bundle: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["settings", bundle]) == 0
    text = capsys.readouterr().out
    agreed, own = text.split("A site may choose for itself:")
    for key, one in declared(bundle).items():
        line = f"  {key} = "
        assert (own if one.scope == SITE else agreed).count(line) == 1, key
        assert f": {one.kind}\n" in text
    assert max(len(line) for line in text.splitlines()) <= 120


def test_the_arguments_of_another_method_are_listed_with_the_defaults_that_they_would_have(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["settings", "iat_segmentation", "--method", "hetlora"]) == 0
    text = capsys.readouterr().out
    for argument in argument_kinds(find_method("hetlora")):
        assert f"  method#{argument} = " in text
    assert "  method#rank = 8: whole number, 1 to 256\n" in text
    assert "  method#scale = 4.0: number" in text, "the bundle's own, which another method takes over"
    assert main(["settings"]) == 0
    assert capsys.readouterr().out.split() == bundle_names()
    assert main(["settings", "iat_segmentation", "--method", "hetlorra"]) == 2
    assert "did you mean 'hetlora'" in capsys.readouterr().err
