"""Many images in one call: which files are meant, one after the other, a bad one never stops the rest.

What is predicted of an image appears in the output folder whole or not at all, and never under the name of a file that
is there: an older mask may be another patient's.
"""

from __future__ import annotations

import csv
import dataclasses
import os
import tempfile
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sitelora.disk import OTHER_OUT, DiskError, filling, saying
from sitelora.serving.named_images import CallError, NamedImages, named_images
from sitelora.serving.open_model import open_model
from sitelora.serving.outputs import Wanted
from sitelora.serving.predict import Predictor, Progress
from sitelora.serving.scratch import scratch_in

TABLE = ".csv"
"""The ending of a table with a row a case, which grows with every case; its first column names the case."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """How one image of a call ended.

    Attributes:
        number, of: which image of how many. image: its file. files: that were written.
        refused: why it was not predicted; empty where it was. unlike: in what it is far from what was trained on.
        seconds: that it took. left: seconds that the others will take, as far as it can be told.
    """

    number: int
    of: int
    image: Path
    files: tuple[Path, ...] = ()
    refused: str = ""
    unlike: tuple[str, ...] = ()
    seconds: float = 0.0
    left: float = 0.0


def predict_many(
    model: Path,
    named: Sequence[Path] | NamedImages,
    *,
    out: Path,
    wanted: Wanted,
    device: str | None = None,
    replace: bool = False,
    progress: Progress | None = None,
) -> Generator[Case]:
    """Predict images, one after the other, and tell of each how it ended.

    Args:
        model: a model's file, or an exported bundle's folder. named: files and folders, or what they mean.
        out: where predictions go. wanted: beside them. device: of torch.
        replace: take the place of older predictions of the same name. progress: within one image.

    Raises:
        CallError, ValueError: nothing can be predicted like this; no image was touched.
        DiskError: ``out`` cannot be written, or takes no more: the other images would end in the same way.
    """
    meant = named if isinstance(named, NamedImages) else named_images(named, out=out)
    if out.exists() and not out.is_dir():
        raise CallError(f"--out {out} is a file, expected a folder")
    with saying(out, elsewhere=OTHER_OUT):
        out.mkdir(parents=True, exist_ok=True)
    with scratch_in(out, elsewhere=OTHER_OUT) as held:  # on the disk of the results
        staging = held / "new"
        with saying(out, elsewhere=OTHER_OUT):
            staging.mkdir()
        images = [image for image, why in meant.places.items() if not why]
        predictor = Predictor.of(open_model(model, out=staging, device=device), images, wanted)
        sizes = [_size(place) for place in meant.places]
        spent = 0.0
        for number, (image, why) in enumerate(meant.places.items(), start=1):
            started, case = time.monotonic(), Case(number=number, of=len(sizes), image=image, refused=why)
            try:
                if not why:
                    with filling(held, shown=out, elsewhere=OTHER_OUT):
                        with tempfile.TemporaryDirectory(dir=held) as scratch:
                            unlike = predictor(image, Path(scratch), progress or _silent)
                        files = _hand_over(staging, out, replace=replace)
                    case = dataclasses.replace(case, unlike=tuple(unlike), files=tuple(files))
            except DiskError:
                raise
            except (ValueError, OSError, RuntimeError, MemoryError) as error:  # whatever a file makes of a library
                case = dataclasses.replace(case, refused=str(error) or type(error).__name__)
            finally:
                for rest in staging.iterdir():
                    rest.unlink()
            seconds = time.monotonic() - started
            spent += seconds
            done, to_do = sum(sizes[:number]), sum(sizes[number:])
            yield dataclasses.replace(case, seconds=seconds, left=spent * to_do / done if done else 0.0)


def _hand_over(staging: Path, out: Path, *, replace: bool) -> list[Path]:
    """Move what was written of one image to its place: all of it, or nothing.

    Raises:
        FileExistsError: something of that name is there.
    """
    new = sorted(staging.iterdir())
    tables = [path for path in new if path.suffix == TABLE and (out / path.name).exists()]
    there = [path.name for path in new if path not in tables and (out / path.name).exists()]
    if there and not replace:
        raise FileExistsError(f"{out / there[0]} is there already: name another folder with --out, or say --replace")
    for table in tables:
        _add_rows(table, out / table.name)
    return [path.replace(out / path.name) for path in new]


def _add_rows(new: Path, old: Path) -> None:
    """Put the rows of a table that is there before those of a new one, but for those of the same case.

    Raises:
        FileExistsError: it has other columns. DiskError: it cannot be read, so that it cannot be written either.
    """
    with saying(old, elsewhere=OTHER_OUT):
        texts = [path.read_text(encoding="utf-8") for path in (old, new)]
    rows = [list(csv.reader(text.splitlines())) for text in texts]
    if rows[0][:1] != rows[1][:1]:
        raise FileExistsError(f"{old} is there already, with other columns: name another folder with --out")
    again = {row[0] for row in rows[1][1:]}
    kept = [row for row in rows[0][1:] if row and row[0] not in again]
    with new.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([rows[1][0], *kept, *rows[1][1:]])


def _size(path: Path) -> int:
    """Return the bytes of a file; 0 of what is none or cannot be looked at, which is told when it is read."""
    return os.path.getsize(path) if os.path.isfile(path) else 0


def _silent(done: int, total: int) -> None:
    """Tell nobody."""
