"""The exercises of chapter 09, in the order of the notebook."""

from babygpt_course.exercises.ex09 import bug_hunt, forward, hex_floor, predict, size

EXERCISES = [m.exercise for m in (size, forward, predict, bug_hunt, hex_floor)]
