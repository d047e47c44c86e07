"""The exercises of chapter 02, in the order of the notebook."""

from babygpt_course.exercises.ex02 import (
    bug_hunt,
    continuation,
    count_contexts,
    predict,
    witten_bell,
)

EXERCISES = [
    m.exercise for m in (count_contexts, witten_bell, predict, continuation, bug_hunt)
]
