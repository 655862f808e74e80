"""Errors of ours. Each says what came, what is allowed and what to do next; a model's fault is data, not an error."""


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
