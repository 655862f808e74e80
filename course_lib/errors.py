"""Errors of ours: what came, what is allowed, what to do next. A model's fault is data, not an error."""

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
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


class EndpointError(CourseLibError, OSError):
    """A model or a service behind an address that cannot be asked: its key, name, address or credit."""


class MissingPackageError(CourseLibError, ImportError):
    """A package is not installed in this Python, though what was asked for needs it."""


class AbsentError(CourseLibError, ImportError):
    """A name of distilabel that this library has not; the message says what to use instead."""


def require_package(name: str, purpose: str, brings: str = "") -> None:
    """Raise a `MissingPackageError` unless package `name`, which `purpose` needs and `brings` installs, could be imported."""
    if find_spec(name) is None:
        raise MissingPackageError(
            f"{purpose} needs the package {name}, which is not installed in this Python. "
            f"`{shlex.quote(sys.executable)} -m pip install {shlex.quote(brings or name)}` brings it; then run the same again."
        )


@contextmanager
def writing(what: str, folder: Path | str, advice: str) -> Iterator[None]:
    """Turn an `OSError` while `what` is written to `folder` into an `OutputError` that gives `advice`."""
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"{what} cannot be written to {folder} ({error}). {advice}, and run again: the results that the "
            "cache holds are not computed anew."
        ) from error
