"""Preference datasets made with language models on one's own machine.

Importing it loads neither torch nor transformers nor matplotlib; each part loads what it needs when used.
"""

import os

# Read when torch is loaded: threads that wait for work sleep instead of spinning, so that two processes on
# one machine (a notebook and a test, two runs) do not slow each other down fivefold. Alone, a run is as fast.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

__version__ = "0.1.0"
