"""The exercises of chapter 06, in the order of the notebook."""

from babygpt_course.exercises.ex06 import (
    bug_hunt,
    cross_attention,
    greedy,
    padding_mask,
    predict,
)

EXERCISES = [
    m.exercise for m in (cross_attention, padding_mask, predict, greedy, bug_hunt)
]
