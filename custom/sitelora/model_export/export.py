"""Write a site's model as a complete MONAI bundle, checked before it is there.

Complete means: with sitelora installed nothing else is needed. The model is the full state of the network; what the
run was made with stands in the configs as plain values, so no bundle of another version says otherwise later.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from sitelora.bundle import bundle_path
from sitelora.disk import file_sha256
from sitelora.federation.files import new_folder
from sitelora.model_export.checks import check_bundle
from sitelora.model_export.configs import frozen_inference, metadata
from sitelora.model_export.golden import keep_golden
from sitelora.model_export.model_of_run import ExportError, ModelOfRun
from sitelora.model_export.versions import (
    CARD,
    COPIED,
    GOLDEN,
    INFERENCE,
    LARGE,
    METADATA,
    MODEL,
    new_name,
    serve,
    served_in,
    versions_in,
)
from sitelora.report.model_card import model_card
from sitelora.serving.open_model import open_model


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What an export did.

    Attributes:
        folder: of the new version. checked: what it passed.
        served_as: the name under which it is served; empty where it is not.
        before: the version that was served until now; empty where none was.
        restart: whether a running MONAI Label has to be started anew.
    """

    folder: Path
    checked: tuple[str, ...]
    served_as: str = ""
    before: str = ""
    restart: bool = False


def export_model(origin: ModelOfRun, out: Path, *, served: bool = True) -> Exported:
    """Write a model as one more version in a folder of exported bundles.

    Args:
        origin: the model. out: the folder of versions. served: also make it what is served of its line.

    Raises:
        ExportError: it is there already, the folder's name cannot be, or it does not pass a check; nothing was written.
        ValueError: the model's file is damaged or does not fit its bundle.
        DiskError: it cannot be written.
    """
    if "#" in str(out.absolute()):
        raise ExportError(f"{out.absolute()}: MONAI takes # in a path for a step in a config; choose another folder")
    sha256 = file_sha256(origin.file)
    for version in versions_in(out) if out.is_dir() else []:
        if version.told.get("model_sha256") == sha256 and version.told["line"] == origin.line:
            raise ExportError(f"this model is there already: {version.folder}; `sitelora models {out}` lists them")
    name = new_name(out, origin.line, origin.date, origin.task)
    with new_folder(out / name) as new:
        (new / "configs").mkdir()
        (new / "docs").mkdir()
        (new / MODEL).parent.mkdir()
        for file in COPIED:
            shutil.copyfile(bundle_path(str(origin.made["bundle"])) / file, new / file)
        shutil.copyfile(origin.file, new / MODEL)
        opened = open_model(origin.file, out=new, device="cpu")
        frozen = frozen_inference(opened, line=origin.line, site=origin.site, dataset=origin.run.result.dataset)
        _write(new / INFERENCE, frozen)
        hashes = {"model_sha256": sha256, "inference_sha256": file_sha256(new / INFERENCE)}
        _write(new / METADATA, metadata(opened, origin=origin, hashes=hashes))
        card = model_card(origin.run, origin.made, site=origin.site, kind=origin.kind, sha256=sha256, name=name)
        (new / CARD).write_text(card, encoding="utf-8")
        (new / LARGE).write_text(_large_files(sha256), encoding="utf-8")
        predictions = keep_golden(origin.file, opened, new / GOLDEN)
        checked = tuple(check_bundle(new, predictions))
    exported = Exported(folder=out / name, checked=checked)
    if not served:
        return exported
    line = versions_in(out)
    (version,) = (each for each in line if each.name == name)
    before = served_in(out).get(version.served_as)
    copy, restart = serve(out, name)
    return Exported(
        folder=out / name,
        checked=checked,
        served_as=copy.name,
        before=before.served_from if before is not None else "",
        restart=restart,
    )


def _large_files(sha256: str) -> str:
    """Return large_files.yml: the model is in the folder; whoever publishes the bundle without it gives an address."""
    return (
        "# The model lies in this folder. Who publishes the bundle without it says here where it can be fetched.\n"
        f'large_files:\n  - path: "{MODEL}"\n    url: ""\n    hash_val: "{sha256}"\n    hash_type: "sha256"\n'
    )


def _write(file: Path, content: object) -> None:
    file.write_text(json.dumps(content, indent=4) + "\n", encoding="utf-8")
