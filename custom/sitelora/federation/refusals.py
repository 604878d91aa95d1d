"""Why a site did not do what it was asked, as one code out of a public list; the text of an error stays at the site.

A text may hold a patient's name (a file is called like that) or a path. So a code leaves and nothing else, and the
server adds the remedy. The text is in the site's own ``events.jsonl`` and log.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from functools import cache

from sitelora.wants import FULL, system_code

_CONFIG_FAILURE = "Failed to instantiate component"
FAILED = "failed"
UNLISTED = "unlisted"
OUT_OF_MEMORY, DISK_FULL, _ = PASSING = ("out_of_memory", "disk_full", "process_lost")
"""Codes of a want that may have passed when the site is asked again: others may have taken what there is."""

REMEDIES = {
    "data_unfit": "its data is missing or not fit for training: run `sitelora check` at the site",
    "labels_differ": "its data has other labels than the bundle: prepare it for this bundle or set classes",
    "bundle_missing": "the bundle is not installed there: install the same SiteLoRA version at all sites",
    "base_missing": "the base is not there, no checkpoint of its architecture, or none that its policy takes: fetch it",
    "settings_refused": "the job asks for values that the installed bundle does not allow: correct the job",
    "configuration_refused": "its own local/sitelora.json is not usable: correct it at the site",
    "device_unfit": "its device is not there or has no bf16: set device or precision in its local/sitelora.json",
    "compiler_missing": "compile is set there and it has no compiler: install g++ or set compile to false",
    "version_differs": "it has another SiteLoRA version than the server: install the same at both",
    "run_changed": "its state is of another version, bundle or base: resume with those of the run, or use another uid",
    "turn_refused": "the task is not the one that comes next there: resume the run with its uid, or use another uid",
    "message_refused": "the server's message is not what the method declares: install the same version at both",
    "egress_refused": "its answer held something that may not leave: install the job's bundle there, or stop the job",
    "report_refused": "its report held something that may not leave: the site's log names the field",
    "policy_refused": "the site's own policy refuses the job, or kept the answer back: ask the site",
    "epsilon_spent": "its privacy budget (max_epsilon of its policy) ends before this round: go on without it",
    "training_failed": "training left the finite numbers or made no step: lower learning_rate, check the images",
    "state_damaged": "a file of its state is damaged: its log names the folder to remove to go back one round",
    "running": "another process is at work in the same run there: wait for it, end it, or use another uid",
    "out_of_memory": "it ran out of memory: lower batch_size or image_size, or give the site more",
    "disk_full": "its disk is full: free space in its SITELORA_HOME",
    "file_refused": "a file there cannot be read or written: the site's log names it",
    "process_lost": "another process of it ended or stopped in a round: the same job goes on; processes 1 needs none",
    "no_answer": "it did not answer in time: see whether it runs; its log says what it does",
    FAILED: "it failed: the site's own log says why",
    UNLISTED: "it answered with a code that is not on the list: install the same SiteLoRA version at both",
}
"""Every code with one line of remedy; what a site may say of an error is a key of this table."""


def code_of(error: BaseException) -> str:
    """Return the code of an error: of the first error in the chain of causes that has one."""
    for one in _chain(error):
        own = getattr(one, "code", None)
        if isinstance(own, str) and own in REMEDIES:
            return own
        for kind, code in _codes():  # before a look at words: these quote what a job or a file is called
            if isinstance(one, kind):
                return code
        wanted = system_code(one)
        if wanted == errno.ENOMEM or wanted in FULL:
            return OUT_OF_MEMORY if wanted == errno.ENOMEM else DISK_FULL
        if isinstance(one, OSError):
            return "file_refused"
    return FAILED


def readable(error: BaseException) -> str:
    """Return an error's message for a person; MONAI's wrapper around a bundle value gives way to its cause."""
    while str(error).startswith(_CONFIG_FAILURE) and error.__cause__ is not None:
        error = error.__cause__
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    expected = isinstance(error, ValueError | LookupError | OSError | RuntimeError)
    return text if text and expected else f"{type(error).__name__}: {text}"


def sentence(site: str, code: object) -> str:
    """Return what the server's record says of a site's code, whatever the site sent."""
    known = code if isinstance(code, str) and code in REMEDIES else UNLISTED
    return f"{site}: {known}: {REMEDIES[known]}"


@cache
def _codes() -> tuple[tuple[type[BaseException], str], ...]:
    """Return what kind of error has which code; its imports are torch and MONAI, which who reads codes does without."""
    import torch

    from sitelora.bundle import BundleNotFoundError
    from sitelora.data.site_folder import SiteDataError
    from sitelora.federation.local_round import TrainingError
    from sitelora.sharing.rule import ShareRuleError
    from sitelora.sharing.schema import SchemaError
    from sitelora.sharing.wire import EgressError, PacketError
    from sitelora.value_kinds import SettingsError

    return (
        (SiteDataError, "data_unfit"),
        (BundleNotFoundError, "bundle_missing"),
        (ShareRuleError, "settings_refused"),
        (SettingsError, "settings_refused"),
        (PacketError, "message_refused"),
        (EgressError, "egress_refused"),
        (SchemaError, "report_refused"),
        (TrainingError, "training_failed"),
        (torch.OutOfMemoryError, "out_of_memory"),
        (FileNotFoundError, "base_missing"),
    )


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        yield one
        one = one.__cause__ or (None if one.__suppress_context__ else one.__context__)
