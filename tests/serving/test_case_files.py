"""The table of predictions, where names come from others."""

import csv
from pathlib import Path
from types import SimpleNamespace

import torch
from monai.data import MetaTensor

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
