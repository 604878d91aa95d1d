"""Holds one site's process at one moment of one round, so that `benchmarks/survival.py` kills exactly there.

Python imports this file in every process that has its folder on PYTHONPATH: those of the benchmark's system, and no
others. The process says that it is there by a file, and waits for another file; it does so once.
"""

import os
import sys
import time
from pathlib import Path

MOMENT = os.environ.get("SURVIVAL_MOMENT", "")
SITE = os.environ.get("SURVIVAL_SITE", "")
ROUND = int(os.environ.get("SURVIVAL_ROUND", "1"))


def wait_here() -> None:
    """Say that the moment has come, and wait for what may never come."""
    place = Path(os.environ["SURVIVAL_FOLDER"])
    there, go_on = place / "there", place / "go_on"
    if there.exists():
        return
    new = place / f"there.{os.getpid()}"
    new.write_text(str(os.getpid()))
    new.rename(there)  # whole or not at all: who waits for it reads it at once
    while not go_on.exists():
        time.sleep(0.02)


def hold() -> None:
    """Hold this process at the moment that the environment names."""
    from nvflare.private.fed.client.client_runner import ClientRunner

    from sitelora.federation.site_tasks import Progress, SiteTasks

    trained, sent, step = SiteTasks.do, ClientRunner._try_send_result_once, Progress.__call__
    number = [-1]

    def do(self, task, ticket, packet, **others):
        number[0] = ticket.round_number if task == "train" else -1
        if MOMENT == "before training" and number[0] == ROUND:
            wait_here()
        return trained(self, task, ticket, packet, **others)

    def progress(self, at, steps, loss):
        step(self, at, steps, loss)
        if MOMENT == "in training" and self._round == ROUND and at == 2:
            wait_here()

    def send(self, result, task_id, fl_ctx):
        if MOMENT == "while sending" and number[0] == ROUND:
            wait_here()
        return sent(self, result, task_id, fl_ctx)

    SiteTasks.do = do
    Progress.__call__ = progress
    ClientRunner._try_send_result_once = send


words = getattr(sys, "orig_argv", [])
if MOMENT and "nvflare.private.fed.app.client.worker_process" in words and SITE in words:
    hold()
