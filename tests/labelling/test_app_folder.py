"""The folder that a server starts from, and the command up to where MONAI Label is needed; without MONAI Label."""

from __future__ import annotations

import ast
import json
import logging.config
import socket
import stat
from pathlib import Path

import pytest

from sitelora.cli import main
from sitelora.labelling.app_folder import AppFolder
from sitelora.labelling.as_exported import NotServedError, choose
from sitelora.labelling.server import require_free

SERVED = ["iat_prostate_site-1_segmentation", "iat_prostate_site-2_segmentation"]


@pytest.fixture
def app(two_sites: Path, tmp_path: Path) -> AppFolder:
    (tmp_path / "studies").mkdir()
    return AppFolder.write(
        tmp_path / "app",
        root=two_sites,
        models=choose(two_sites).models,
        studies=tmp_path / "studies",
        port=8765,
    )


def test_it_is_the_owners_alone_and_says_what_is_shown(app: AppFolder, two_sites: Path) -> None:
    assert sorted(path.name for path in app.path.iterdir()) == ["cache", "logging.json", "logs", "main.py", "sessions"]
    for path in (app.path, *app.path.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
    assert app.settings == {"models_root": str(two_sites), "models": ",".join(SERVED)}
    assert app.url == "http://127.0.0.1:8765"


def test_monai_label_is_led_to_an_app_that_is_there(app: AppFolder) -> None:
    tree = ast.parse((app.path / "main.py").read_text())
    (name,) = [
        f"{node.module}:{alias.name}"
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and node.module == "sitelora.labelling.label_app"
        for alias in node.names
    ]
    module, _, cls = name.partition(":")
    source = Path(__file__).resolve().parents[2] / "custom" / Path(*module.split(".")).with_suffix(".py")
    classes = {node.name: node for node in ast.parse(source.read_text()).body if isinstance(node, ast.ClassDef)}
    assert ast.unparse(classes[cls].bases[0]) == "MONAILabelApp", "MONAI Label looks for its direct subclass"


def test_nothing_is_kept_outside_of_it_and_no_other_page_may_ask(app: AppFolder, tmp_path: Path) -> None:
    told = app.environment(app.path / "requests-1")
    folders = {key: value for key, value in told.items() if value.startswith("/")}
    assert set(folders) >= {"MONAI_LABEL_SESSION_PATH", "XDG_CACHE_HOME", "MPLCONFIGDIR", "TMPDIR", "SITELORA_HOME"}
    assert [key for key, value in folders.items() if not Path(value).is_relative_to(app.path)] == []
    assert app.origins == ["http://127.0.0.1:8765", "http://localhost:8765"]
    assert json.loads(told["MONAI_LABEL_DATASTORE_FILE_EXT"]) == ["*.nii.gz", "*.nii"]


def test_its_log_goes_into_one_file_and_not_to_the_terminal(app: AppFolder) -> None:
    told = json.loads(app.logging.read_text())
    logging.config.DictConfigurator({**told, "root": {}}).configure()  # it is one that Python takes
    assert {handler["filename"] for handler in told["handlers"].values()} == {str(app.log)}


def test_a_second_start_writes_it_anew_and_keeps_the_log(app: AppFolder, two_sites: Path) -> None:
    app.log.write_text("before\n")
    (app.path / "main.py").write_text("import other")
    again = AppFolder.write(
        app.path, root=two_sites, models=choose(two_sites, SERVED[:1]).models, studies=app.studies, port=8766
    )
    assert "ServedModels" in (app.path / "main.py").read_text()
    assert again.settings["models"] == SERVED[0]
    assert app.log.read_text() == "before\n"


def test_a_port_that_another_server_has_is_refused() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(NotServedError, match=r"port \d+ cannot be taken .* --port"):
            require_free(other.getsockname()[1])


def test_the_command_ends_with_one_sentence_and_nothing_to_start(
    exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("XDG_CACHE_HOME", "MPLCONFIGDIR", "TORCH_HOME"):
        monkeypatch.setenv(name, str(tmp_path))  # the command sets them; this puts them back
    studies = tmp_path / "studies"
    words = ["label", str(exported), "--studies", str(studies)]
    assert main(words) == 2
    assert "is no folder; name the one that holds the NIfTI images" in capsys.readouterr().err
    studies.mkdir()
    (exported / SERVED[0] / "models" / "model.pt").unlink()
    assert main(words) == 2
    error = capsys.readouterr().err
    assert error.startswith("sitelora label: nothing was started: ")
    assert len(error.strip().splitlines()) == 1
    assert not list((exported / ".label").rglob("main.py")), "there is nothing to start"


@pytest.mark.parametrize("port", ["0", "80", "65536", "http", "8000.0"])
def test_a_port_is_a_number_that_everybody_may_take(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["label", "exported", "--studies", "studies", "--port", port])
    assert ended.value.code == 2
    assert "expected a whole number from 1024 to 65535" in capsys.readouterr().err
