"""Language models: local ones, those behind an address, and a scripted one for tests and reading."""

from course_lib.absent import absent
from course_lib.llms import endpoints
from course_lib.llms.anyllm import AnyLLM
from course_lib.llms.base import LLM
from course_lib.llms.choice import choose_models
from course_lib.llms.endpoints import *  # noqa: F403
from course_lib.llms.huggingface import InferenceEndpointsLLM, TransformersLLM
from course_lib.llms.recorded import RecordedLLM
from course_lib.llms.scripted import ScriptedLLM

__getattr__ = absent(__name__)

__all__ = [
    "LLM",
    "AnyLLM",
    "InferenceEndpointsLLM",
    "RecordedLLM",
    "ScriptedLLM",
    "TransformersLLM",
    "choose_models",
]
__all__ += endpoints.__all__
