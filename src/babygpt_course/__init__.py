"""Language models from a bigram table to LLaMA, small enough to train in a minute and to look inside."""

from babygpt_course.notebook import setup, show_source

__version__ = "0.1.0"
__all__ = ["setup", "show_source"]
