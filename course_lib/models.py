"""Where distilabel 1.5 put its language models; here they are in `course_lib.llms`."""

from course_lib.llms import *  # noqa: F403
from course_lib.llms import __getattr__  # noqa: F401
