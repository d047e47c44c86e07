"""The exercises of chapter 05, in the order of the notebook."""

from babygpt_course.exercises.ex05 import (
    induction,
    merge_heads,
    multi_head,
    predict,
    split_heads,
)

EXERCISES = [
    m.exercise for m in (split_heads, multi_head, predict, induction, merge_heads)
]
