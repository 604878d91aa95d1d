"""Whether a run could begin on this machine with given values, asked before anything of it starts."""

from __future__ import annotations

from sitelora.bundle import EMBEDDED
from sitelora.federation.refusals import readable
from sitelora.federation.site_settings import SiteError, require_machine
from sitelora.settings import RunSettings
from sitelora.value_kinds import SettingsError


def require_trainable(settings: RunSettings) -> None:
    """Refuse values that a site on this machine could not begin with, whatever its data.

    A base that is a file is read, into the very network: a cut or foreign one is told here by its name, and not by
    every site, minutes later.

    Raises:
        SettingsError: a device, a precision or a base that is not usable here; says which and what to set.
        FileNotFoundError: the base is not there.
    """
    settings.require_base()
    parser = settings.parser()
    try:
        require_machine(parser)
    except SiteError as error:
        raise SettingsError(str(error)) from error
    if parser.get("base") in (None, EMBEDDED):
        return
    try:
        parser.get_parsed_content("network_def")
    except Exception as error:
        raise SettingsError(f"bundle {settings.bundle}: base: {readable(error)}") from error
