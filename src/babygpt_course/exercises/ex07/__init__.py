"""The exercises of chapter 07, in the order of the notebook."""

from babygpt_course.exercises.ex07 import (
    bug_hunt,
    group_norm,
    predict,
    receptive_field,
    to_positions,
)

EXERCISES = [
    m.exercise for m in (to_positions, group_norm, predict, receptive_field, bug_hunt)
]
