"""`sitelora version`: what is installed here; sites of a federation compare it when something disagrees."""

from __future__ import annotations

import argparse
import platform
from importlib import metadata

from sitelora import __version__

HELP = "show the versions of SiteLoRA and of what it stands on"
EXAMPLES = """\
  sitelora version"""

_LIBRARIES = ("torch", "monai", "nvflare", "segment-anything", "pytorch-ignite", "nibabel", "safetensors")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare no argument."""


def run(args: argparse.Namespace) -> int:
    """Print one line a library; nothing is imported for it."""
    print(f"{'sitelora':<16} {__version__}")
    print(f"{'python':<16} {platform.python_version()}")
    for library in _LIBRARIES:
        try:
            found = metadata.version(library)
        except metadata.PackageNotFoundError:
            found = "not installed"
        print(f"{library:<16} {found}")
    return 0
