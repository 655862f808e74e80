"""Preference datasets made with language models on one's own machine.

Importing this package loads neither torch nor transformers nor matplotlib; each part loads what it needs when used.
"""

import os
from pathlib import Path

# Read when torch is loaded: threads that wait for work sleep instead of spinning, so that two processes on one machine
# (a notebook and a test, two runs) do not slow each other down fivefold. Alone, a run is as fast.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# A build puts `exercises/` into this package (pyproject.toml); in a clone `course_lib.exercises` lies beside it.
_beside = Path(__file__).resolve().parent.parent
if (_beside / "exercises" / "questions.py").is_file():
    __path__.append(str(_beside))

__version__ = "0.1.0"
