"""Where the library keeps what ships with it, and what it can make again: results and converted weights."""

import os
from pathlib import Path

from platformdirs import user_cache_path

DATA = Path(__file__).parent / "data"
TEMPLATES = Path(__file__).parent / "templates"


def cache_folder() -> Path:
    """The folder of results and weights: `COURSE_LIB_CACHE`, or the user's cache folder. Not created here."""
    chosen = os.environ.get("COURSE_LIB_CACHE")
    return Path(chosen).expanduser() if chosen else user_cache_path("course_lib", appauthor=False)


def replaying() -> bool:
    """Whether `COURSE_LIB_REPLAY=1` allows results of the cache alone: a miss is an error, no model comes."""
    return os.environ.get("COURSE_LIB_REPLAY", "") not in ("", "0")
