"""A table of patients as spreadsheets write it: three separators, three encodings, blanks that mean nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from sitelora.data.corrections.patients import read_patients
from sitelora.data.errors import SiteDataError

TABLE = "image,patient\nscan-1.nii.gz,P-2\nscan-2,Mü 3\n"
READ = {"scan-1": "P-2", "scan-2": "Mü 3"}


def write(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    file = folder / "patients.csv"
    file.write_bytes(text.encode(encoding))
    return file


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_separators_and_encodings_of_spreadsheets_are_read(
    separator: str, encoding: str, end: str, tmp_path: Path
) -> None:
    text = TABLE.replace(",", separator).replace("\n", end)
    assert read_patients(write(tmp_path, text, encoding)) == READ


@pytest.mark.parametrize(
    "text",
    [
        TABLE.replace(",", ", "),
        TABLE.replace(",", " ;\t").replace("\n", " \n"),
        TABLE.replace("image,patient", '"Image","Patient"'),
        TABLE.replace("P-2", ' "P-2"'),
        TABLE + ",\n\n , \n",
        "age,patient,image\n61,P-2,scan-1\n,Mü 3,scan-2\n",
        TABLE + "scan-2.nii, Mü 3 \n",
    ],
    ids=["blanks", "blanks and a tab", "quotes", "a blank before quotes", "blank rows", "other order", "said again"],
)
def test_blanks_quotes_and_further_columns_change_nothing(text: str, tmp_path: Path) -> None:
    assert read_patients(write(tmp_path, text)) == READ


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "",
            "found the columns none, expected the columns image,patient in line 1, separated by commas, semicolons",
        ),
        ("image|patient\na|b\n", "found the columns image|patient, expected the columns"),
        ("image,patient,image\na,P,b\n", "found the columns image, patient, image, expected every one once"),
        ("image;patient\na;P\nb;\n", "line 3: expected an image and a patient"),
        ("image,patient\na,Jan, the younger\n", "line 2: found 3 cells, expected 2, separated by commas"),
        ("image,patient\na,P-2\na,p-2 \n", "line 3: a has two patients"),
        (
            "image,patient\na,P-2\nb,p-2 \n",
            "line 3: found the patient 'p-2', and 'P-2' in line 2, which differ in the case",
        ),
    ],
)
def test_what_the_table_does_not_say_is_refused_by_line(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(SiteDataError) as refusal:
        read_patients(write(tmp_path, text))
    assert said in str(refusal.value)


def test_another_encoding_is_named(tmp_path: Path) -> None:
    with pytest.raises(SiteDataError, match=r"another encoding .*, expected UTF-8, or UTF-16 with .*CSV UTF-8"):
        read_patients(write(tmp_path, TABLE, "cp1252"))
