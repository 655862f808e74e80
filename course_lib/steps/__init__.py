"""The pieces of a pipeline that need no language model; those that do are in `course_lib.steps.tasks`."""

from course_lib.steps.base import GeneratorStep, Step, StepColumns, StepInput, StepOutput
from course_lib.steps.columns import GroupColumns, KeepColumns
from course_lib.steps.filtering import FilterRows
from course_lib.steps.formatting import FormatTextGenerationDPO
from course_lib.steps.load import LoadDataFromDicts, LoadDataFromDisk, LoadDataFromFileSystem, LoadDataFromHub

__all__ = [
    "FilterRows",
    "FormatTextGenerationDPO",
    "GeneratorStep",
    "GroupColumns",
    "KeepColumns",
    "LoadDataFromDicts",
    "LoadDataFromDisk",
    "LoadDataFromFileSystem",
    "LoadDataFromHub",
    "Step",
    "StepColumns",
    "StepInput",
    "StepOutput",
]
