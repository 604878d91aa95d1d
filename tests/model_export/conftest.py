"""What stands in `tests/support/small_exports.py`."""

from small_exports import exports, runs, small_run

__all__ = ["exports", "runs", "small_run"]
