"""What a site's answer must be when it arrives at the server: tensors by layout, reports by schema, both exactly."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from sitelora.evaluation.anonymise_scores import from_columns
from sitelora.federation.reports import BEGIN, COUNTS, SCORES, TRAINED
from sitelora.method import Method
from sitelora.run_result import ModelScore
from sitelora.server.types import Update
from sitelora.sharing.codecs import codecs_up, decode, initial_codecs
from sitelora.sharing.layout import Form, layout_of, plain_shape, readable_name, with_companions
from sitelora.sharing.schema import SchemaError
from sitelora.sharing.wire import Packet, PacketError, WireFormat
from sitelora.task import Task
from sitelora.typed_json import from_json

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Arrivals:
    """Reads what sites send, for one method, task and wire format.

    Args:
        method, task: of the federation. wire: how values travel.
    """

    method: Method
    task: Task
    wire: WireFormat

    def begin(self, site: str, report: Mapping[str, Any]) -> dict[str, Any]:
        """Return what a site says of itself before the first round.

        Raises:
            SchemaError, PacketError: the report is none.
        """
        with _readable(site):
            said = BEGIN.read(report, sender=site)
        if said["site"] != site:
            raise SchemaError(f"{site}: its report: site: found {said['site']!r}, expected {site!r}")
        return said

    def initial(self, site: str, packet: Packet) -> dict[str, Tensor]:
        """Return a site's initial tensors, of any names and shapes that the share rule shares.

        Raises:
            PacketError: something else.
        """
        with _readable(site):
            layout = {name: Form(plain_shape(tensor)) for name, tensor in packet.items()}
            values = decode(packet, initial_codecs(self.wire), layout, sender=site)
        strangers = [name for name in sorted(values) if not self.method.share.is_shared(name)]
        if strangers:
            raise PacketError(
                f"{site} sent {readable_name(strangers[0])}, which the share rule of {self.method.name} does not "
                "share; the server and the site have different bundles installed"
            )
        return values

    def update(
        self,
        site: str,
        packet: Packet,
        report: Mapping[str, Any],
        *,
        round_number: int,
        sent_to_it: Mapping[str, Tensor],
        began: Mapping[str, Any],
    ) -> tuple[Update, dict[str, Any]]:
        """Return a site's update and its report.

        Args:
            site, packet, report: as they came. round_number: that they belong to.
            sent_to_it: fp32 values of its message, the server's own unrounded copy, to which the difference is added.
            began: what the site reported at begin.

        Raises:
            PacketError, SchemaError: it is not what the method declares for this round.
        """
        with _readable(site):
            said = TRAINED.read(report, sender=site)
        self._judge_scores(site, said["metrics"])
        if said["cases"] != began["cases"]["training"]:
            raise SchemaError(
                f"{site}: reports {said['cases']} training cases, said {began['cases']['training']} at begin"
            )
        values = self.method.ranks.kept(sent_to_it, site)
        base = {name: values[name] for name in self.method.sent_in(round_number, tuple(sorted(values)))}
        layout = with_companions(layout_of(base), self.method.program.companions)
        with _readable(site):
            change = decode(packet, codecs_up(self.method.ranks, self.wire, site), layout, sender=site)
        update = Update(
            values={name: base[name] + change[name] for name in base},
            received=base,
            companions={name[1:]: change[name] for name in change if name.startswith("@")},
            cases=said["cases"],
            metrics=said["metrics"],
        )
        return update, said

    def scores(self, site: str, report: Mapping[str, Any], *, began: Mapping[str, Any]) -> dict[str, ModelScore]:
        """Return a site's evaluation, by model kind.

        Raises:
            SchemaError: the report is none.
        """
        with _readable(site):
            said = SCORES.read(report, sender=site)
        if len(said["patients"]) != began["cases"]["test"]:
            found, expected = len(said["patients"]), began["cases"]["test"]
            raise SchemaError(f"{site}: its report: patients: found {found} cases, said {expected} at begin")
        try:
            told = from_columns(said, began["labels"], self.task)
            return {kind: from_json(ModelScore, score, kind) for kind, score in told.items()}
        except ValueError as error:
            raise SchemaError(f"{site}: its report: {error}") from error

    def _judge_scores(self, site: str, metrics: Mapping[str, float]) -> None:
        primary = self.task.primary
        for name, value in metrics.items():
            if name.startswith("score_") and not primary.can_be(value):
                raise SchemaError(
                    f"{site}: its report: metrics.{name}: found {value:g}, expected {primary.title} from "
                    f"{primary.lowest} to {primary.highest}"
                )
        for name in sorted(COUNTS & metrics.keys()):
            if metrics[name] < 0:
                raise SchemaError(f"{site}: its report: metrics.{name}: found {metrics[name]:g}, expected 0 or more")


@contextmanager
def _readable(site: str) -> Iterator[None]:
    """Name the site whatever a stranger's object does when it is looked at: none of it may end the run.

    Raises:
        PacketError: anything but the errors that already say whose they are.
    """
    try:
        yield
    except (PacketError, SchemaError):
        raise
    except Exception as error:
        logger.exception("%s: its answer cannot be read", site)
        raise PacketError(f"{site}: its answer cannot be read ({type(error).__name__})") from error
