"""The exercises of chapter 10, in the order of the notebook."""

from babygpt_course.exercises.ex10 import (
    accumulate,
    adamw,
    bug_hunt,
    next_probs,
    predict,
)

EXERCISES = [m.exercise for m in (adamw, next_probs, predict, bug_hunt, accumulate)]
