"""Pipelines: steps in order, run here."""

from course_lib.pipeline.local import Pipeline, Report

__all__ = ["Pipeline", "Report"]
