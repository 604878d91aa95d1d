"""What is installed equals what is on disk, from a wheel and from an editable install."""

import configparser
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

import sitelora
from sitelora.bundle import BundleNotFoundError, bundle_names, bundle_path

COPIED = ("setup.cfg", "pyproject.toml", "README.md", "LICENSE", "custom", "bundles")
# Offline and quiet: what is built must need nothing that is not already here.
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "--quiet"]
OFFLINE = ["--no-deps", "--no-build-isolation", "--no-index"]
EXTRA_BUNDLE = [
    f"packaging_probe/{name}"
    for name in (
        "LICENSE",
        "configs/metadata.json",
        "configs/logging.conf",
        "docs/README.md",
        "docs/data_license.txt",
    )
]
WHERE = """
import json, site, sys
if len(sys.argv) > 1:
    site.addsitedir(sys.argv[1])
import sitelora
from sitelora.bundle import bundle_names, bundle_path
names = bundle_names()
print(json.dumps({"package": sitelora.__file__, "bundles": {name: str(bundle_path(name)) for name in names}}))
"""


def files_below(folder: Path) -> set[str]:
    paths = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(folder).as_posix() for path in paths}


def run_neutral(tmp_path: Path, *arguments: str, pythonpath: Path | None = None) -> dict:
    """Ask an installed copy where it is, from a folder that holds no source."""
    script = tmp_path / "where.py"
    script.write_text(WHERE, encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if pythonpath is not None:
        environment["PYTHONPATH"] = str(pythonpath)
    # -S keeps this environment's own SiteLoRA out of the way.
    command = [sys.executable, "-S", str(script), *arguments]
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


@pytest.fixture(scope="module")
def source(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what a build reads, with one more bundle in it.

    Building in the checkout would leave, and the next build would reuse, a stale build folder.
    """
    copy = tmp_path_factory.mktemp("source")
    for name in COPIED:
        if (repository / name).is_dir():
            ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
            shutil.copytree(repository / name, copy / name, ignore=ignore)
        else:
            shutil.copy2(repository / name, copy / name)
    for name in EXTRA_BUNDLE:
        path = copy / "bundles" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}", encoding="utf-8")
    return copy


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    run = subprocess.run([*PIP, "wheel", *OFFLINE, "-w", str(out), str(source)], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def content(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_package_list_equals_the_disk(repository: Path) -> None:
    config = configparser.ConfigParser()
    config.read(repository / "setup.cfg")
    listed = set(config["options"]["packages"].split())
    custom = repository / "custom"
    with_code = {path.parent.relative_to(custom) for path in (custom / "sitelora").rglob("*.py")}
    assert listed == {".".join(path.parts) for path in with_code} | {"sitelora.bundles"}
    missing = [str(path) for path in with_code if not (custom / path / "__init__.py").is_file()]
    assert missing == [], "a folder with code and no __init__.py"


def test_bundles_hold_no_python(repository: Path) -> None:
    assert [str(path) for path in (repository / "bundles").rglob("*.py")] == []


def test_wheel_contains_every_bundle_file(source: Path, content: set[str]) -> None:
    expected = {f"sitelora/bundles/{name}" for name in files_below(source / "bundles") if "/" in name}
    assert len(expected) >= len(EXTRA_BUNDLE)
    assert {name for name in content if name.startswith("sitelora/bundles/")} == expected


def test_wheel_contains_all_code_and_weights(source: Path, content: set[str]) -> None:
    expected = {f"sitelora/{name}" for name in files_below(source / "custom" / "sitelora")}
    assert expected - content == set()


def test_wheel_contains_the_licence_and_no_tests(content: set[str]) -> None:
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in content)
    roots = {name.split("/")[0] for name in content}
    assert {root for root in roots if not root.endswith(".dist-info")} == {"sitelora"}
    assert not [name for name in content if "test" in Path(name).name]


def test_installed_wheel_finds_its_own_bundles(wheel: Path, tmp_path: Path) -> None:
    target = tmp_path / "site-packages"
    subprocess.run([*PIP, "install", *OFFLINE, "--target", str(target), str(wheel)], check=True)
    found = run_neutral(tmp_path, pythonpath=target)
    assert Path(found["package"]).is_relative_to(target)
    names = [*bundle_names(), "packaging_probe"]
    assert found["bundles"] == {name: str(target / "sitelora" / "bundles" / name) for name in names}


def test_an_installed_wheel_writes_the_job_and_the_bundle_that_are_committed(
    wheel: Path, repository: Path, tmp_path: Path
) -> None:
    target, empty = tmp_path / "site-packages", tmp_path / "empty"
    empty.mkdir()
    subprocess.run([*PIP, "install", *OFFLINE, "--target", str(target), str(wheel)], check=True)
    environment = {**os.environ, "PYTHONPATH": str(target)}
    for words in (["job", "iat_prostate"], ["bundle", "iat_segmentation"]):
        command = [sys.executable, "-m", "sitelora.cli", *words]
        done = subprocess.run(command, cwd=empty, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    written = {path.relative_to(empty): path.read_bytes() for path in empty.rglob("*") if path.is_file()}
    job = {path: content for path, content in written.items() if path.parts[0] == "iat_prostate"}
    assert sorted(path.name for path in job) == [
        *("config_fed_client.json", "config_fed_server.json", "meta.json", "sitelora.json")
    ]
    assert job == {path: (repository / "jobs" / path).read_bytes() for path in job}
    bundle = {path.as_posix(): content for path, content in written.items() if path not in job}
    committed = {f"iat_segmentation/{name}" for name in files_below(repository / "bundles" / "iat_segmentation")}
    assert bundle == {name: (repository / "bundles" / name).read_bytes() for name in committed}


def test_editable_install_finds_the_checkouts_bundles(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "site-packages"
    subprocess.run([*PIP, "install", *OFFLINE, "--target", str(target), "--editable", str(source)], check=True)
    found = run_neutral(tmp_path, str(target))
    assert Path(found["package"]).is_relative_to(source)
    names = [*bundle_names(), "packaging_probe"]
    assert found["bundles"] == {name: str(source / "bundles" / name) for name in names}


def test_bundle_path_of_every_bundle(repository: Path) -> None:
    for name in bundle_names():
        assert bundle_path(name) == repository / "bundles" / name
        assert (bundle_path(name) / "configs" / "metadata.json").is_file()


@pytest.mark.parametrize("name", ["no_such_bundle", "", "..", "../custom"])
def test_unknown_bundle_lists_those_that_exist(name: str) -> None:
    with pytest.raises(BundleNotFoundError) as caught:
        bundle_path(name)
    assert repr(name) in str(caught.value)
    for known in bundle_names() or ["none"]:
        assert known in str(caught.value)


def test_citation_names_the_packages_version(repository: Path) -> None:
    citation = yaml.safe_load((repository / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == sitelora.__version__


def test_constraints_satisfy_what_setup_cfg_asks_for(repository: Path) -> None:
    from packaging.requirements import Requirement

    config = configparser.ConfigParser()
    config.read(repository / "setup.cfg")
    extras = config["options.extras_require"]
    asked = "\n".join([config["options"]["install_requires"], *extras.values()])
    requirements = [Requirement(line) for line in asked.splitlines() if line.strip() and line[0] != "#"]
    lines = (repository / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if line and line[0] != "#")
    for requirement in requirements:
        if requirement.name in pins:
            assert requirement.specifier.contains(pins[requirement.name]), requirement
    assert {"torch", "monai", "nvflare", "segment-anything", "pytorch-ignite", "nibabel"} <= pins.keys()
