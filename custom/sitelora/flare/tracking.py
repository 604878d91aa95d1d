"""A run's numbers by round and site in TensorBoard or MLflow, through NVFlare's own receivers of them.

They are the numbers that the server has of every round anyway, so no site sends anything for it and no job names a
further class: it says which kind, and nothing else. Where an MLflow server is, the federation's server says itself, by
``MLFLOW_TRACKING_URI``; without it the numbers are a file beside the job's logs, as TensorBoard's are, and are
downloaded with them. Numbers that cannot be kept end no run.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from importlib import import_module

from nvflare.apis.analytix import AnalyticsDataType
from nvflare.apis.event_type import EventType
from nvflare.apis.fl_context import FLContext
from nvflare.apis.utils.analytix_utils import create_analytic_dxo
from nvflare.app_common.widgets.streaming import AnalyticsReceiver

from sitelora.federation.coordinator import FederationError
from sitelora.federation.job import NO_TRACKING
from sitelora.run_result import Round

TENSORBOARD, MLFLOW = "tensorboard", "mlflow"
_RECEIVERS: Mapping[str, tuple[str, str]] = {
    TENSORBOARD: ("nvflare.app_opt.tracking.tb.tb_receiver", "TBAnalyticsReceiver"),
    MLFLOW: ("nvflare.app_opt.tracking.mlflow.mlflow_receiver", "MLflowReceiver"),
}

logger = logging.getLogger(__name__)


class Tracking:
    """Hands the numbers of finished rounds to a receiver of NVFlare's; to nobody where a job asks for none.

    Args:
        kind: one of ``job.TRACKINGS``. fl_ctx: of the server's job.

    Raises:
        FederationError: the package that the kind needs is not installed here.
    """

    def __init__(self, kind: str, fl_ctx: FLContext) -> None:
        self._receiver: AnalyticsReceiver | None = None
        if kind == NO_TRACKING:
            return
        module, name = _RECEIVERS[kind]
        try:
            made = getattr(import_module(module), name)
        except ImportError as error:
            raise FederationError(
                f"nothing was trained: tracking is {kind!r} and the server has no package {error.name}: "
                f"pip install {kind} there, or submit the job without tracking"
            ) from error
        self._receiver = made(tracking_uri=os.environ.get("MLFLOW_TRACKING_URI")) if kind == MLFLOW else made()
        self._receiver.handle_event(EventType.START_RUN, fl_ctx)

    def note(self, done: Round, fl_ctx: FLContext) -> None:
        """Hand over what the sites' updates of a round that were taken say."""
        for site, entry in done.sites.items() if self._receiver is not None else ():
            for name, value in sorted(entry.metrics.items()):
                if value is not None:
                    self._save(site, name, value, done.number, fl_ctx)

    def end(self, fl_ctx: FLContext) -> None:
        """Let the receiver write what it holds."""
        if self._receiver is not None:
            self._receiver.handle_event(EventType.END_RUN, fl_ctx)

    def _save(self, site: str, name: str, value: float, number: int, fl_ctx: FLContext) -> None:
        assert self._receiver is not None
        dxo = create_analytic_dxo(name, value, AnalyticsDataType.SCALAR, global_step=number + 1)
        try:
            self._receiver.save(fl_ctx=fl_ctx, shareable=dxo.to_shareable(), record_origin=site)
        except Exception as error:
            logger.warning("round %d: %s of %s is not kept for tracking: %r", number + 1, name, site, error)
