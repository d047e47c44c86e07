"""Live figures: a picture that computes in the reader's browser with the chapter's own numbers.

`figure.py` is what they share; each chapter's figure has a file of its own.
"""

from babygpt_course.live.bigram import bigram_figure
from babygpt_course.live.figure import LiveFigure, to_safetensors

__all__ = ["LiveFigure", "bigram_figure", "to_safetensors"]
