"""The encoder's blocks compiled by `torch.compile`, in training: a setting (``compile``) that changes speed alone.

The blocks of a transformer are one shape, so what is compiled for one serves all that are alike. They are compiled in
place, once the adapters are in: no module is wrapped, so every name stays. Only passes with a gradient are compiled;
scores come from the very operations that they come from without the setting. Every shape gets code of its own
(``dynamic=False``): what runs depends on the shape and not on which came before, so a round done twice has equal bits.
``benchmarks/compile.py`` says after how many steps that pays.

``torch.compile`` is imported by who asks for it and by nobody else.
"""

from __future__ import annotations

import copy
import logging
import shutil
import types
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

BACKEND = "inductor"
MOST_VARIANTS = 64
"""Kinds of blocks times shapes that are compiled for one network before it runs as it is (torch's own bound is 8)."""
NEAR, NEAR_BF16 = 1e-3, 0.1
"""By what share of its largest value a block's output may differ, compiled from not, at first (our choice)."""
REMEDY = 'or set "compile" to false in the job or in the "settings" of the site\'s local/sitelora.json'

logger = logging.getLogger(__name__)

Given = TypeVar("Given")
Done = TypeVar("Done")


def require_compiler(device: torch.device) -> None:
    """Refuse to compile where no compiler is, before anything is built or trained.

    Raises:
        ValueError: says what was looked for and what to do.
    """
    if device.type == "cpu":
        from torch._inductor.cpp_builder import get_cpp_compiler

        try:
            get_cpp_compiler()
        except Exception as error:  # of inductor's own kinds
            raise ValueError(
                f"found compile=true and no C++ compiler, expected g++ (or what $CXX names) for {device}: install one "
                f"(apt-get install g++), {REMEDY}"
            ) from error
        return
    from torch.utils._triton import has_triton

    compiler = shutil.which("gcc") or shutil.which("cc") or shutil.which("clang")
    if not has_triton() or compiler is None:
        missing = "no C compiler (gcc), which triton starts kernels with" if compiler is None else "no triton"
        raise ValueError(f"found compile=true and {missing}, for device {device}: install it, {REMEDY}")


def compile_blocks(network: nn.Module, blocks: Sequence[nn.Module]) -> nn.Module:
    """Let blocks of a network run compiled in training; where one cannot be, all run as they are.

    Args:
        network: adapted, on its device and in its precision. blocks: of its encoder.

    Returns:
        The same network; its ``compiled`` attribute holds what decides.

    Raises:
        ValueError: there is no compiler.
    """
    require_compiler(next(network.parameters()).device)
    network.compiled = _Compiled(blocks)  # type: ignore[assignment]
    return network


def hold_back(network: nn.Module, why: str) -> Callable[[], None]:
    """Run a network's blocks as they are from now on; return what ends that."""
    compiled = getattr(network, "compiled", None)
    return compiled.hold_back(why) if isinstance(compiled, _Compiled) else lambda: None


def done_alike(network: nn.Module, do: Callable[[Given], Done], given: Given) -> Done:
    """Do a piece of training, compiled where the network is; whatever torch says on the way, all of it is done alike.

    Where a block cannot be compiled after all, everything is done once more from what was given, uncompiled from its
    first step on, so that equal rounds have equal bits whenever that is found out.

    Args:
        do: the work; it may change what it is given.
    """
    compiled = getattr(network, "compiled", None)
    if not isinstance(compiled, _Compiled) or compiled.fell_back:
        return do(given)
    kept = copy.deepcopy(given)
    try:
        done = do(given)
    except compiled.errors as error:  # of a backward pass, which torch compiles when it comes to it
        compiled.fall_back(error)
    return do(kept) if compiled.fell_back else done


