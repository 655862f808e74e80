"""Models by name: those of installed packages, and local ones.

A package brings a model with an entry point of the group `course_lib.llms`, whose name is the model's and whose object
is a subclass of `LLM`, or a function that makes one:

    [project.entry-points."course_lib.llms"]
    markov = "llm_markov:Markov"
"""

from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from course_lib.llms.base import LLM
from course_lib.llms.transformers import TransformersLLM


def models() -> Mapping[str, EntryPoint]:
    """The models that installed packages bring, by name; `load()` gives what makes one."""
    return {point.name: point for point in entry_points(group="course_lib.llms")}


def llm(name: str, device: str | None = None, **kwargs: Any) -> LLM:
    """A plugin's model, else `TransformersLLM(name)`; made with `kwargs`, and with `device` if given."""
    if device is not None:
        kwargs["device"] = device
    point = models().get(name)
    return point.load()(**kwargs) if point else TransformersLLM(name, **kwargs)
