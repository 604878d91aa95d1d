"""What an exported bundle has to pass before it is there: MONAI's own checks, a strict load, and the golden case."""

from __future__ import annotations

import contextlib
import logging
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

from monai.bundle import ConfigWorkflow, verify_metadata, verify_net_in_out

from sitelora.data.endings import PICTURES, VOLUMES
from sitelora.model_export.golden import IMAGE, differing
from sitelora.model_export.model_of_run import ExportError
from sitelora.model_export.versions import GOLDEN, INFERENCE, METADATA

SCHEMA = Path(__file__).with_name("metadata_schema.json")
"""Ours, written from MONAI's text; it asks for all that the official one asks for, and for more."""


def check_bundle(folder: Path, predictions: Sequence[Path]) -> list[str]:
    """Check a complete bundle by itself.

    Args:
        folder: of the bundle. predictions: of its golden case, by the model before it was exported.

    Returns:
        What was checked, a few words each.

    Raises:
        ExportError: it does not pass; says what.
    """
    if find_spec("jsonschema") is None:
        raise ExportError("jsonschema is not installed here, and a bundle is checked with it: pip install jsonschema")
    folder = folder.absolute()  # MONAI acts on a text that begins with a sign
    meta, config = str(folder / METADATA), str(folder / INFERENCE)
    with _quiet():
        _passes("its metadata against the schema", lambda: verify_metadata(meta_file=meta, filepath=str(SCHEMA)))
        _passes(
            "its network's shapes",
            lambda: verify_net_in_out("network_def", meta_file=meta, config_file=config, device="cpu"),
        )
        with tempfile.TemporaryDirectory(dir=folder, prefix=".check-") as out:
            _passes("its own inference, loaded strictly", lambda: _segment(folder, Path(out)))
            for kept in predictions:
                found = Path(out) / kept.name
                if not found.is_file():
                    raise ExportError(f"the exported bundle writes no {kept.name} of its golden case")
                if count := differing(kept, found):
                    raise ExportError(f"{count} values of the golden case differ between the model and its export")
    return [
        "metadata as MONAI's schema wants it",
        "network shapes as the metadata say",
        "tensors loaded strictly",
        "golden case: the same to the voxel",
    ]


def _segment(folder: Path, out: Path) -> None:
    (image,) = (path for path in (folder / GOLDEN).glob(f"{IMAGE}.*") if path.name.endswith(VOLUMES + PICTURES))
    run = ConfigWorkflow(
        workflow_type="inference",
        config_file=str(folder / INFERENCE),
        meta_file=str(folder / METADATA),
        logging_file=False,
        bundle_root=str(folder),
        datalist=[str(image)],
        output_dir=str(out),
        device="$torch.device('cpu')",
    )
    run.initialize()
    run.run()


def _passes(what: str, check: object) -> None:
    assert callable(check)
    try:
        check()
    except (Exception, SystemExit) as error:
        raise ExportError(f"the exported bundle does not pass {what}: {error}") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep MONAI's own news of a run from the terminal; what is wrong is raised."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
