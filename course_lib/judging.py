"""Judges, and how good they are."""

from course_lib.llms import TransformersLLM
from course_lib.llms.weights import PACKAGED
from course_lib.steps.tasks import LikelihoodRating, Task


def default_judge(device: str | None = None) -> Task:
    return likelihood_panel(device)


def likelihood_panel(device: str | None = None) -> Task:
    return LikelihoodRating(panel=[TransformersLLM(name, device=device) for name in PACKAGED])
