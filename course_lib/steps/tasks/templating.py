"""Prompts are Jinja files under `templates/<language>/`: sandboxed, and strict about unknown variables.

Text from rows enters a prompt as a value and is never read as a template.
"""

from functools import cache
from pathlib import Path

from jinja2 import FileSystemLoader, StrictUndefined, Template, TemplateError, meta
from jinja2.sandbox import SandboxedEnvironment

from course_lib.errors import InputError
from course_lib.llms.base import Chat
from course_lib.llms.prompts import encodable

TOO_LONG = (
    "longer than the context of the judge"  # the reason for no rating, where cutting does not help either
)
FOLDER = Path(__file__).parent.parent.parent / "templates"


@cache
def environment() -> SandboxedEnvironment:
    # Prompts are plain text, so nothing is escaped as HTML.
    return SandboxedEnvironment(loader=FileSystemLoader(FOLDER), undefined=StrictUndefined)


def shipped(name: str, language: str = "en") -> Template:
    """The template `name`, such as `evol_quality/creativity`."""
    return environment().get_template(f"{language}/{name}.jinja2")


def names(folder: str, language: str = "en") -> list[str]:
    """The templates in a folder; those that begin with `_` are frames for the others.

    Raises:
        InputError: a language without these templates.
    """
    found = sorted(f.stem for f in (FOLDER / language / folder).glob("[!_]*.jinja2"))
    if not found:
        languages = ", ".join(sorted(f.parent.name for f in FOLDER.glob(f"*/{folder}")))
        raise InputError(f"There are no {folder} prompts for language={language!r}; allowed: {languages}.")
    return found


def parsed(source: str) -> tuple[Template, list[str]]:
    """A template given as text, and the variables that it uses.

    Raises:
        InputError: not valid Jinja.
    """
    try:
        variables = meta.find_undeclared_variables(environment().parse(source))
        return environment().from_string(source), sorted(variables)
    except TemplateError as error:
        raise InputError(f"The template {source[:80]!r} is not valid Jinja: {error}.") from error


def filled(template: Template, **values) -> str:
    """The text of `template` with `values`.

    Raises:
        InputError: a variable without a value, or an expression that the sandbox forbids or that fails.
    """
    try:
        return encodable(template.render(**values).strip())
    except (TemplateError, TypeError, ValueError, ArithmeticError) as error:
        raise InputError(
            f"The template cannot be filled: {error}. Values at hand: {', '.join(sorted(values))}."
        ) from error


def without_middle(text: str) -> str:
    """The first and the last quarter of `text`, for a model that cannot read all of it."""
    quarter = len(text) // 4
    return f"{text[:quarter]} […] {text[-quarter:]}"


def framed(title: str, chat: Chat) -> str:
    """`chat` as text to read, a rule above each message."""
    parts = [f"═══ {title} ".ljust(100, "═")]
    for message in chat:
        parts += [f"─── {message['role']} ".ljust(100, "─"), message["content"]]
    return "\n".join([*parts, "═" * 100])
