"""Errors of ours. Each says what came, what is allowed and what to do next; a model's fault is data, not an error."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class CourseLibError(Exception):
    """Base of the errors that a user can mend. The command line prints it without a traceback."""


class InputError(CourseLibError, ValueError):
    """A value, a row or a file that the library cannot take."""


class GraphError(CourseLibError, ValueError):
    """A pipeline whose steps do not fit together."""


class WeightsError(CourseLibError, OSError):
    """Model weights that cannot be found, fetched, verified or stored."""


class CacheError(CourseLibError, OSError):
    """The store of results cannot be read or written."""


class OutputError(CourseLibError, OSError):
    """A folder that cannot be written: the disk is full, or the folder is not ours to write."""


@contextmanager
def writing(what: str, folder: Path | str, advice: str) -> Iterator[None]:
    """Turn an `OSError` while `what` is written to `folder` into an `OutputError` that gives `advice`."""
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"{what} cannot be written to {folder} ({error}). {advice}, and run again: the results that the cache holds are "
            "not computed anew."
        ) from error
