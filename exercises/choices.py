"""What the checks of answers may use that are no functions: types, keys, options, and numbers read from a figure."""

from collections.abc import Mapping, Sequence
from typing import Any

from course_lib.exercises.checks import Wrong, excerpt, require


def of_type(answer: Any, wanted: type | tuple[type, ...], words: str) -> None:
    """Raise `Wrong` unless `answer` is of a type; `words` name it for the learner."""
    if not isinstance(answer, wanted) or (isinstance(answer, bool) and wanted is not bool):
        raise Wrong(f"Expected {words}; your answer is {excerpt(answer)}, of type {type(answer).__name__}.")


def number_in(answer: Any, low: float, high: float, words: str) -> float:
    """The number that an answer is; `Wrong` unless it lies from `low` to `high`. `words` name it for the learner."""
    if isinstance(answer, bool | str | bytes) or not hasattr(answer, "__float__"):
        quotes = " Write it without quotes." if isinstance(answer, str) else ""
        raise Wrong(
            f"Expected {words}; your answer is {excerpt(answer)}, of type {type(answer).__name__}.{quotes}"
        )
    require(low <= float(answer) <= high, f"{answer} is not {words}, from {low:g} to {high:g}.")
    return float(answer)


def yes_or_no(value: Any, where: str) -> bool:
    """`value` as True or False; 1 and 0 will do."""
    require(value in (0, 1), f"{where}: {excerpt(value)}; allowed: True, False.")
    return bool(value)


def has_keys(answer: Any, names: Sequence[str]) -> None:
    """Raise `Wrong` unless `answer` is a dict with these keys and no others."""
    of_type(answer, dict, f"a dict such as {{{names[0]!r}: …}}")
    keys = f"Expected the keys {', '.join(map(repr, names))}"
    require(set(answer) == set(names), f"{keys}; your answer has {excerpt(list(answer))}.")


def option(value: Any, options: Sequence[str], where: str = "Your answer is ") -> str:
    """The option that `value` names, in lower case, whatever its case and the spaces around it; `Wrong` if it is none."""
    name = value.strip().lower() if isinstance(value, str) else value
    known = name in [item.lower() for item in options]
    require(known, f"{where}{excerpt(value)}; allowed: {', '.join(map(repr, options))}.")
    return name


def chosen_from(answer: Any, right: str, misunderstood: Mapping[str, str]) -> None:
    """For questions with given options: raise `Wrong` with the explanation of the option that was taken."""
    name = option(answer, sorted([right, *misunderstood]))
    require(name == right, f"{answer!r}: {misunderstood.get(name)}")


def match_each(answer: Any, rows: Mapping[str, Mapping], relation: str) -> None:
    """For questions that match names with options: raise `Wrong` with the reason at the first name that is matched wrongly.

    rows: for each name what is `right` and `why`, in one sentence for all options or by option.
    """
    has_keys(answer, list(rows))
    options = sorted({row["right"] for row in rows.values()})
    for name, row in rows.items():
        choice, why = option(answer[name], options, f"{name}: "), row["why"]
        reason = why if isinstance(why, str) else why[choice]
        require(choice == row["right"], f"{name!r} {relation} {choice!r}: {reason}.")


def read_off(answer: float, right: float, within: float, effect: str, curves: Mapping, *axes: str) -> None:
    """For a number read from a figure of `curves`: raise `Wrong` if it lies too far off, with a figure that shows both.

    effect: what the learner's number would do; axes: their names.
    """
    if abs(answer - right) <= within:
        return
    from course_lib import plots  # brings matplotlib, which most answers do not need

    figure = plots.lines(curves, *axes, "Your answer, and a right one")
    plots.with_answer(figure, answer, right, end=figure.axes[0].get_xlim()[1])
    raise Wrong(f"{answer:g} is too {'low' if answer < right else 'high'}: {effect}.", figure)
