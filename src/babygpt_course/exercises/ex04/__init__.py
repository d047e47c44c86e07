"""The exercises of chapter 04, in the order of the notebook."""

from babygpt_course.exercises.ex04 import (
    attention,
    bug_hunt,
    causal_mask,
    jacobian,
    predict,
)

EXERCISES = [m.exercise for m in (attention, causal_mask, predict, jacobian, bug_hunt)]
