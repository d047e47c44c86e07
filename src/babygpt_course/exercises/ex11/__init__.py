"""The exercises of chapter 11, in the order of the notebook."""

from babygpt_course.exercises.ex11 import (
    bug_hunt,
    mfu,
    predict,
    roofline,
    step_flops,
)

EXERCISES = [m.exercise for m in (step_flops, mfu, predict, bug_hunt, roofline)]
