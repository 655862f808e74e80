"""Language models: local ones, and a scripted one for tests and reading."""

from course_lib.absent import absent
from course_lib.llms.base import LLM
from course_lib.llms.choice import choose_models
from course_lib.llms.recorded import RecordedLLM
from course_lib.llms.scripted import ScriptedLLM
from course_lib.llms.transformers import TransformersLLM

__getattr__ = absent(__name__)

__all__ = ["LLM", "RecordedLLM", "ScriptedLLM", "TransformersLLM", "choose_models"]
