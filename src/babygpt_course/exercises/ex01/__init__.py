"""The exercises of chapter 01, in the order of the notebook."""

from babygpt_course.exercises.ex01 import (
    bits_per_char,
    bug_hunt,
    count_pairs,
    gradient,
    predict,
)

EXERCISES = [
    m.exercise for m in (count_pairs, bits_per_char, predict, bug_hunt, gradient)
]
