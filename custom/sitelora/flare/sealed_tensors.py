"""Tensors through NVFlare in a process without torch: they pass as the bytes that they travel as.

NVFlare's own `TensorDecomposer` sends tensors as safetensors and knows them by the name of their class. This one reads
and writes the same bytes under the same name, so the other end cannot tell them apart. It is registered in its place in
processes of the simulator that hand their task to the run's worker, and in which nothing has imported torch: whoever
wants to look into a tensor there, such as a filter, has imported it, and gets tensors.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any

from nvflare.fuel.f3.streaming.cacheable import CacheableObject, ItemConsumer
from nvflare.fuel.f3.streaming.download_service import Downloadable, download_object
from nvflare.fuel.utils import fobs
from nvflare.fuel.utils.fobs import dots
from nvflare.fuel.utils.fobs.decomposers.via_downloader import ViaDownloaderDecomposer

from sitelora.sharing.sealed import Sealed, pack, unpack

_CHUNK = 2 * 1024 * 1024
"""Bytes, as NVFlare's own."""
_ASKED_AGAIN = ("NVFLARE_TENSOR_STREAMING_PER_REQUEST_TIMEOUT", "60")
"""How long NVFlare waits for a piece of a message before it asks for it again, in seconds, unless the machine's people
have said otherwise. Its default is 600: a process short of memory, or a network that was cut, loses a piece, and a run
stood still for ten minutes. A piece is 2 MB at most, which 35 kB/s bring in that time, and it is asked for four times.
"""


class PassedTensor(Sealed):
    """A sealed tensor that NVFlare takes for one of torch."""


PassedTensor.__module__, PassedTensor.__qualname__ = "torch", "Tensor"  # by which NVFlare names what it sends


def register_tensors(*, only_passed_on: bool) -> bool:
    """Let tensors travel through NVFlare from now on, and say whether they are only passed on.

    A lost piece is asked for again after a minute.

    Args:
        only_passed_on: nothing of ours in this process looks into one.
    """
    os.environ.setdefault(*_ASKED_AGAIN)
    if only_passed_on and "torch" not in sys.modules:
        fobs.register(PassedTensorDecomposer)
        return True
    from nvflare.app_opt.pt.decomposers import TensorDecomposer

    fobs.register(TensorDecomposer)
    return False


def passed(tensors: Mapping[str, Sealed]) -> dict[str, PassedTensor]:
    """Return sealed tensors as NVFlare takes them."""
    return {name: PassedTensor(one.dtype, one.shape, one.data) for name, one in tensors.items()}


class PassedTensorDecomposer(ViaDownloaderDecomposer):
    """Reads and writes what ``nvflare.app_opt.pt.decomposers.TensorDecomposer`` writes and reads."""

    def __init__(self) -> None:
        super().__init__(_CHUNK, "tensor_")

    def supported_type(self) -> type:
        """Return the class that goes by torch's name."""
        return PassedTensor

    def get_download_dot(self) -> int:
        """Return the mark of tensors that are fetched."""
        return int(dots.TENSOR_DOWNLOAD)

    def to_downloadable(self, items: dict[str, Sealed], max_chunk_size: int, fobs_ctx: dict[str, Any]) -> Downloadable:
        """Return what the other end fetches from."""
        return _Offered(items, max_chunk_size)

    def download(
        self,
        from_fqcn: str,
        ref_id: str,
        per_request_timeout: float,
        cell: Any,
        secure: bool = False,
        optional: bool = False,
        abort_signal: Any = None,
        progress_cb: Any = None,
    ) -> tuple[str, dict[str, PassedTensor]]:
        """Fetch what the other end offers; return what went wrong, and the tensors."""
        taker = _Taker()
        download_object(
            from_fqcn=from_fqcn,
            ref_id=ref_id,
            consumer=taker,
            per_request_timeout=per_request_timeout,
            cell=cell,
            secure=secure,
            optional=optional,
            abort_signal=abort_signal,
            progress_cb=progress_cb,
        )
        return taker.error, taker.result

    def native_decompose(self, target: Sealed, manager: Any = None) -> bytes:
        """Return one tensor's bytes."""
        return pack({"t": target})

    def native_recompose(self, data: bytes, manager: Any = None) -> PassedTensor:
        """Undo ``native_decompose``."""
        return passed(unpack(data))["t"]


class _Offered(CacheableObject):
    """Tensors by name, a chunk each."""

    def __init__(self, items: dict[str, Sealed], max_chunk_size: int) -> None:
        self._names = list(items)
        super().__init__(items, max_chunk_size)

    def get_item_count(self) -> int:
        return len(self._names)

    def produce_item(self, index: int) -> bytes:
        name = self._names[index]
        return pack({name: self.base_obj[name]})


class _Taker(ItemConsumer):
    """Gathers the chunks."""

    def consume_items(self, items: list[Any], result: Any) -> Any:
        result = {} if result is None else result
        for item in items:
            result.update(passed(unpack(bytes(item))))
        return result
