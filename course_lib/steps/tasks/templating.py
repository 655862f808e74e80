"""Prompts are Jinja files under `templates/en/`: sandboxed, and strict about unknown variables.

Text from rows enters a prompt as a value and is never read as a template.
"""

from functools import cache

from jinja2 import FileSystemLoader, StrictUndefined, Template, TemplateError, meta
from jinja2.sandbox import SandboxedEnvironment

from course_lib.errors import InputError
from course_lib.llms.base import Chat
from course_lib.llms.prompts import encodable
from course_lib.paths import TEMPLATES as FOLDER


@cache
def environment() -> SandboxedEnvironment:
    # Prompts are plain text, so nothing is escaped as HTML.
    return SandboxedEnvironment(loader=FileSystemLoader(FOLDER), undefined=StrictUndefined)


def shipped(name: str) -> Template:
    """The template `name`, such as `evol_quality/creativity`."""
    return environment().get_template(f"en/{name}.jinja2")


def names(folder: str) -> list[str]:
    """The templates in a folder; those that begin with `_` are frames for the others."""
    return sorted(file.stem for file in (FOLDER / "en" / folder).glob("[!_]*.jinja2"))


def parsed(source: str) -> tuple[Template, list[str]]:
    """A template given as text, and the variables that it uses; `InputError` if it is not valid Jinja."""
    try:
        variables = meta.find_undeclared_variables(environment().parse(source))
        return environment().from_string(source), sorted(variables)
    except TemplateError as error:
        raise InputError(f"The template {source[:80]!r} is not valid Jinja: {error}.") from error


def filled(template: Template, **values) -> str:
    """The text of `template` with `values`.

    Raises:
        InputError: a variable without a value, or an expression that fails or that the sandbox forbids.
    """
    try:
        return encodable(template.render(**values).strip())
    except (TemplateError, TypeError, ValueError, ArithmeticError) as error:
        at_hand = ", ".join(sorted(values))
        raise InputError(f"The template cannot be filled: {error}. Values at hand: {at_hand}.") from error


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
