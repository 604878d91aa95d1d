"""The environment of MONAI Label: every package pinned, all that SiteLoRA needs among them, and none that breaks it."""

from __future__ import annotations

import configparser
from pathlib import Path

from packaging.requirements import Requirement


def pins(file: Path) -> dict[str, str]:
    lines = [line for line in file.read_text(encoding="utf-8").splitlines() if line and line[0] != "#"]
    return dict(line.split("==") for line in lines)


def test_it_holds_what_serving_needs_at_versions_that_serving_takes(repository: Path) -> None:
    found = {**pins(repository / "constraints.txt"), **pins(repository / "label-requirements.txt")}
    config = configparser.ConfigParser()
    config.read(repository / "setup.cfg")
    asked = [line for line in config["options"]["install_requires"].splitlines() if line.strip() and line[0] != "#"]
    for requirement in map(Requirement, asked):
        assert requirement.specifier.contains(found[requirement.name]), requirement


def test_it_keeps_to_what_monai_label_can_stand(repository: Path) -> None:
    found = pins(repository / "label-requirements.txt")
    assert found["monailabel"] == "0.8.5"
    for requirement in ("numpy<2", "jsonschema<4", "pydicom<3", "pynetdicom<3", "dicomweb-client<0.60"):
        wanted = Requirement(requirement)
        assert wanted.specifier.contains(found[wanted.name]), requirement
    assert not {"torch", "sam2", "nvflare", "mlflow"} & found.keys(), "torch comes first, from an index of its own"
    assert found["monai"] == pins(repository / "constraints.txt")["monai"]
