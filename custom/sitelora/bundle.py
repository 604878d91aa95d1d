"""Where the MONAI bundles are: in an installed wheel or at the top of the repository, one answer for both."""

from __future__ import annotations

from pathlib import Path

from sitelora.disk import is_absent
from sitelora.value_kinds import did_you_mean

EMBEDDED = "embedded"
"""As a bundle's ``base``, and in a site's policy: the weights that the installed package brings."""
PUBLISHED = "published"
"""In a site's policy: any base that a job names, but no model that a federation left and no file of the site's home."""
_PACKAGE = Path(__file__).resolve().parent


class BundleNotFoundError(LookupError):
    """A bundle was asked for that is not there."""


def bundles_root() -> Path:
    """Return the folder that holds one sub-folder per bundle.

    A wheel carries them as ``sitelora/bundles``; an editable install and a plain ``PYTHONPATH`` use the
    repository's own ``bundles/``, so that an edited bundle is the one that runs.

    Raises:
        BundleNotFoundError: neither folder exists, which means a broken installation.
    """
    candidates = (_PACKAGE / "bundles", _PACKAGE.parent.parent / "bundles")
    for candidate in candidates:
        if candidate.is_dir():
            return candidate
    raise BundleNotFoundError(
        f"No bundles found: looked for {candidates[0]} (installed wheel) and {candidates[1]} (repository). "
        "Install SiteLoRA again, from a wheel or with `pip install -e .` in a complete checkout."
    )


def bundle_names() -> list[str]:
    """Return the names of all bundles, sorted; a bundle is a folder with ``configs/metadata.json``."""
    return sorted(path.parent.parent.name for path in bundles_root().glob("*/configs/metadata.json"))


def bundle_path(name: str) -> Path:
    """Return the folder of one bundle.

    Args:
        name: the bundle's folder name, for example ``iat_segmentation``; not a path.

    Raises:
        BundleNotFoundError: there is no such bundle; the message lists those that exist.
    """
    names = bundle_names()
    if name in names:
        return bundles_root() / name
    listed = ", ".join(names) if names else "none"
    raise BundleNotFoundError(
        f"No bundle is named {name!r}{did_you_mean(name, names)} in {bundles_root()}. Bundles there: {listed}. "
        "Give one of these names, not a path."
    )


def require_checkpoint(path: str | Path) -> str:
    """Return the path of a served checkpoint if the file is there.

    Raises:
        FileNotFoundError: it is not; says where a site's checkpoint is made. No random network is served instead.
    """
    if not is_absent(Path(path)):
        return str(path)
    raise FileNotFoundError(
        f"no checkpoint at {path}; expected the merged model of a site. A federation leaves it at every site in "
        "<home>/<federation>/<uid>/<site>/models/personal.pt, training with this bundle in <output_dir>/model.pt: "
        "name it with --ckpt, or copy it to models/model.pt in a copy of the bundle"
    )
