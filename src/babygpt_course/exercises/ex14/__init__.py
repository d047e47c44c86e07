"""The exercises of chapter 14, in the order of the notebook."""

from babygpt_course.exercises.ex14 import bug_hunt, kahan, predict, rounding, scaler

EXERCISES = [m.exercise for m in (rounding, scaler, predict, bug_hunt, kahan)]
