"""How long lessons and solutions take: from an empty cache of results, and once all results are there.

    .venv/bin/python benchmarks/lessons.py

Weights are at hand. Each notebook has a cache of its own, so none profits from another. Kernel start and imports count.
Writes docs/lessons.md.
"""

import os
import platform
import sys
import tempfile
import time
from pathlib import Path
from unittest.mock import patch

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))

import notebooks  # noqa: E402


def seconds(path: Path) -> float:
    notebook = nbformat.read(path, as_version=4)
    started = time.perf_counter()
    NotebookClient(notebook, timeout=900, resources={"metadata": {"path": path.parent}}).execute()
    return time.perf_counter() - started


def line(path: Path) -> str:
    """Cold, warm, and replayed without a model, for one notebook."""
    taken = []
    with tempfile.TemporaryDirectory() as cache:
        notebooks.link_weights(Path(cache))
        with patch.dict(os.environ, COURSE_LIB_CACHE=cache):
            taken += [seconds(path), seconds(path)]
    with tempfile.TemporaryDirectory() as cache:
        notebooks.fill_cache(Path(cache))
        trains = path.name in notebooks.TRAINS
        if trains:
            notebooks.link_weights(Path(cache))
        with patch.dict(os.environ, COURSE_LIB_CACHE=cache, COURSE_LIB_REPLAY="" if trains else "1"):
            taken.append(seconds(path))
    return f"| {path.parent.name}/{path.stem} | {' | '.join(f'{t:.0f}' for t in taken)} |"


def main() -> None:
    os.environ.update(COURSE_LIB_MODELS="packaged", HF_HUB_OFFLINE="1")
    head = [
        "| notebook | empty cache, s | all results cached, s | replay, no model, s |",
        "| --- | --- | --- | --- |",
    ]
    lines = [line(path) for path in [*notebooks.lessons(), *notebooks.solutions()]]
    about = f"Made by `benchmarks/lessons.py` on {platform.machine()}, {os.cpu_count()} cores, no GPU; kernel start included."
    text = "\n".join(["# How long the notebooks take", "", about, "", *head, *lines, ""])
    print(text)
    (ROOT / "docs" / "lessons.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