class _Compiled:
    """Decides for the blocks of one network whether a call of one is compiled.

    Attributes:
        fell_back: whether one could not be, so that none is any more. errors: by which torch says that.
    """

    def __init__(self, blocks: Sequence[nn.Module]) -> None:
        from torch._dynamo import config, exc

        config.recompile_limit = max(config.recompile_limit, MOST_VARIANTS)
        self.errors: tuple[type[Exception], ...] = (exc.TorchDynamoException, _Differs)
        self.fell_back = False
        self._held = 0
        self._said: set[str] = set()
        runs: dict[tuple[object, ...], Callable[..., Any]] = {}
        for block in blocks:
            made = _make_of(block)
            if made not in runs:
                runs[made] = _fresh_run()
            block._compiled_call_impl = self._call_of(block, runs[made])

    def fall_back(self, error: BaseException) -> None:
        """Compile nothing any more."""
        self.fell_back = True
        self.hold_back(f"torch.compile cannot take one of them ({str(error).strip().partition(chr(10))[0]:.200})")

    def hold_back(self, why: str) -> Callable[[], None]:
        """Compile nothing until what this returns is called."""
        if why not in self._said:
            self._said.add(why)
            logger.warning("the encoder's blocks run uncompiled: %s", why)
        self._held += 1
        done = False

        def stop() -> None:
            nonlocal done
            self._held -= not done
            done = True

        return stop

    def _call_of(self, block: nn.Module, run: Callable[..., Any]) -> Callable[..., Any]:
        compared = False

        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal compared
            if self._held or not torch.is_grad_enabled():
                return block._call_impl(*args, **kwargs)
            try:
                out = run(block, *args, **kwargs)
                if not compared:
                    _require_near(out, lambda: block._call_impl(*args, **kwargs))
                    compared = True
                return out
            except self.errors as error:
                self.fall_back(error)
                return block._call_impl(*args, **kwargs)

        return call


class _Differs(RuntimeError):
    """What is compiled gives other values than what is not."""


def _require_near(found: Tensor, uncompiled: Callable[[], Tensor]) -> None:
    """Refuse compiled code that computes something else: a stranger's adapter may do what torch does not follow.

    What draws random numbers (MA-SAM's dropout) is refused too: compiled it draws others.
    """
    cards = [found.device] if found.device.type == "cuda" else []
    with torch.no_grad(), torch.random.fork_rng(devices=cards):
        expected = uncompiled()
        if not torch.equal(expected, uncompiled()):
            raise _Differs("it draws random numbers, and compiled it would draw others")
    worst, largest = float((found.detach() - expected).abs().max()), float(expected.abs().max())
    rounded = expected.dtype == torch.bfloat16 or torch.is_autocast_enabled(expected.device.type)
    if not worst <= (NEAR_BF16 if rounded else NEAR) * max(1.0, largest):
        raise _Differs(f"compiled it gives other values, by {worst:.2g} of {largest:.2g}")


def _run(block: nn.Module, *args: Any, **kwargs: Any) -> Any:
    return block._call_impl(*args, **kwargs)


def _fresh_run() -> Callable[..., Any]:
    """Return a compiled `_run` that shares nothing with another one.

    torch keeps what it has compiled by code object, and looks at no hook when it decides whether that fits a module. So
    blocks with other adapters, which are hooks, get a code object of their own.
    """
    run = types.FunctionType(_run.__code__.replace(), _run.__globals__, "run_block")
    compiled: Callable[..., Any] = torch.compile(run, backend=BACKEND, dynamic=False, fullgraph=True)
    return compiled


def _make_of(block: nn.Module) -> tuple[object, ...]:
    """Return what two blocks have in common for which one compiled code is right: modules, hooks and tensors."""
    names = {module: name for name, module in block.named_modules()}
    return tuple(
        (
            name,
            type(module),
            *(
                (names.get(getattr(hook, "__self__", None)), getattr(hook, "__qualname__", repr(hook)))
                for hook in (*module._forward_pre_hooks.values(), *module._forward_hooks.values())
            ),
            *((key, one.shape, one.dtype, one.requires_grad) for key, one in module.named_parameters(recurse=False)),
        )
        for name, module in block.named_modules()
    )
