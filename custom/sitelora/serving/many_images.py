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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sitelora.data.endings import PICTURES, VOLUMES
from sitelora.data.site_folder import DATALIST
from sitelora.serving.open_model import open_model
from sitelora.serving.outputs import Wanted
from sitelora.serving.predict import Predictor, Progress

TABLE = ".csv"
"""The ending of a table with a row a case, which grows with every case; its first column names the case."""


class CallError(ValueError):
    """Nothing can be predicted as it was asked for; the message says what to do instead."""


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


def files_meant(named: Sequence[Path], *, out: Path) -> list[Path]:
    """Return the image files that a person names, each once: files as they are, folders with all below them.

    Args:
        named: files and folders; of a site folder its ``images``. out: where predictions go; nothing in it is an image.

    Raises:
        CallError: a folder without an image, or one that is the output folder.
    """
    meant: dict[Path, Path] = {}
    for one in named:
        if not one.is_dir():
            meant.setdefault(_real(one), one)
            continue
        if _real(one) == _real(out):
            raise CallError(f"{one} is where the predictions go: name another folder with --out")
        folder = one / "images" if (one / DATALIST).is_file() else one
        found = [path for path in sorted(folder.rglob("*")) if _may_be_image(path, folder) and not _within(path, out)]
        if not found:
            endings = ", ".join(VOLUMES + PICTURES)
            raise CallError(f"{folder} holds no file that ends in {endings}: name a folder of images, or the files")
        for path in found:
            meant.setdefault(_real(path), path)
    return list(meant.values())


def predict_many(
    model: Path,
    named: Sequence[Path],
    *,
    out: Path,
    wanted: Wanted,
    device: str | None = None,
    replace: bool = False,
    progress: Progress | None = None,
) -> Iterator[Case]:
    """Predict images, one after the other, and tell of each how it ended.

    Args:
        model: a model's file, or an exported bundle's folder. named: files and folders.
        out: where predictions go. wanted: beside them. device: of torch.
        replace: take the place of older predictions of the same name. progress: within one image.

    Raises:
        CallError, ValueError: nothing can be predicted like this; no image was touched.
    """
    images = files_meant(named, out=out)
    if out.exists() and not out.is_dir():
        raise CallError(f"--out {out} is a file, expected a folder")
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out, prefix=".predict-") as held:  # 0700, and on the disk of the results
        staging = Path(held) / "new"
        staging.mkdir()
        predictor = Predictor.of(open_model(model, out=staging, device=device), images, wanted)
        sizes = [image.stat().st_size if image.is_file() else 0 for image in images]
        spent = 0.0
        for number, image in enumerate(images, start=1):
            started, case = time.monotonic(), Case(number=number, of=len(images), image=image)
            try:
                with tempfile.TemporaryDirectory(dir=held) as scratch:
                    unlike = predictor(image, Path(scratch), progress or _silent)
                files = _hand_over(staging, out, replace=replace)
                case = dataclasses.replace(case, unlike=tuple(unlike), files=tuple(files))
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
        FileExistsError: it has other columns.
    """
    rows = [list(csv.reader(path.read_text(encoding="utf-8").splitlines())) for path in (old, new)]
    if rows[0][:1] != rows[1][:1]:
        raise FileExistsError(f"{old} is there already, with other columns: name another folder with --out")
    again = {row[0] for row in rows[1][1:]}
    kept = [row for row in rows[0][1:] if row and row[0] not in again]
    with new.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([rows[1][0], *kept, *rows[1][1:]])


def _may_be_image(path: Path, folder: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
    return path.name.lower().endswith(VOLUMES + PICTURES) and not hidden and not path.is_dir()


def _real(path: Path) -> Path:
    return Path(os.path.abspath(path.expanduser()))


def _within(path: Path, folder: Path) -> bool:
    return _real(path).is_relative_to(_real(folder))


def _silent(done: int, total: int) -> None:
    """Tell nobody."""
