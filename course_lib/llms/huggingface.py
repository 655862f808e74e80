"""The module path under which distilabel's users know the local LLM."""

from course_lib.llms.transformers import TransformersLLM

__all__ = ["TransformersLLM"]
