"""What `check` answers: one of six outcomes, as text and as HTML."""

import html
import re
from dataclasses import dataclass
from enum import StrEnum

from babygpt_course import links


class Outcome(StrEnum):
    """What can come of an answer."""

    NOT_ATTEMPTED = "not attempted"
    WRONG_TYPE = "wrong type or shape"
    WRONG_VALUE = "wrong value"
    RULE_BROKEN = "rule broken"
    TOO_SLOW = "too slow"
    PASSED = "passed"

    @property
    def mark(self) -> str:
        """A sign beside the words, which say it without color and without the sign."""
        return {"passed": "✓", "not attempted": "○"}.get(self, "✗")


def chapter_url(chapter: str, anchor: str) -> str:
    """The address of a section; `chapter` is the file's name, such as "01_bigram"."""
    return f"{links.SITE}/chapters/{chapter}.html#{anchor}"


CAPTION = "The smallest case that goes wrong"


@dataclass(frozen=True)
class Result:
    """One checked answer. Shows itself at the end of a notebook cell."""

    id: str
    title: str
    outcome: Outcome
    message_id: str
    points: int
    max_points: int
    says: str  # what happened, and the misconception behind it where it is known
    think: str = ""  # what to think about next
    link: str = ""  # the section of the chapter that repairs it
    case: tuple[tuple[str, str], ...] = ()  # ("input", ...), ("expected", ...), ...
    note: str = ""  # about the progress file, when there is something to say

    @property
    def passed(self) -> bool:
        """Is the answer right?"""
        return self.outcome is Outcome.PASSED

    @property
    def headline(self) -> str:
        """The first line: mark, exercise, outcome."""
        return f"{self.outcome.mark} {self.id} {self.title}: {self.outcome}"

    def __repr__(self) -> str:
        lines = [f"{self.headline}   [{self.points} of {self.max_points} points]"]
        if self.case:
            width = max(len(name) for name, _ in self.case) + 2
            lines += ["", f"{CAPTION}:"] if self.case[0][0] == "input" else [""]
            for name, value in self.case:
                lines += [
                    f"  {name:{width}}" + value.replace("\n", "\n" + " " * (width + 2))
                ]
        lines += [""] * bool(self.case) + [self.says]
        lines += [f"Think about this: {self.think}"] * bool(self.think)
        lines += [f"Read: {self.link}"] * bool(self.link)
        lines += [f"Note: {self.note}"] * bool(self.note)
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        is_case = bool(self.case) and self.case[0][0] == "input"
        caption = f"<caption {LEFT}>{CAPTION}</caption>" * is_case
        rows = "".join(
            f"<tr><th scope='row' {LEFT}>{name}</th>"
            f"<td {LEFT}><pre {CODE}>{html.escape(value)}</pre></td></tr>"
            for name, value in self.case
        )
        parts = [
            f"<p {TEXT}><strong>{html.escape(self.headline)}</strong>"
            f" &nbsp; {self.points} of {self.max_points} points</p>",
            f"<table style='margin:8px 0;border-collapse:collapse'>{caption}"
            f"<tbody>{rows}</tbody></table>" * bool(rows),
            f"<p {TEXT}>{rich(self.says)}</p>",
            f"<p {TEXT}><strong>Think about this:</strong> {rich(self.think)}</p>"
            * bool(self.think),
            f"<p {TEXT}><a href='{html.escape(self.link)}'>"
            "Read the part of the chapter that explains it</a></p>" * bool(self.link),
            f"<p {TEXT}><strong>Note:</strong> {html.escape(self.note)}</p>"
            * bool(self.note),
        ]
        label = f"Exercise {self.id}: {self.outcome}"
        return card("".join(parts), label, solid=self.passed)


LEFT = "style='text-align:left;vertical-align:top;padding:2px 12px 2px 0'"
CODE = "style='margin:0;white-space:pre-wrap;overflow-wrap:anywhere'"
TEXT = "style='margin:6px 0 0'"


def card(body: str, label: str, solid: bool = True) -> str:
    """A box in the colors of the page around it."""
    edge = f"border:1px solid;border-left:5px {'solid' if solid else 'dashed'}"
    style = f"{edge};padding:8px 14px;max-width:46rem"
    open_tag = f'<section class="course-result" aria-label="{html.escape(label)}"'
    return f'{open_tag} style="{style}">{body}</section>'


def rich(text: str) -> str:
    """Plain text as HTML, with `code` in code type and blank lines as new lines."""
    escaped = re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text))
    return escaped.replace("\n", "<br>")
