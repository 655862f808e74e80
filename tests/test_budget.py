"""The library stays thin, and its imports run one way."""

import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tools"))

import picture  # noqa: E402

# Lines of Python that a room may have. A room that needs more gets them here, in the open, or from another room.
LINES = {
    "": 12,
    "__main__": 264,
    "absent": 38,
    "audit": 210,
    "audit_report": 127,
    "card": 64,
    "conversations": 47,
    "declared": 20,
    "distiset": 267,
    "effects": 71,
    "errors": 65,
    "exercises": 9,
    "faults": 124,
    "job": 176,
    "judging": 225,
    "labels": 146,
    "llms": 3300,
    "memory": 41,
    "models": 4,
    "pairs": 249,
    "paths": 20,
    "pipeline": 475,
    "plots": 468,
    "progress": 68,
    "rule": 66,
    "settings": 95,
    "steps": 1487,
    "steps.tasks": 1772,
    "tables": 112,
    "training": 220,
    "views": 88,
    "widgets": 240,
}
# Each may import those before it; what is not named here stands beside them and is named by its own imports.
ORDER = ["errors", "llms", "steps", "steps.tasks", "pipeline", "judging", "job", "__main__"]


def test_every_room_keeps_to_its_lines():
    counts = picture.line_counts()
    assert {name: count for name, count in counts.items() if count > LINES.get(name, 0)} == {}


def test_a_room_that_is_gone_leaves_the_table():
    assert set(LINES) - set(picture.line_counts()) <= {"constraints", "sums"}


def test_no_room_imports_itself_by_a_detour():
    list(TopologicalSorter(picture.arrows()).static_order())


def test_no_module_imports_itself_by_a_detour():
    known = picture.modules()
    graph = {
        name: {target for target in picture.imports(file) if target in known} for name, file in known.items()
    }
    packages = {name for name in known if any(other.startswith(f"{name}.") for other in known)}
    # The module of a package gathers what lies in it, and is loaded before each of them.
    inner = {name: targets - packages for name, targets in graph.items() if name not in packages}
    list(TopologicalSorter(inner).static_order())


@pytest.mark.parametrize("low, high", list(zip(ORDER, ORDER[1:], strict=False)))
def test_imports_run_one_way(low, high):
    above = set(ORDER[ORDER.index(high) :])
    assert not picture.everything_below(picture.arrows(), low) & above


def test_the_benchmarks_import_one_way_too():
    names = {file.stem: file for file in (ROOT / "benchmarks").glob("*.py")}
    graph = {name: picture.named(file) & set(names) for name, file in names.items()}
    list(TopologicalSorter(graph).static_order())
    assert not graph["measuring"]
