"""Live figures: a picture that computes in the reader's browser with the chapter's own numbers.

`figure.py` is what they share; each chapter's figure has a file of its own.
"""

from babygpt_course.live.babygpt import babygpt_figure
from babygpt_course.live.bigram import bigram_figure
from babygpt_course.live.cross_attention import cross_attention_figure
from babygpt_course.live.dot_product_attention import (
    attention_reader_figure,
    dot_product_attention_figure,
)
from babygpt_course.live.figure import LiveFigure, to_safetensors
from babygpt_course.live.gpt import gpt_figure
from babygpt_course.live.llama import llama_figure
from babygpt_course.live.lora import lora_figure
from babygpt_course.live.multi_head_attention import multi_head_attention_figure
from babygpt_course.live.ngram import ngram_figure
from babygpt_course.live.precision import precision_figure
from babygpt_course.live.quantization import quantization_figure
from babygpt_course.live.roofline import roofline_figure
from babygpt_course.live.rope import rope_figure
from babygpt_course.live.sampling import sampling_figure
from babygpt_course.live.spatial_attention import spatial_attention_figure
from babygpt_course.live.tokenization import tokenization_figure
from babygpt_course.live.training import training_figure

__all__ = [
    "LiveFigure",
    "attention_reader_figure",
    "babygpt_figure",
    "bigram_figure",
    "cross_attention_figure",
    "dot_product_attention_figure",
    "gpt_figure",
    "llama_figure",
    "lora_figure",
    "multi_head_attention_figure",
    "ngram_figure",
    "precision_figure",
    "quantization_figure",
    "roofline_figure",
    "rope_figure",
    "sampling_figure",
    "spatial_attention_figure",
    "to_safetensors",
    "tokenization_figure",
    "training_figure",
]
