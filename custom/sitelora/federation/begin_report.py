"""What a site says of itself before the first round: what must agree, what it has, and what it runs on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser
from torch import nn

import sitelora
from sitelora.bundle import EMBEDDED
from sitelora.data.site_folder import SiteFolder
from sitelora.data.trained_on import ranges_of
from sitelora.federation.build_network import partition_of
from sitelora.federation.bundle_config import bundle_sha256, data_needs, said_by_models
from sitelora.federation.machine import hardware, versions
from sitelora.federation.reports import OWN
from sitelora.federation.site_settings import SiteError, SiteSettings
from sitelora.federation.state import StoredRound
from sitelora.networks.architecture import ARCHITECTURES
from sitelora.serving.model_file import RANGES, described
from sitelora.sharing.patterns import clean_name


def begin_report(
    settings: SiteSettings, folder: SiteFolder, parser: ConfigParser, network: nn.Module, initial_sha256: str
) -> dict[str, Any]:
    """Return a report that fits ``reports.BEGIN``; the shapes of the shared tensors are in the packet beside it.

    Args:
        settings, folder, parser, network: of the site.
        initial_sha256: of its seeded initial values, which hold no data.
    """
    partition = partition_of(network)
    sizes = {clean_name(name): t.numel() for name, t in network.state_dict().items()}
    return {
        "site": settings.site,
        "hospital": folder.hospital,
        "labels": {str(value): name for value, name in folder.labels.items()},
        "cases": folder.case_counts(),
        **identity_of(settings, network),
        "agreed": dict(settings.agreed),
        "own_settings": {key: value for key, value in settings.run.site_values.items() if key in OWN},
        "initial_sha256": initial_sha256,
        "image_size": int(parser.get_parsed_content("image_size")),
        "base": f"{parser['arch']} ({_base_name(parser['base'])})",
        "local_count": len(partition.local),
        "local_values": sum(sizes[name] for name in partition.local),
        "frozen_count": len(partition.frozen),
        "model_values": sum(sizes[name] for name in (*partition.frozen, *partition.trained)),
        "seed": int(parser.get_parsed_content("seed")),
        "hardware": hardware(),
        "versions": versions(),
    }


def served_model(
    settings: SiteSettings,
    folder: SiteFolder,
    parser: ConfigParser,
    network: nn.Module,
    *,
    served: Mapping[str, Any],
) -> dict[str, Any]:
    """Return what the files of a site's models say of how they were made; reads every training image for it.

    Args:
        settings, folder, parser, network: of the site. served: which model it is (``Served.to_json``).
    """
    channels = data_needs(settings.bundle, parser).channels
    ranges = ranges_of((Path(case["image"]) for case in folder.cases("training")), channels)
    return described(
        bundle=settings.bundle,
        **{key: parser.get_parsed_content(key) for key in said_by_models(settings.bundle)},
        labels=dict(folder.labels),
        precision=str(getattr(network, "compute_precision", "")),
        method=settings.run.method.name,
        arguments={k: v for k, v in settings.run.method_config.items() if not k.startswith("_")},
        federation=settings.federation,
        uid=settings.uid,
        site=settings.site,
        hospital=folder.hospital,
        modality=folder.modality,
        served=served,
        **({RANGES: ranges.to_plain()} if ranges is not None else {}),
        **identity_of(settings, network),
    )


def identity_of(settings: SiteSettings, network: nn.Module) -> dict[str, Any]:
    """Return what a run is made with at this site, as plain hashes: nothing of a patient is in them."""
    return {
        "version": sitelora.__version__,
        "bundle_sha256": bundle_sha256(settings.bundle),
        "settings_sha256": settings.run.agreed_sha256,
        "base_sha256": getattr(network, "base_fingerprint", None),
    }


def require_same_run(settings: SiteSettings, network: nn.Module, stored: StoredRound) -> None:
    """Refuse to go on from a round that was done with another version, bundle or base.

    Raises:
        SiteError: with the hash that differs.
    """
    for key, now in identity_of(settings, network).items():
        then = stored.manifest[key]
        if then != now:
            raise SiteError(
                f"site {settings.site}: {stored.folder} was written with {key} {str(then)[:12]}, now it is "
                f"{str(now)[:12]}; resume with the version and bundle of the run, or start a new one",
                code="run_changed",
            )


def _base_name(base: str | None) -> str:
    """Return what the report calls a base; a file's own name says nothing that its hash does not, and stays here."""
    if base is None or base == EMBEDDED:
        return "random values" if base is None else base
    published = {architecture.meta_file for architecture in ARCHITECTURES.values()}
    return Path(base).name if Path(base).name in published else "a checkpoint of the site's"
