"""The exercises of chapter 16, in the order of the notebook."""

from babygpt_course.exercises.ex16 import (
    bug_hunt,
    cached_step,
    grouped,
    predict,
    read_tensor,
)

EXERCISES = [m.exercise for m in (grouped, cached_step, predict, bug_hunt, read_tensor)]
