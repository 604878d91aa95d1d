"""Which tasks there are: one file each in `sitelora.tasks`, found by looking, never by a list."""

from __future__ import annotations

import importlib
import pkgutil

import sitelora.tasks
from sitelora.task import Task
from sitelora.value_kinds import SettingsError, did_you_mean, short


def task_names() -> list[str]:
    """Return the names of all tasks: the modules of `sitelora.tasks`, sorted; its folders hold their tools."""
    return sorted(module.name for module in pkgutil.iter_modules(sitelora.tasks.__path__) if not module.ispkg)


def find_task(name: object, *, where: str = "") -> Task:
    """Return the ``TASK`` of ``tasks/<name>.py``.

    Args:
        name: of the task. where: who names it, at the head of the message.

    Raises:
        SettingsError: no such task, with those that exist.
    """
    if name not in task_names():
        near = did_you_mean(name, task_names()) if isinstance(name, str) else ""
        raise SettingsError(f"{where}no task is called {short(name)}{near}; there are: {', '.join(task_names())}")
    task: Task = importlib.import_module(f"{sitelora.tasks.__name__}.{name}").TASK
    return task
