"""A start-up kit as a value: whose it is, what it is for, where its parts lie."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sitelora.site_kit.certificates import Certificate

SITE, SERVER, PERSON = "site", "server", "person"
_KINDS = {"fed_client.json": SITE, "fed_server.json": SERVER, "fed_admin.json": PERSON}
ROOT_CERTIFICATE = "rootCA.pem"


class KitError(ValueError):
    """A folder is no start-up kit, or one that cannot be used for this."""


@dataclass(frozen=True, kw_only=True)
class StartupKit:
    """One participant's kit, as `nvflare provision` makes it.

    Attributes:
        path: the folder, absolute. kind: site, server or person. name: of the participant, as in its certificate.
    """

    path: Path
    kind: str
    name: str

    @classmethod
    def read(cls, path: Path, *kinds: str) -> StartupKit:
        """Read a kit.

        Args:
            path: the folder. kinds: what it may be for; any where none is named.

        Raises:
            KitError: it is no kit, not whole, or one of another kind.
        """
        startup = path / "startup"
        found = [kind for file, kind in _KINDS.items() if (startup / file).is_file()]
        if len(found) != 1:
            raise KitError(
                f"{path}: found {'no' if not found else 'more than one'} of {', '.join(_KINDS)} in startup/, expected "
                "a start-up kit of NVFlare, which is a folder such as federation/NAME/prod_00/site-1 that `nvflare "
                "provision` makes"
            )
        (kind,) = found
        if kinds and kind not in kinds:
            raise KitError(f"{path}: found the kit of a {kind}, expected one of a {' or a '.join(kinds)}")
        leaf = Certificate.read(startup / f"{'server' if kind == SERVER else 'client'}.crt")
        return cls(path=path.resolve(), kind=kind, name=leaf.subject)

    @property
    def startup(self) -> Path:
        """What `nvflare provision` gave, and what is replaced when a certificate is renewed."""
        return self.path / "startup"

    @property
    def local(self) -> Path:
        """What the participant says itself."""
        return self.path / "local"

    @property
    def key(self) -> Path:
        """Its private key."""
        return self.startup / f"{'server' if self.kind == SERVER else 'client'}.key"

    @property
    def leaf(self) -> Certificate:
        """Its own certificate."""
        return Certificate.read(self.key.with_suffix(".crt"))

    @property
    def root(self) -> Certificate:
        """The federation's."""
        return Certificate.read(self.startup / ROOT_CERTIFICATE)
