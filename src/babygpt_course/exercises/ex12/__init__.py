"""The exercises of chapter 12, in the order of the notebook."""

from babygpt_course.exercises.ex12 import (
    attribute,
    bug_hunt,
    factors,
    lora_linear,
    predict,
)

EXERCISES = [m.exercise for m in (lora_linear, factors, predict, bug_hunt, attribute)]
