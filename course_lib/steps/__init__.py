"""The pieces of a pipeline that need no language model; those that do are in `course_lib.steps.tasks`."""

from course_lib.steps.base import GeneratorStep, GlobalStep, Step, StepColumns, StepInput, StepOutput, step
from course_lib.steps.columns import CombineOutputs, ExpandColumns, GroupColumns, KeepColumns
from course_lib.steps.filtering import FilterRows
from course_lib.steps.formatting import FormatTextGenerationDPO, FormatTextGenerationSFT
from course_lib.steps.load import LoadDataFromDicts, LoadDataFromDisk, LoadDataFromFileSystem, LoadDataFromHub

__all__ = [
    "CombineOutputs",
    "ExpandColumns",
    "FilterRows",
    "FormatTextGenerationDPO",
    "FormatTextGenerationSFT",
    "GeneratorStep",
    "GlobalStep",
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
    "step",
]
