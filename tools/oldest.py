"""Constraints for the oldest versions that the ranges of the library and the chapters allow.

    python tools/oldest.py [TORCH]

PyPI has old builds of torch for Linux with CUDA alone, several gigabytes: without TORCH its version is the one that
constraints.txt pins. What these packages need in turn is left to pip.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def oldest(torch: str) -> list[str]:
    """`name==version` for each `name>=version` of the requirements."""
    files = [ROOT / name for name in ("requirements-library.txt", "requirements.txt")]
    bounds = [
        match for file in files for match in re.findall(r"^([\w-]+)>=([\d.]+)", file.read_text("utf-8"), re.M)
    ]
    return [f"{name}=={torch if name == 'torch' else version}" for name, version in bounds]


def pinned_torch() -> str:
    return re.search(r"^torch==(\S+)$", (ROOT / "constraints.txt").read_text("utf-8"), re.M)[1]


if __name__ == "__main__":
    print(*oldest(sys.argv[1] if len(sys.argv) > 1 else pinned_torch()), sep="\n")
