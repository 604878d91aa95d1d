"""What a site reports beside tensors, once for both ends: at begin, after a round and after the evaluation.

A key that is not here does not leave a site, so a new number of a round is one more line in ``METRICS``.
"""

from __future__ import annotations

import hashlib
import hmac

from sitelora.data.site_entries import LONGEST_HOSPITAL, LONGEST_LABEL
from sitelora.federation.served import KINDS
from sitelora.federation.ticket import MOST_ROUNDS
from sitelora.sharing.schema import HEX, Either, Flag, Number, Row, Schema, Table, Text

COUNT = Number(lowest=0, highest=10**12, whole=True)
SECONDS = Number(lowest=0, highest=10**8)
CASES = Table(of=COUNT, keys=("training", "validation", "test"), complete=True)
METRICS = (
    *("loss", "steps", "score_received", "score_personal", "score_served"),
    *("regularizer_share", "regularizer_share_unbounded", "gradient_norm", "clipped_steps"),
)
"""Numbers of a round at a site."""
COUNTS = frozenset(("steps", "gradient_norm", "clipped_steps"))
"""Those of ``METRICS`` that are never below 0."""
LABELS = 256
"""Largest number of labels: what settings allow as classes and a background beside them."""
SCORED = 4 * LABELS * 5
"""Largest number of columns of an evaluation: kinds of model times labels times numbers of a case."""
MOST_CASES = 100_000
OWN = ("device", "precision", "batch_size", "torch_threads", "num_workers", "val_interval", "validate_every")
"""Values that a site may set for itself and that leave it; ``base`` may be a path, and does not."""
MOST_NUMBERS = 10_000_000

BEGIN = Schema(
    required={
        "site": Text(longest=63),
        "hospital": Text(longest=LONGEST_HOSPITAL),
        "labels": Table(of=Text(longest=LONGEST_LABEL), pattern=r"\d{1,5}", most=LABELS),
        "cases": CASES,
        "version": Text(longest=40),
        "bundle_sha256": HEX,
        "base_sha256": Text(longest=64, pattern="[0-9a-f]{64}", or_none=True),
        "initial_sha256": HEX,
        "image_size": COUNT,
        "base": Text(longest=100),
        "local_count": COUNT,
        "local_values": COUNT,
        "frozen_count": COUNT,
        "model_values": COUNT,
        "seed": Number(whole=True),
        "hardware": Table(
            of=Either((COUNT, Text(longest=100))),
            keys=("machine", "processor", "instructions", "cores", "torch_threads", "gpu"),
        ),
        "versions": Table(of=Text(longest=60), pattern=r"[a-z0-9_.-]{1,40}"),
    },
    optional={
        "settings_sha256": HEX,
        "data_hmac": HEX,
        "last_round": Number(lowest=0, highest=MOST_ROUNDS, whole=True, or_none=True),
        "own_settings": Table(of=Either((COUNT, Text(longest=40, pattern=r"[a-z][a-z0-9_:]*"))), keys=OWN),
        "agreed": Table(of=Text(longest=16, pattern="[0-9a-f]{16}"), pattern=r"[\w.#-]{1,100}", most=200),
    },
)
TRAINED = Schema(
    required={
        "cases": Number(lowest=1, highest=10**9, whole=True),
        "metrics": Table(of=Number(), keys=METRICS),
        "seconds": SECONDS,
        "state_hmac": HEX,
    },
    optional={"resent": Flag()},
)
SCORES = Schema(
    required={
        "columns": Row(of=Text(longest=80, pattern=r"[a-z]{1,20}\.\d{1,5}\.[a-z0-9_]{1,40}"), longest=SCORED),
        "patients": Row(of=Number(lowest=1, highest=MOST_CASES, whole=True), longest=MOST_CASES),
        "scores": Row(of=Number(or_none=True), longest=MOST_NUMBERS),
        "not_applicable": Table(of=Text(), pattern="[a-z]{1,20}", most=8),
        "seconds": SECONDS,
    },
    optional={
        "decisions": Table(of=Text(), pattern="[a-z]{1,20}", most=8),
        "served": Table(
            of=Either((Number(or_none=True), Text(longest=80))),
            keys=("model", "round", "validation", *(f"validation_{kind}" for kind in KINDS), "why"),
        ),
    },
)


def state_hmac(secret: bytes, state_sha256: str, **context: object) -> str:
    """Return what leaves a site of the hash of its trained state.

    Training is exact and its seeds are public, so whoever holds the right images could reproduce the plain hash and
    learn that they were trained on; under the site's secret only the site itself can tell.
    """
    parts = ("state", *(str(context[key]) for key in sorted(context)), state_sha256)
    return hmac.new(secret, "\x1f".join(parts).encode(), hashlib.sha256).hexdigest()
