"""Steps that ask a language model."""

from course_lib.absent import absent
from course_lib.steps.tasks.base import Task
from course_lib.steps.tasks.evol import EvolInstruct, EvolQuality
from course_lib.steps.tasks.likelihood import LikelihoodRating, RewardHeadRating, YesNoRating
from course_lib.steps.tasks.text_generation import ChatGeneration, TextGeneration
from course_lib.steps.tasks.ultrafeedback import UltraFeedback

__getattr__ = absent(__name__)

__all__ = [
    "ChatGeneration",
    "EvolInstruct",
    "EvolQuality",
    "LikelihoodRating",
    "RewardHeadRating",
    "Task",
    "TextGeneration",
    "UltraFeedback",
    "YesNoRating",
]
