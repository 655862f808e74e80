"""What the checks of answers may use that are no functions: types, keys, options, and numbers read from a figure."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from course_lib.exercises.checks import Wrong, excerpt, require


def of_type(answer: Any, wanted: type | tuple[type, ...], words: str) -> None:
    """Raise `Wrong` unless `answer` is of a type; `words` name it for the learner."""
    if not isinstance(answer, wanted) or (isinstance(answer, bool) and wanted is not bool):
        raise Wrong(f"Expected {words}; your answer is {excerpt(answer)}, of type {type(answer).__name__}.")


def has_keys(answer: Any, names: Sequence[str]) -> None:
    """Raise `Wrong` unless `answer` is a dict with these keys and no others."""
    of_type(answer, dict, f"a dict such as {{{names[0]!r}: …}}")
    keys = f"Expected the keys {', '.join(map(repr, names))}"
    require(set(answer) == set(names), f"{keys}; your answer has {excerpt(list(answer))}.")


def option(value: Any, options: Sequence[str], where: str = "Your answer is ") -> str:
    """The option that `value` names, whatever its case and the spaces around it; `Wrong` if it is none."""
    name = value.strip().lower() if isinstance(value, str) else value
    require(name in options, f"{where}{excerpt(value)}; allowed: {', '.join(map(repr, options))}.")
    return name


def chosen_from(answer: Any, right: str, misunderstood: Mapping[str, str]) -> None:
    """For questions with given options: raise `Wrong` with the explanation of the option that was taken."""
    name = option(answer, sorted([right, *misunderstood]))
    require(name == right, f"{answer!r}: {misunderstood.get(name)}")


def read_off(answer: float, right: float, within: float, effect: str, draw: Callable) -> None:
    """For a number read from a figure: raise `Wrong` if it lies too far off, with a figure that shows both.

    effect: what the learner's number would do; draw: what makes the figure of `course_lib.plots`.
    """
    if abs(answer - right) <= within:
        return
    from course_lib import plots  # brings matplotlib, which most answers do not need

    figure = draw(plots)
    plots.with_answer(figure, answer, right, end=figure.axes[0].get_xlim()[1])
    raise Wrong(f"{answer:g} is too {'low' if answer < right else 'high'}: {effect}.", figure)
