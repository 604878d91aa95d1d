"""Every kind of hostile answer that the suite tries, by what it is: tensors, reports, envelopes, and answers to begin.

An honest answer goes in, a hostile one comes out. What an NVFlare message can carry after it has been read is tried as
well as what only a faulty program could hand over.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

Packet = dict[Any, Any]
Report = dict[Any, Any]
NAME = "head.w"
"""The tensor that most attacks on one tensor go for."""


class Raising:
    """An object that fails at whatever is asked of it."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError("no")

    def __len__(self) -> int:
        raise RuntimeError("no")

    def __iter__(self) -> Any:
        raise RuntimeError("no")

    def __repr__(self) -> str:
        raise RuntimeError("no")


class RaisingTable(dict):  # type: ignore[type-arg]
    """A dictionary that fails when it is looked through."""

    def __iter__(self) -> Any:
        raise RuntimeError("no")

    def items(self) -> Any:
        raise RuntimeError("no")


class Lying(Tensor):
    """A tensor that says of itself that all is well."""

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return super().__torch_function__(function, types, args, kwargs or {})


def deep(levels: int) -> Any:
    value: Any = 1.0
    for _ in range(levels):
        value = {"loss": value}
    return value


def each(change: Callable[[Tensor], Any]) -> Callable[[Packet], Packet]:
    """Change every tensor."""
    return lambda packet: {name: change(tensor) for name, tensor in packet.items()}


def one(change: Callable[[Tensor], Any]) -> Callable[[Packet], Packet]:
    """Change one tensor."""
    return lambda packet: {**packet, NAME: change(packet[NAME])}


def with_first(value: float) -> Callable[[Tensor], Tensor]:
    def change(tensor: Tensor) -> Tensor:
        broken = tensor.clone()
        broken.view(-1)[0] = value
        return broken

    return change


def leaked(tensor: Tensor) -> Tensor:
    """The tensor as `torch.vmap` shows it inside of a mapped function, kept beyond its end."""
    found: list[Tensor] = []

    def keep(inner: Tensor) -> Tensor:
        found.append(inner)
        return inner

    torch.vmap(keep)(tensor[None])
    return found[0]


def quantised(tensor: Tensor) -> Tensor:
    return torch.quantize_per_tensor(tensor.float(), 0.1, 0, torch.qint8)


def far(tensor: Tensor) -> Tensor:
    """The same values as a view of a large storage."""
    store = torch.zeros(1 << 20, dtype=tensor.dtype)
    store[: tensor.numel()] = tensor.flatten()
    return store[: tensor.numel()].view(tensor.shape)


def strided(tensor: Tensor) -> Tensor:
    """The same values, every other place of a larger storage."""
    store = torch.zeros((*tensor.shape, 2), dtype=tensor.dtype)
    store[..., 0] = tensor
    return store[..., 0]


def renamed(new: Any) -> Callable[[Packet], Packet]:
    return lambda packet: {new if name == NAME else name: tensor for name, tensor in packet.items()}


def beside(name: Any, tensor: Any = None) -> Callable[[Packet], Packet]:
    return lambda packet: {**packet, name: packet[NAME] if tensor is None else tensor}


