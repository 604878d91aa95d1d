import json
from pathlib import Path

import pytest

from sitelora.home import data_root, home


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch, tmp_path):
    monkeypatch.delenv("SITELORA_HOME", raising=False)
    monkeypatch.delenv("SITELORA_DATA", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def test_default_is_below_the_users_home(tmp_path):
    assert home() == tmp_path / ".sitelora"
    assert data_root() == tmp_path / ".sitelora" / "data"


def test_environment_before_file_before_default(tmp_path, monkeypatch):
    config = tmp_path / "site.json"
    config.write_text(json.dumps({"home": "/srv/sitelora"}))
    assert home(config) == Path("/srv/sitelora")
    assert data_root(config) == Path("/srv/sitelora/data")
    config.write_text(json.dumps({"home": "/srv/sitelora", "data": "pictures"}))
    assert data_root(config) == tmp_path / "pictures", "a relative path in the file lies beside the file"
    monkeypatch.setenv("SITELORA_DATA", "/elsewhere")
    assert data_root(config) == Path("/elsewhere")
    assert home(config) == Path("/srv/sitelora")


@pytest.mark.parametrize("text", ["[]", "{", "[" * 200_000, '{"dta": "/x"}', '{"data": 3}'], ids=range(5))
def test_a_bad_file_is_an_error_that_names_it(tmp_path, text):
    config = tmp_path / "site.json"
    config.write_text(text)
    with pytest.raises(ValueError, match=r"site\.json.*expected a JSON object"):
        data_root(config)


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="absent"):
        home(tmp_path / "absent.json")
