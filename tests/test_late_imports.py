"""What a site's process imports before its first task, and that everything works which is imported later.

Each test looks at a process of its own: what this one has imported says nothing.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

HEAVY = (
    *("matplotlib", "mpl_toolkits", "pandas", "scipy.signal", "scipy.stats", "skimage", "sympy"),
    *("torch._dynamo", "torch._inductor", "torch.fx.experimental.symbolic_shapes", "torch.onnx"),
    *("torch.distributed.fsdp", "torch.distributed.optim", "torch.distributed.tensor", "torch.utils.tensorboard"),
)
"""Packages and modules of which nothing may be run; `torch.distributed` itself is imported by torch."""
AFTER = """
import json, sys
from sitelora import late_imports
run = [name for name, module in sys.modules.items() if type(module) is not late_imports._Late]
late = [name for name in sys.modules if name not in run]
print(json.dumps([sorted(run), sorted(late)]))
"""


def done(code: str, *, folder: Path | None = None) -> str:
    """Run code in a fresh process and return what it prints."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=folder)
    assert result.returncode == 0, result.stderr
    return result.stdout


def imported_after(code: str) -> tuple[list[str], list[str]]:
    """Return the modules that a process has run after the code, and those that wait."""
    run, late = json.loads(done(code + AFTER).splitlines()[-1])
    return run, late


def heavy(run: list[str]) -> list[str]:
    return [name for name in run if any(f"{name}.".startswith(f"{package}.") for package in HEAVY)]


def test_a_site_a_server_and_serving_run_nothing_heavy_before_it_is_used() -> None:
    run, late = imported_after("""
import sitelora.flare.executor, sitelora.flare.controller, sitelora.federation.site, sitelora.egress
import sitelora.serving.predict, sitelora.tasks.segmentation, sitelora.tasks.classification
from sitelora.networks.sam import SamSegmenter
SamSegmenter(arch="sam_tiny", image_size=32, base="embedded", classes=2)  # its class is new: some tensors are drawn
from sitelora.networks.vit.picture import PictureClassifier
PictureClassifier(arch="vit_tiny", image_size=32, base="embedded", classes=3)
""")
    assert heavy(run) == []
    assert {"torch", "monai", "ignite", "monai.data", "monai.bundle", "torch.optim"} <= set(run)
    assert {"matplotlib.pyplot", "scipy.signal", "skimage.measure", "torch.distributed.optim"} <= set(late)


def test_the_command_line_starts_without_torch() -> None:
    run, _ = imported_after("import sitelora.cli; sitelora.cli.parser()")
    assert not {"torch", "monai", "numpy", "nvflare", "matplotlib"} & set(run)


def test_as_a_library_nothing_is_late() -> None:
    run, late = imported_after("import sitelora.federation.site, monai")
    assert late == []
    assert {"matplotlib.pyplot", "scipy.signal", "torch.distributed.optim"} <= set(run)