TENSORS: Mapping[str, Callable[[Packet], Any]] = {
    "one NaN": one(with_first(math.nan)),
    "all NaN": each(lambda t: t * math.nan),
    "one infinity": one(with_first(math.inf)),
    "all minus infinity": each(lambda t: torch.full_like(t, -math.inf)),
    "finite 1e30": each(lambda t: torch.full_like(t, 1e30)),
    "one value of 1e30": one(with_first(1e30)),
    "the largest bf16": each(lambda t: torch.full_like(t, torch.finfo(torch.bfloat16).max)),
    "x 1000": each(lambda t: t * 1000),
    "x -100": each(lambda t: t * -100),
    "x -10, flipped signs": each(lambda t: t * -10),
    "x 10": each(lambda t: t * 10),
    "constant 1e6": each(lambda t: torch.full_like(t, 1e6)),
    "constant 10": each(lambda t: torch.full_like(t, 10)),
    "noise of norm 1e4": each(lambda t: torch.linspace(-3e3, 3e3, t.numel()).view(t.shape).to(t.dtype)),
    "all zero": each(torch.zeros_like),
    "tiny, 1e-30": each(lambda t: t * 1e-30),
    "subnormal": each(lambda t: torch.full_like(t, 1e-40)),
    "float32": one(Tensor.float),
    "float64": one(Tensor.double),
    "float16": one(Tensor.half),
    "float8": one(lambda t: t.to(torch.float8_e4m3fn)),
    "int8": one(lambda t: t.to(torch.int8)),
    "int64": one(lambda t: t.to(torch.int64)),
    "bool": one(lambda t: t > 0),
    "complex": one(lambda t: t.to(torch.complex64)),
    "quantised": one(quantised),
    "longer": one(lambda t: torch.cat([t, t])),
    "shorter": one(lambda t: t[:1].clone()),
    "one number": one(lambda t: t.sum()),
    "empty": one(lambda t: t[:0].clone()),
    "another axis": one(lambda t: t[None].clone()),
    "turned factor": lambda packet: {**packet, "enc.lora.q.A": packet["enc.lora.q.A"].T.contiguous()},
    "a rank more": lambda packet: {**packet, "enc.lora.q.A": torch.cat([packet["enc.lora.q.A"]] * 2)},
    "one missing": lambda packet: {name: tensor for name, tensor in packet.items() if name != NAME},
    "no tensor": lambda packet: {},
    "one too many": beside("neck.w"),
    "a picture under another name": beside("image", torch.zeros(512, 512, dtype=torch.bfloat16)),
    "another method's layout": lambda packet: {n.replace("lora.q", "lora.global.q"): t for n, t in packet.items()},
    "a local tensor of another method": beside("enc.lora.local.q.A"),
    "a companion that there is none of": beside("@control/head.w"),
    "a base delta": beside("@delta/0/enc.lora.q.A"),
    "a codec's scale": beside("head.w.scale"),
    "only an at sign": beside("@"),
    "a name that is a path": beside("../../server/state"),
    "a name of a million characters": beside("w" * 1_000_000),
    "a name that looks the same": renamed("heаd.w"),
    "a name in capitals": renamed("HEAD.W"),
    "a name that is a number": renamed(7),
    "a name that is none": renamed(None),
    "sparse": one(Tensor.to_sparse),
    "sparse by rows": lambda packet: {**packet, "enc.lora.q.A": packet["enc.lora.q.A"].to_sparse_csr()},
    "on no device": one(lambda t: torch.empty_like(t, device="meta")),
    "nested": one(lambda t: torch.nested.nested_tensor([t])),
    "batched": one(leaked),
    "a view of a large storage": one(far),
    "a view with strides": one(strided),
    "one value shown many times": one(lambda t: t[:1].expand(t.shape)),
    "with a gradient": one(lambda t: t.clone().requires_grad_()),
    "a parameter": one(torch.nn.Parameter),
    "a subclass": one(lambda t: t.as_subclass(Lying)),
    "an array": one(lambda t: t.float().numpy()),
    "a list": one(lambda t: t.float().tolist()),
    "a number": one(lambda t: 1.0),
    "None": one(lambda t: None),
    "bytes": one(lambda t: b"\x00" * 6),
    "an object that raises": one(lambda t: Raising()),
    "an array of objects": one(lambda t: np.array([Raising], dtype=object)),
}
"""What a packet may be, in a round, beside a good report."""


def said(**changes: Any) -> Callable[[Report], Report]:
    return lambda report: {**report, **changes}


def metric(value: Any, key: Any = "loss") -> Callable[[Report], Report]:
    return lambda report: {**report, "metrics": {key: value}}


def without(key: str) -> Callable[[Report], Report]:
    return lambda report: {name: value for name, value in report.items() if name != key}


REPORTS: Mapping[str, Callable[[Report], Any]] = {
    "no cases": said(cases=0),
    "negative cases": said(cases=-4),
    "cases true": said(cases=True),
    "cases as a text": said(cases="4"),
    "cases as a fraction": said(cases=4.5),
    "cases as a float": said(cases=4.0),
    "cases NaN": said(cases=math.nan),
    "cases none": said(cases=None),
    "cases as a list": said(cases=[4]),
    "a billion cases": said(cases=10**9),
    "cases of 400 digits": said(cases=10**400),
    "one case more than at begin": said(cases=5),
    "no count": without("cases"),
    "no metrics": without("metrics"),
    "no seconds": without("seconds"),
    "no hash": without("state_hmac"),
    "nothing": lambda report: {},
    "negative seconds": said(seconds=-1.0),
    "seconds infinite": said(seconds=math.inf),
    "metrics as a list": said(metrics=[0.5]),
    "metrics as a text": said(metrics="0.5"),
    "metrics none": said(metrics=None),
    "an unknown metric": metric(1.0, "accuracy"),
    "a metric with a number for a name": metric(1.0, 7),
    "a metric NaN": metric(math.nan),
    "a metric infinite": metric(math.inf),
    "a metric of 1e300": metric(1e300),
    "a metric as a text": metric("0.5"),
    "a metric true": metric(True),
    "a metric of 1.4 MB": metric("a" * 1_400_000),
    "a metric 3000 levels deep": metric(deep(3000)),
    "a metric that is a tensor": metric(torch.ones(1)),
    "a metric that raises": metric(Raising()),
    "a score of 5": metric(5.0, "score_received"),
    "a negative score": metric(-0.5, "score_personal"),
    "negative steps": metric(-1.0, "steps"),
    "a patient's name": said(patient="x"),
    "a key that is a number": lambda report: {**report, 7: 7},
    "a key of a megabyte": lambda report: {**report, "k" * 1_000_000: 1},
    "a hash that is none": said(state_hmac="e" * 63),
    "a hash in capitals": said(state_hmac="E" * 64),
    "a hash that is a number": said(state_hmac=7),
    "resent as a text": said(resent="yes"),
    "a table that raises": lambda report: RaisingTable(report),
}
"""What a report of a round may be, beside a good packet."""

