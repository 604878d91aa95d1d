"""What a bundle's network says before it is built: values are judged at once, also at a server, where it never is.

A network's class may answer two questions by static methods, each with the arguments that the bundle gives it:
``parts_for`` returns its parts, ``require_base`` refuses a base that it cannot stand on. Both raise ValueError for what
cannot be, the second FileNotFoundError for a file that is not there.
A class without ``parts_for`` is built without values, on the meta device, and its attribute ``parts`` read.
"""

from __future__ import annotations

from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.utils import optional_import

from sitelora.networks.parts import Parts, parts_of

NETWORK = "network_def"


def parts_before(config: ConfigParser) -> Parts:
    """Return the parts of the network of a bundle's config, which is not built.

    Raises:
        ValueError: its arguments cannot be.
    """
    network, arguments = _network(config)
    if hasattr(network, "parts_for"):
        parts: Parts = network.parts_for(**arguments)
        return parts
    with torch.device("meta"):
        return parts_of(network(**arguments))


def require_base(config: ConfigParser) -> None:
    """Refuse a base that the network of a bundle's config cannot stand on.

    Raises:
        ValueError: says which one to give.
        FileNotFoundError: its file is not there.
    """
    network, arguments = _network(config)
    if hasattr(network, "require_base"):
        network.require_base(**arguments)


def _network(config: ConfigParser) -> tuple[Any, dict[str, Any]]:
    """Return the class of a config's network and the arguments that it gets."""
    component = config.get_parsed_content(NETWORK, instantiate=False)
    module, _, name = str(component.resolve_module_name()).rpartition(".")
    return optional_import(module, name=name)[0], dict(component.resolve_args())
