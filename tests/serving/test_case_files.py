"""The table of predictions, where names come from others."""

import csv
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from monai.data import MetaTensor

from sitelora.data.errors import UnfitFileError
from sitelora.serving.bundle_parts import Judged, MaskNames
from sitelora.serving.case_files import CaseFiles


def test_no_name_becomes_a_formula_of_a_spreadsheet(tmp_path: Path) -> None:
    labels = {"0": '=HYPERLINK("http://evil.example","benign")', "1": "@cmd"}
    files = CaseFiles(output_dir=tmp_path, made={"labels": labels, "decision": {}})
    for name in ("=1+1.png", "+2.png", "-3.png", "plain.png"):
        image = MetaTensor(torch.zeros(1, 2, 2), meta={"filename_or_obj": name})
        case = {"image": image, "pred": torch.tensor([0.1, 2.0])}
        files._note(SimpleNamespace(state=SimpleNamespace(output=[case])))
    files._write()
    with (tmp_path / "predictions.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.reader(stream))
    assert len(rows) == 5
    assert [cell for row in rows for cell in row if cell[:1] in "=+-@" and cell] == []
    assert "'=1+1.png" in rows[1]
    assert any(cell == "'@cmd" for cell in rows[1])


@pytest.mark.parametrize("named", [True, False])
def test_a_case_without_a_finite_answer_is_refused_and_the_others_are_written(named: bool, tmp_path: Path) -> None:
    names = MaskNames() if named else None
    files = CaseFiles(output_dir=tmp_path, made={}, names=names)
    for name, value in (("a.png", 1.0), ("b.png", float("nan")), ("c.png", float("inf"))):
        image = MetaTensor(torch.zeros(1, 2, 2), meta={"filename_or_obj": name})
        files._note(SimpleNamespace(state=SimpleNamespace(output=[{"image": image, "pred": torch.tensor([0, value])}])))
    if names is None:
        with pytest.raises(UnfitFileError, match=r"b\.png: found 1 of 2 values"):
            files._write()
    else:
        files._write()
        judged = Judged(fit=("a.png", "b.png", "c.png"), refused=(), unanswered=names.unanswered)
        with pytest.raises(SystemExit, match=r"^1 of 3 images done; refused:\n  b\.png: .*\n  c\.png: found 1 of 2"):
            judged.finish()
    assert {path.name for path in tmp_path.iterdir()} == {"a.json", "predictions.csv"}
    with (tmp_path / "predictions.csv").open(encoding="utf-8", newline="") as stream:
        assert len(list(csv.reader(stream))) == 2
