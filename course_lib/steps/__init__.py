"""The pieces of a pipeline that need no language model; those that do are in `course_lib.steps.tasks`."""

from course_lib.absent import absent
from course_lib.steps.argilla import PreferenceToArgilla, TextGenerationToArgilla, ratings_from_argilla
from course_lib.steps.base import GeneratorStep, GlobalStep, Step, StepColumns, StepInput, StepOutput, step
from course_lib.steps.columns import (
    CombineOutputs,
    ExpandColumns,
    GroupColumns,
    KeepColumns,
    MergeColumns,
    TruncateTextColumn,
)
from course_lib.steps.filtering import FilterRows
from course_lib.steps.formatting import (
    FormatChatGenerationDPO,
    FormatChatGenerationSFT,
    FormatTextGenerationDPO,
    FormatTextGenerationSFT,
)
from course_lib.steps.load import LoadDataFromDicts, LoadDataFromDisk, LoadDataFromFileSystem, LoadDataFromHub
from course_lib.steps.publishing import PushToHub

__getattr__ = absent(__name__)

__all__ = [
    "CombineOutputs",
    "ExpandColumns",
    "FilterRows",
    "FormatChatGenerationDPO",
    "FormatChatGenerationSFT",
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
    "MergeColumns",
    "PreferenceToArgilla",
    "PushToHub",
    "Step",
    "StepColumns",
    "StepInput",
    "StepOutput",
    "TextGenerationToArgilla",
    "TruncateTextColumn",
    "ratings_from_argilla",
    "step",
]
