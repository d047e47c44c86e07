"""The exercises of chapter 08, in the order of the notebook."""

from babygpt_course.exercises.ex08 import block, bug_hunt, layer_norm, lens, predict

EXERCISES = [m.exercise for m in (layer_norm, block, predict, bug_hunt, lens)]
