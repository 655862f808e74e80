"""Exercises that check themselves.

>>> from course_lib.exercises import chapter
>>> ex = chapter(3)
>>> ex.check("softmax_mean", ...)
softmax_mean: not attempted

The questions of a chapter stand in `chapter_1.py` … `chapter_7.py`, each a plain function that checks an answer.
"""

from course_lib.exercises.sheet import Sheet, chapter

__all__ = ["Sheet", "chapter"]
