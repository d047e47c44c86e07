"""The exercises of chapter 13, in the order of the notebook."""

from babygpt_course.exercises.ex13 import (
    bug_hunt,
    feedback,
    pack_groups,
    predict,
    quantize_rows,
)

EXERCISES = [
    m.exercise for m in (quantize_rows, pack_groups, predict, bug_hunt, feedback)
]
