"""Pairs go to Label Studio as its JSON, and labels come back from its exports.

The exports in tests/data were made by label-studio 1.23.2; where it is installed, or COURSE_LIB_LABEL_STUDIO names the
command, they are made anew.
"""

import json
import os
import shutil
from pathlib import Path

import pytest
from labelling_server import PAIRS, TEXTS, export

from course_lib.errors import InputError
from course_lib.labels import from_label_studio, read_labels, to_label_studio

STORED = Path(__file__).parent / "data"
PROGRAM = os.environ.get("COURSE_LIB_LABEL_STUDIO") or shutil.which("label-studio")


@pytest.fixture(scope="module", params=["stored", "anew"])
def exports(request, tmp_path_factory):
    if request.param == "stored":
        return {kind: STORED / f"label_studio_{kind}.json" for kind in ("JSON", "JSON_MIN")}
    if not PROGRAM:
        pytest.skip("label-studio is not installed")
    folder = tmp_path_factory.mktemp("exports")
    export(PROGRAM, folder)
    return {kind: folder / f"{kind}.json" for kind in ("JSON", "JSON_MIN")}


@pytest.mark.parametrize("kind", ["JSON", "JSON_MIN"])
def test_labels_of_several_people_come_back_from_a_real_export(kind, exports, tmp_path):
    labels = from_label_studio(exports[kind])
    assert labels == {
        "agreed": "A",
        "split": "no difference",
        "equal": "no difference",
        "better and equal": "no difference",
        "majority": "B",
    }
    path = tmp_path / "labels.json"
    path.write_text(json.dumps(labels))
    assert read_labels(path) == labels


def test_texts_of_all_kinds_come_through_as_they_were(exports):
    for task in json.loads(exports["JSON"].read_text(encoding="utf-8")):
        assert {name: task["data"][name] for name in TEXTS} == TEXTS


def test_tasks_and_the_interface_that_shows_them_are_written(tmp_path):
    to_label_studio(PAIRS, tmp_path / "new" / "pairs.json")
    tasks = json.loads((tmp_path / "new" / "pairs.json").read_text(encoding="utf-8"))
    assert tasks[0] == {"data": {"pair": "agreed", **TEXTS}} and len(tasks) == len(PAIRS)
    interface = (tmp_path / "new" / "pairs.xml").read_text(encoding="utf-8")
    assert all(f'value="${name}"' in interface for name in TEXTS)


def test_pairs_without_a_column_are_refused_before_a_file_is_written(tmp_path):
    with pytest.raises(InputError, match="Row 0 has no B"):
        to_label_studio([{"id": 1, "instruction": "Q", "A": "x"}], tmp_path / "pairs.json")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "content",
    ["", "{", '{"a": "A"}', '[{"data": {}, "annotations": []}]', '[{"pair": "a", "better": [{"selected": "up"}]}]'],
)  # fmt: skip
def test_a_file_that_is_no_export_of_pairs_is_refused(content, tmp_path):
    path = tmp_path / "export.json"
    path.write_text(content)
    with pytest.raises(InputError, match="is no export of pairs from Label Studio .* Export them as JSON"):
        from_label_studio(path)
    with pytest.raises(InputError, match="no export"):
        from_label_studio(tmp_path / "missing.json")
