"""The smallest job that speaks of rounds: every site answers, the server writes ``result.json``."""

from __future__ import annotations

import json
import os
from pathlib import Path

from nvflare.apis.client import Client
from nvflare.apis.controller_spec import ClientTask, Task
from nvflare.apis.executor import Executor
from nvflare.apis.fl_context import FLContext
from nvflare.apis.impl.controller import Controller
from nvflare.apis.shareable import Shareable
from nvflare.apis.signal import Signal


class TinyController(Controller):
    """Broadcasts an empty task for some rounds and writes down who answered."""

    def __init__(self, rounds: int = 2) -> None:
        super().__init__()
        self.rounds = rounds

    def start_controller(self, fl_ctx: FLContext) -> None:
        """Nothing to prepare."""

    def stop_controller(self, fl_ctx: FLContext) -> None:
        """Nothing to clean up."""

    def process_result_of_unknown_task(
        self, client: Client, task_name: str, client_task_id: str, result: Shareable, fl_ctx: FLContext
    ) -> None:
        """No other task is ever sent."""

    def control_flow(self, abort_signal: Signal, fl_ctx: FLContext) -> None:
        """Run the rounds."""
        rounds = []
        for number in range(self.rounds):
            seen: dict[str, dict[str, str]] = {}

            def note(client_task: ClientTask, fl_ctx: FLContext, seen: dict = seen) -> None:
                answer = client_task.result["data_root"]
                seen[client_task.client.name] = {"status": "ok", "data_root": answer}

            task = Task(name="train", data=Shareable(), timeout=60, result_received_cb=note)
            self.broadcast_and_wait(task, fl_ctx=fl_ctx, min_responses=2, abort_signal=abort_signal)
            rounds.append({"round": number, "sites": seen})
            self.log_info(fl_ctx, f"round {number} answered by {sorted(seen)}")
        folder = fl_ctx.get_engine().get_workspace().get_run_dir(fl_ctx.get_job_id())
        result = {"completed": True, "rounds_planned": self.rounds, "rounds_done": len(rounds), "rounds": rounds}
        Path(folder, "result.json").write_text(json.dumps(result), encoding="utf-8")


class TinyExecutor(Executor):
    """Answers with the root of the site's data, which the site knows and the job does not."""

    def execute(self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        """Answer one task."""
        reply = Shareable()
        reply["data_root"] = os.environ.get("SITELORA_DATA", "")
        return reply
