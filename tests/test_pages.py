"""What a notebook shows: pictures with words, tables, recorded rows, the package's own source."""

import json
import re
import subprocess
import sys

import pytest

from babygpt_course import plots, results, show_source
from babygpt_course.errors import ConfigError
from babygpt_course.tokenizer import CharTokenizer

ROWS = [
    {"step": s, "train_loss": 3.0 - s / 100, "val_loss": 3.1 - s / 100, "seconds": s}
    for s in (0, 50, 100)
]


@pytest.mark.parametrize(
    "picture",
    [
        lambda: plots.loss_curve(ROWS, lines={"floor": 1.0}),
        lambda: plots.running_chart(
            [results.Row(0, "uniform", 0, 5.8, 0.0)], floor=0.3
        ),
        lambda: plots.bars(
            {"a": 0.5, " ": 0.25}, title="t", alt="a is most likely", xlabel="p"
        ),
        lambda: plots.heatmap(
            __import__("torch").ones(3, 3),
            "a b",
            title="t",
            alt="a table whose cells are all equal",
            log=True,
        ),
    ],
)
def test_pictures_carry_words_and_follow_the_page(picture):
    made = picture()
    html = made._repr_html_()
    assert re.search(r'<svg style="[^"]*" role="img" aria-label="[^"]{10,}"', html)
    assert "currentColor" in html and plots._INK not in html
    assert made.alt in repr(made)
    assert picture()._repr_html_() == html, "the same data must draw the same picture"


def test_the_alternative_text_states_the_numbers():
    alt = plots.loss_curve(ROWS, lines={"floor": 1.0}).alt
    assert "3.100" in alt and "2.100" in alt and "floor: 1.000" in alt


def test_running_table_records_with_provenance(tmp_path, monkeypatch):
    file = tmp_path / "running.json"
    monkeypatch.setenv("BABYGPT_COURSE_RECORD", str(file))
    row = results.Row(1, "bigram", 9, 3.5, 0.25)
    table = results.running_table([row], floor=0.5)
    assert "| bigram | 9 | 3.500 | 3.000 | 0.2 |" in table._repr_markdown_()
    results.running_table([row, results.Row(2, "trigram", 27, 3.0, 0.1)], floor=0.5)
    stale = results.Row(1, "bigram", 9, 9.9, 0.25)  # as a later chapter remembers it
    results.running_table([stale, results.Row(3, "tokens", 1, 2.0, 0.1)], floor=0.5)
    rows = json.loads(file.read_text())
    assert [r["model"] for r in rows] == ["bigram", "trigram", "tokens"]
    assert rows[0]["bits_per_char"] == 3.5, "the first to say it is the chapter itself"
    assert all(
        {"command", "commit", "date", "versions", "hardware"} <= r.keys() for r in rows
    )
    with pytest.raises(ConfigError, match="bits_per_char"):
        results.Row(1, "broken", 1, float("nan"), 0)


def test_every_recorded_result_says_where_it_came_from():
    for name in ("running", "chapters"):
        for row in results.recorded(name):
            assert {"command", "commit", "date", "versions", "hardware"} <= row.keys()


def test_show_source_is_the_source():
    shown = show_source(CharTokenizer.encode)
    assert shown.code.startswith("def encode(self, text: str)")
    assert shown._repr_markdown_().startswith("```python\ndef encode")


def test_import_is_light():
    """No matplotlib, no widgets, no torch until something needs them."""
    code = "import sys, babygpt_course; print([m for m in ('torch', 'matplotlib', 'anywidget') if m in sys.modules])"
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True
        ).stdout.strip()
        == "[]"
    )
