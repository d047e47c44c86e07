"""The exercises of chapter 03, in the order of the notebook."""

from babygpt_course.exercises.ex03 import (
    best_segmentation,
    bug_hunt,
    merge_pair,
    predict,
    train_bpe,
)

EXERCISES = [
    m.exercise for m in (merge_pair, train_bpe, predict, best_segmentation, bug_hunt)
]
