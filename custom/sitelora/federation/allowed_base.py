"""What a site's network may stand on by its policy: what the file is counts, and who named it, not what it is called.

Adapters are only as harmless as what they stand on. A base can be made so that they carry pictures
(``benchmarks/attacks/imprint.py``). And a job may name any path: what a federation left at this site would leave again
as the next one's initial values, which hold no data only where the base is public.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from monai.bundle import ConfigParser

from sitelora.bundle import EMBEDDED, PUBLISHED
from sitelora.disk import file_sha256
from sitelora.networks.tensor_file import file_of, is_left_by_federation

_NAME_IT = "or set a base of your own among its settings"


def refused_base(parser: ConfigParser, bases: Sequence[str] | None, *, home: Path, named_by_site: bool) -> str:
    """Return why a base is refused before a network is built on it; empty where it is allowed.

    Seeded random values are nobody's, and always allowed. What leaves of a refusal is the code of a base that is not
    there, because a job must not learn which files a site has.

    Args:
        parser: of the bundle's train.json, with the values of the run, the site's own among them.
        bases: ``embedded``, ``published`` or the sha256 of a checkpoint's file; None for anything.
        home: where the site keeps what its federations leave. named_by_site: the site has chosen the base itself.
    """
    base = parser["base"]
    if bases is None or base is None:
        return ""
    if base == EMBEDDED:
        if {EMBEDDED, PUBLISHED} & {*bases}:
            return ""
        told = EMBEDDED
    else:
        path = file_of(str(base), str(parser["arch"]))
        judged = PUBLISHED in bases and not named_by_site and path.is_file()
        why = _not_published(path, home) if judged else ""
        if PUBLISHED in bases and not why:
            return ""  # before the file is hashed, which takes seconds of a large one
        found = file_sha256(path) if path.is_file() else "no file"  # of a device there is no end
        if found in bases:
            return ""
        told = f"{base} (sha256: {found})" + (f", {why}" if why else "")
    return (
        f"the network would stand on {told}, this site's policy allows {', '.join(bases) or 'none'}; compare the "
        f"sha256 with the publisher's before you add it to bases in the policy of local/sitelora.json, {_NAME_IT}"
    )


def _not_published(path: Path, home: Path) -> str:
    """Return by what a file shows that a federation left it; empty where nothing says so."""
    if path.resolve().is_relative_to(home.resolve()):
        return "a file of this site's own home, which a job may not name"
    if is_left_by_federation(path):
        return "a model that a federation left, which a job may not name"
    return ""
