"""Pipelines: steps in order, run here."""

from course_lib.absent import absent
from course_lib.pipeline.local import Pipeline, Report

__getattr__ = absent(__name__)
__all__ = ["Pipeline", "Report"]
