"""What only the sites of a dataset side by side show: other labels, and one image at two of them.

No site of a federation sees another's images, so this is for who has several in one place: a laboratory that cuts its
data into sites, a comparison of methods, whoever tries the software.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace

from sitelora.data.check_result import CheckResult, Listed, Problem, error, warning
from sitelora.data.errors import first_few
from sitelora.data.likeness import same_images
from sitelora.data.site_entries import labels_key, patient_key
from sitelora.data.site_folder import DATALIST

_Copy = tuple[int, Listed]
"""Place of the site among the results, and the image there."""


def with_each_other(results: Sequence[CheckResult]) -> list[CheckResult]:
    """Return the results of a dataset's sites with what is wrong between them, at each site that has a part in it."""
    further: dict[int, list[Problem]] = defaultdict(list)
    for place, problem in (*_other_labels(results), *_shared_images(results)):
        further[place].append(problem)
    return [
        replace(one, problems=tuple(sorted((*further[place], *one.problems), key=lambda problem: problem.severity)))
        for place, one in enumerate(results)
    ]


def _other_labels(results: Sequence[CheckResult]) -> Iterator[tuple[int, Problem]]:
    """Yield an error at every site whose labels are not those of most sites: no job takes both."""
    keys = [str(labels_key(one.labels) or "") for one in results]
    counts = Counter(key for key in keys if key)
    if len(counts) < 2:
        return
    most = counts.most_common(1)[0][0]
    like = next(one for one, key in zip(results, keys, strict=True) if key == most)
    remedy = "give the values the same names at all sites of a dataset, or make two datasets of them"
    wanted = f"{dict(like.labels)} as at {like.site}"
    for place, (one, key) in enumerate(zip(results, keys, strict=True)):
        if key and key != most:
            yield place, error(f"labels {dict(one.labels)}", wanted, remedy, file=DATALIST)


def _shared_images(results: Sequence[CheckResult]) -> Iterator[tuple[int, Problem]]:
    """Yield what is to be said of images that several sites have, and of their patients."""
    images = [
        ((place, listed), like) for place, one in enumerate(results) for listed, like in one.images if not like.blank
    ]
    patients: dict[tuple[int, int, str], str] = {}
    for copies in same_images(images):
        sites = dict.fromkeys(place for place, _ in copies)
        for place in sites if len(sites) > 1 else ():
            own = next(listed for site, listed in copies if site == place)
            others = [(site, listed) for site, listed in copies if site != place]
            yield place, _at(own, others, results)
            for site, listed in others:
                if patient_key(listed.patient) == patient_key(own.patient):
                    patients.setdefault((place, site, patient_key(own.patient)), own.patient)
    for (place, other, _), name in patients.items():
        found = f"patient {name!r} here and at {results[other].site}, with the same image"
        remedy = "if it is one patient, leave all cases at one site, or in one split at both"
        yield place, warning(found, "every patient at one site", remedy, file=DATALIST)


def _at(own: Listed, others: Sequence[_Copy], results: Sequence[CheckResult]) -> Problem:
    """Return what is said at a site of its image and of the same image elsewhere: an error where splits differ."""
    splits = {own.split, *(listed.split for _, listed in others)}
    there = first_few([f"{listed.file} ({listed.split}) at {results[site].site}" for site, listed in others])
    found = f"the same image here ({own.split}) and elsewhere: {there}"
    remedy = "take it out of the list at all sites but one"
    if len(splits) == 1:
        return warning(found, "every image at one site", remedy, case=own.case, file=own.file)
    expected = "every image at one site, or scores are of what other sites trained on or chose by"
    return error(found, expected, f"{remedy}, or train these sites apart", case=own.case, file=own.file)