USED = {
    "what looks at every module": """
import inspect
for module in list(sys.modules.values()):
    getattr(module, "__warningregistry__", None)
    inspect.ismodule(module) and getattr(module, "__file__", None)
assert type(sys.modules["scipy.signal"]).__name__ == "_Late"
import importlib.resources, importlib.util
assert importlib.util.find_spec("skimage.measure") is not None
assert (importlib.resources.files("skimage") / "__init__.py").is_file()
""",
    "pyplot, as MONAI's notebooks and transforms draw": """
from monai.utils.jupyter_utils import has_matplotlib, plt
assert has_matplotlib
import matplotlib
matplotlib.use("Agg")
figure, axes = plt.subplots()
axes.plot([1, 2], [3, 4])
from io import BytesIO
figure.savefig(BytesIO())
import matplotlib.pyplot
assert plt is matplotlib.pyplot is sys.modules["matplotlib.pyplot"]
assert matplotlib.get_data_path()
""",
    "figures without pyplot": """
from matplotlib.figure import Figure
from io import BytesIO
Figure().savefig(BytesIO())
""",
    "scipy.signal by a name that MONAI took": """
from monai.data.ultrasound_confidence_map import hilbert
import numpy, scipy.signal, scipy.fft
values = numpy.random.default_rng(0).random(16)
assert numpy.array_equal(hilbert(values), scipy.signal.hilbert(values))
assert scipy.signal.butter(2, 0.5)[0].shape == (3,)
from scipy.signal import hilbert as real
assert real is scipy.signal.hilbert and "convolve" in dir(scipy.signal)
""",
    "a filter that a MONAI transform took by name": """
from monai.transforms.signal.array import has_iirnotch, iirnotch
assert has_iirnotch and len(iirnotch(60, 1, 1000)) == 2
""",
    "scikit-image through MONAI": """
import torch
from monai.transforms import KeepLargestConnectedComponent, RemoveSmallObjects
mask = torch.zeros(1, 8, 8)
mask[0, 0, 0], mask[0, 4:6, 4:6] = 1, 1
assert KeepLargestConnectedComponent(is_onehot=False)(mask).sum() == 4
assert RemoveSmallObjects(min_size=2)(mask).sum() == 4
from monai.apps.pathology.transforms.post.array import disk
assert disk(1).sum() == 5
import skimage
assert skimage.__version__ and skimage.measure.find_contours is not None
""",
    "an optimiser that is asked for": """
import torch
from ignite.handlers.checkpoint import HAVE_ZERO, ZeroRedundancyOptimizer as late
assert HAVE_ZERO
assert not isinstance(torch.nn.Linear(1, 1), late)
assert type(sys.modules["torch.distributed.optim"]).__name__ == "_Late", "nothing need be imported to say that"
assert not isinstance(torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1), late)
class Own(late):
    pass
from torch.distributed.optim import ZeroRedundancyOptimizer
assert Own.__mro__[1] is ZeroRedundancyOptimizer and issubclass(Own, late)
assert isinstance(Own.__new__(Own), late)
""",
    "many threads at once": """
from concurrent.futures import ThreadPoolExecutor
import scipy.signal, skimage.measure, matplotlib.pyplot
asked = [(scipy.signal, "convolve"), (skimage.measure, "label"), (matplotlib.pyplot, "figure")] * 8
with ThreadPoolExecutor(24) as pool:
    assert all(pool.map(lambda pair: callable(getattr(*pair)), asked))
""",
}


def test_what_is_late_works_when_it_is_used() -> None:
    """One process for all, each in its own namespace, and all of them are tried whichever fails."""
    failed = json.loads(
        done(f"""
import json, sys, traceback
from sitelora.late_imports import import_late
import_late()
import monai
failed = dict()
for what, code in {USED!r}.items():
    try:
        exec(code, dict(sys=sys))
    except BaseException:
        failed[what] = traceback.format_exc()
print(json.dumps(failed))
""").splitlines()[-1]
    )
    assert failed == {}, "\n".join(failed.values())


def test_a_late_module_is_the_plain_one_once_it_is_used() -> None:
    done("""
import sys, types
from sitelora.late_imports import import_late
import_late(), import_late()
import scipy.signal
before = scipy.signal
scipy.signal.convolve
assert type(before) is types.ModuleType and sys.modules["scipy.signal"] is before is scipy.signal
assert type(before.__spec__.loader).__name__ == "SourceFileLoader"
""")


def test_a_module_that_is_missing_or_broken_is_so_as_ever(tmp_path: Path) -> None:
    (tmp_path / "broken_one.py").write_text("found = 1\nraise RuntimeError('half way')\n", encoding="utf-8")
    code = """
from sitelora import late_imports
late_imports.LATE.update(missing_one=(), broken_one=())
late_imports.import_late()
try:
    import missing_one
except ModuleNotFoundError as error:
    assert error.name == "missing_one"
import broken_one
for _ in range(2):
    try:
        broken_one.other
    except RuntimeError as error:
        assert str(error) == "half way"
    else:
        raise AssertionError
"""
    done(code, folder=tmp_path)