Envelope = Callable[[dict[str, Any], Packet], tuple[Any, Any]]


def meta(**changes: Any) -> Envelope:
    return lambda told, packet: ({**told, **changes}, packet)


ENVELOPES: Mapping[str, Envelope] = {
    "the next round": lambda told, packet: ({**told, "round": told["round"] + 1}, packet),
    "the round before": lambda told, packet: ({**told, "round": told["round"] - 1}, packet),
    "round true": meta(round=True),
    "round as a text": meta(round="1"),
    "round -7": meta(round=-7),
    "round none": meta(round=None),
    "another uid": meta(uid="v"),
    "a uid that is a path": meta(uid="../u"),
    "another federation": meta(federation="g"),
    "no federation": lambda told, packet: ({k: v for k, v in told.items() if k != "federation"}, packet),
    "no meta": lambda told, packet: ({}, packet),
    "no report": lambda told, packet: ({k: v for k, v in told.items() if k != "report"}, packet),
    "a report that is a list": meta(report=[1]),
    "a report that is a text": meta(report="ok"),
    "a packet that is none": lambda told, packet: (told, None),
    "a packet that is a list": lambda told, packet: (told, [1]),
    "an error that is on no list": meta(error="Miller, John"),
    "an error that is an object": meta(error=Raising()),
    "an error of a megabyte": meta(error="e" * 1_000_000),
}
"""What goes around a good packet and a good report."""


def initial(change: Callable[[Packet], Any]) -> Callable[[Packet, Report], tuple[Any, Any]]:
    return lambda packet, report: (change(packet), report)


def begun(**changes: Any) -> Callable[[Packet, Report], tuple[Any, Any]]:
    return lambda packet, report: (packet, {**report, **changes})


def begun_without(key: str) -> Callable[[Packet, Report], tuple[Any, Any]]:
    return lambda packet, report: (packet, {name: value for name, value in report.items() if name != key})


def counts(**cases: Any) -> Callable[[Packet, Report], tuple[Any, Any]]:
    return lambda packet, report: (packet, {**report, "cases": {**report["cases"], **cases}})


BEGIN: Mapping[str, Callable[[Packet, Report], Any]] = {
    "silence": lambda packet, report: None,
    "no report": lambda packet, report: (packet, {}),
    "a report that is a list": lambda packet, report: (packet, [report]),
    "a report that is none": lambda packet, report: (packet, None),
    "a table that raises": lambda packet, report: (packet, RaisingTable(report)),
    **{f"no {key}": begun_without(key) for key in ("site", "cases", "labels", "version", "initial_sha256", "hardware")},
    "negative cases": counts(training=-1),
    "cases true": counts(training=True),
    "cases as a text": counts(training="4"),
    "cases of 400 digits": counts(training=10**400),
    "cases of another list": counts(secret=1),
    "labels as a list": begun(labels=["background"]),
    "labels of 1.4 MB": begun(labels={"1": "x" * 1_400_000}),
    "ten thousand labels": begun(labels={str(number): "x" for number in range(10_000)}),
    "other labels": begun(labels={"0": "background", "1": "kidney"}),
    "a hospital of 1.4 MB": begun(hospital="x" * 1_400_000),
    "a hospital over two lines": begun(hospital="a\nb"),
    "an object for a processor": begun(hardware={"cores": object()}),
    "an object that raises": begun(hardware={"cores": Raising()}),
    "versions 3000 levels deep": begun(versions=deep(3000)),
    "an unknown key": begun(patients=["x"]),
    "another version": begun(version="0.0"),
    "another bundle": begun(bundle_sha256="d" * 64),
    "another base": begun(base_sha256="d" * 64),
    "a hash that is none": begun(base_sha256="d"),
    "another seed": begun(seed=7),
    "seed true": begun(seed=True),
    "initial tensors with NaN": initial(TENSORS["one NaN"]),
    "initial tensors of other values": initial(TENSORS["x 10"]),
    "initial tensors with one missing": initial(TENSORS["one missing"]),
    "initial tensors with one too many": initial(TENSORS["one too many"]),
    "initial tensors in fp32": initial(TENSORS["float32"]),
    "initial tensors, sparse": initial(TENSORS["sparse"]),
    "initial tensors on no device": initial(TENSORS["on no device"]),
    "initial tensors, nested": initial(TENSORS["nested"]),
    "initial tensors, batched": initial(TENSORS["batched"]),
    "initial tensors as a list": initial(TENSORS["a list"]),
    "initial tensors that raise": initial(TENSORS["an object that raises"]),
}
"""What an answer to begin may be; None is silence."""
