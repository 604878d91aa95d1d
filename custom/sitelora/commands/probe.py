"""`sitelora probe`: what the frozen base of a job knows at every site without adapters, which have to beat it."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from sitelora.commands._values import add_bundle_values, as_overrides
from sitelora.metric import ABSENT

HELP = "score a linear head on the frozen base's features at every site of a job"
EXAMPLES = """\
  sitelora probe jobs/med_duallora_cine
  sitelora probe jobs/fedopal_tuberculosis --data data --json

The base runs once over every image, then a head is trained on its features at each site alone: nothing is shared. Heads
are chosen by validation cases, and scored on the test cases that the job's models are scored on."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("job", type=Path, metavar="JOB", help="folder of a job whose task is classification")
    parser.add_argument("--data", type=Path, metavar="DIR", help="root of the site folders (as configured)")
    add_bundle_values(parser)
    parser.add_argument("--json", action="store_true", help="print every score and case as JSON")


def run(args: argparse.Namespace) -> int:
    """Print one line a site."""
    from sitelora.data.check import check_site_folder
    from sitelora.data.site_folder import SiteFolder, find_site_folder
    from sitelora.evaluation.linear_probe import LinearProbe
    from sitelora.federation.bundle_config import data_needs, set_torch_threads
    from sitelora.federation.job_folder import JobFolder
    from sitelora.report.format_values import columns
    from sitelora.settings import read_settings
    from sitelora.typed_json import to_json

    job = JobFolder.read(args.job).job
    folders = {site: SiteFolder.read(find_site_folder(job.dataset, site, args.data)) for site in job.sites}
    settings = read_settings(job.bundle, {**job.settings, **as_overrides(args.values)}, sites=job.sites)
    set_torch_threads(settings)
    needs = data_needs(settings.bundle, settings.parser())
    for folder in folders.values():
        check_site_folder(folder.path, needs=needs).raise_if_bad()
    probe = LinearProbe(settings)
    results = {site: probe.of(folder) for site, folder in folders.items()}
    if args.json:
        print(json.dumps({site: to_json(result) for site, result in results.items()}, indent=1))
        return 0
    primary = settings.task.primary
    rows = [["site", "decay", "validation", "test", "95 %"]]
    for site, result in results.items():
        scores = [primary.text(part["score"]) if part else ABSENT for part in (result.validation, result.test)]
        interval = result.test["score_ci95"] if result.test else None
        ends = " to ".join(primary.text(end) for end in interval) if interval else ABSENT
        rows.append([site, f"{result.decay:g}", *scores, ends])
    print(f"{primary.title} of a linear probe on the frozen base")
    print(*columns(rows), sep="\n")
    return 0
