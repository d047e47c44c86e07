"""The exercises of chapter 15, in the order of the notebook."""

from babygpt_course.exercises.ex15 import (
    bug_hunt,
    predict,
    rms_norm,
    rotary,
    swiglu,
)

EXERCISES = [m.exercise for m in (rms_norm, rotary, predict, bug_hunt, swiglu)]
