"""One file per task: its value ``TASK`` (`sitelora.task.Task`) says all that a network's answers are judged by."""
