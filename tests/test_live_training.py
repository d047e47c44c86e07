"""The training figure of chapter 10: what Python makes of it, and what a reader can do with it in a browser."""

import json
import math
import re

import pytest
import torch

from babygpt_course import tinytales
from babygpt_course.errors import ConfigError
from babygpt_course.live import LiveFigure, training_figure
from babygpt_course.live.rng import random_numbers
from babygpt_course.live.training import SEEN, STEPS, _descend, _due, _Run
from babygpt_course.tokenizer import CharTokenizer
from tests.figures.ops import random_numbers as one_by_one
from tests.figures.sgd import written
from tests.live_page import readout, served, visiting

TALES = "".join(tinytales.sample(70, seed=3))
TOKENIZER = CharTokenizer(TALES)
V = TOKENIZER.vocab_size
IDS = torch.tensor(TOKENIZER.encode(TALES))
TRAIN, VAL = IDS[:28_000], IDS[28_000:]
# A run that turns at step 200.
EXHIBIT = [
    {"step": s, "train_loss": a, "val_loss": b}
    for s, a, b in [
        (0, 4.0, 4.0),
        (100, 2.0, 2.1),
        (200, 1.5, 1.7),
        (300, 1.2, 1.8),
        (400, 1.0, 2.0),
        (500, 0.8, 2.3),
        (600, 0.7, 2.5),
    ]
]
RUNS = {"rate 0.1": EXHIBIT[:4], "rate 9": [*EXHIBIT[:2], {"step": 200, "train_loss": math.nan, "val_loss": math.inf}]}  # fmt: skip


def figure(**options) -> LiveFigure:
    options = {"exhibit": EXHIBIT, "runs": RUNS, "code_href": "#code", "card": "Runs"} | options  # fmt: skip
    return training_figure(TRAIN, VAL, TOKENIZER.chars, **options)


@pytest.fixture(scope="module")
def fig() -> LiveFigure:
    return figure()


def run(steps: int, **settings):
    return _descend(_Run("", **settings), TRAIN, VAL, V, steps, seed=1)


# --- what Python makes


def test_the_page_is_small_and_asks_nobody(fig, monkeypatch, tmp_path):
    monkeypatch.setenv("BABYGPT_COURSE_STATIC", str(tmp_path))
    page = fig._repr_mimebundle_()["text/html"]
    assert page == figure().html, "the same numbers must make the same page"
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")
    props = json.loads(re.search(r"data-props>(.*?)</script>", page, re.S)[1])
    assert [r["name"] for r in props["runs"]] == ["A published run", "rate 0.1", "rate 9"]  # fmt: skip
    assert len(props["runs"][2]["rows"]) == 2, "drawn as far as it is finite"
    assert props["sizes"] == [70, 280, 2800, 28_000]
    assert len(fig.weights) < len(IDS) + 300, "one byte a character"


def test_the_finding_has_the_numbers(fig):
    assert "lowest at step 200, 1.700 nats, and 2.500 at step 600" in fig.alt
    assert "from 1.500 to 0.700" in fig.alt
    assert f'role="img" aria-label="{fig.alt}"' in fig.html
    assert fig.html.count("<tr>") == 1 + 7 + 4 + 2 + len(SEEN) - 1


def test_the_words_of_the_page_were_seen(fig):
    seen = fig.props["seen"]
    assert math.log(V) > seen["base"]["end"][2]
    far = run(300, lr=300, batch=64, share=1)[-1]
    assert far[2] > math.log(V), "its number is not on the page: rounding decides it"
    assert set(seen) == set(SEEN) - {"far"}
    assert seen["small_batch"]["end"][2] > seen["large_batch"]["end"][2]
    assert seen["little"]["end"][2] > seen["decay"]["end"][2] > 0
    assert all(row["end"][0] == STEPS for row in seen.values())


def test_far_above_the_start_rounding_decides(monkeypatch):
    """Why no number of the run at rate 300 is on the page."""
    wild = {"lr": 300, "batch": 64, "share": 1}
    calm = {"lr": 10, "batch": 64, "share": 1}
    before = [run(300, **settings)[-1] for settings in (wild, calm)]
    zeros = torch.zeros
    monkeypatch.setattr(torch, "zeros", lambda *a, **k: zeros(*a, **k) + 1e-15 * torch.arange(V))  # fmt: skip
    after = [run(300, **settings)[-1] for settings in (wild, calm)]
    assert abs(before[0][2] - after[0][2]) > 0.01
    assert before[1] == after[1]


def test_the_closed_form_is_the_gradient_of_autograd():
    """Python's own run against torch.optim.SGD; tests/figures/sgd.py holds JavaScript to the same."""
    from tests.figures.sgd import descend

    for lr, batch, decay in [(10.0, 16, 0.0), (30.0, 3, 1e-3)]:
        options = {"lr": lr, "batch": batch, "decay": decay}
        made = descend(TRAIN, VAL, V, 1, n=len(TRAIN), steps=12, **options)["losses"]
        ours = run(12, share=1, **options)
        assert [list(row[1:]) for row in ours] == [pytest.approx(m, abs=1e-4) for m in made]  # fmt: skip


def test_random_numbers_at_once_are_those_one_by_one():
    for seed in (0, 1, 1337, 2**32 - 1):
        assert random_numbers(seed, 50).tolist() == one_by_one(seed, 50)


def test_losses_are_kept_ever_less_often():
    steps = [s for s in range(STEPS + 1) if _due(s)]
    assert steps[:66] == [*range(65), 66] and len(steps) < 300
    assert all(_due(s) for s in (0, 1, 2, 4, 64, 128, 1024, 2048))


def test_what_shows_nothing_is_refused():
    with pytest.raises(ConfigError, match="best validation"):
        figure(exhibit=EXHIBIT[:3])
    with pytest.raises(ConfigError, match="order"):
        figure(exhibit=EXHIBIT[::-1])
    with pytest.raises(ConfigError, match="finite"):
        figure(runs={"lost": [{"step": 0, "train_loss": math.nan, "val_loss": 1}]})
    with pytest.raises(ConfigError, match="20,000"):
        training_figure(TRAIN[:500], VAL, TOKENIZER.chars)
    with pytest.raises(ConfigError, match="Ids"):
        training_figure(TRAIN, VAL, TOKENIZER.chars[:9])
    even = torch.arange(30_000) % 7  # nothing to overfit
    with pytest.raises(ConfigError, match="does not show"):
        training_figure(even, even, "abcdefg")


def test_without_an_exhibit_there_is_no_question():
    alone = figure(exhibit=None, runs=None)
    assert not alone.props["exhibit"] and alone.props["runs"] == []
    assert "bigram table trained on 70 characters" in alone.alt


# --- what a reader can do


@pytest.fixture(scope="module")
def site(fig, tmp_path_factory):
    with served(tmp_path_factory.mktemp("site"), index=fig) as address:
        yield address


@pytest.fixture
def visit(browser, site):
    with visiting(browser, site) as open_page:
        yield open_page


def fits(page, look: str) -> None:
    """In this look nothing is wider than the screen, smaller than 14 px, or too small to hit."""
    if look == "print":
        page.emulate_media(media="print")
    elif look == "forced":
        page.emulate_media(forced_colors="active")
    else:
        page.evaluate("t => document.documentElement.dataset.theme = t", look)
    page.wait_for_timeout(250)
    side = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.evaluate(side) <= 0
    small = page.evaluate(
        """[...document.querySelectorAll('.lf *')].filter(n => [...n.childNodes].some(c => c.nodeType === 3 &&
        c.data.trim()) && n.tagName !== 'STYLE' && parseFloat(getComputedStyle(n).fontSize) < 14).map(n => n.outerHTML)"""
    )
    tiny = page.evaluate(
        """[...document.querySelectorAll('.lf :is(button, select, input, a, summary)')].filter(n => {
        const b = n.getBoundingClientRect(); return b.width && b.height < 24 }).map(n => n.outerHTML)"""
    )
    assert not small and not tiny


def train_here(page):
    page.get_by_label("Run", exact=True).select_option("here")


def at_rest(page, step: int) -> str:
    """What the figure says when the run has reached this step."""
    page.wait_for_function(
        "s => document.querySelector('.lf-readout').textContent.startsWith(s)",
        arg=f"Step {step:,}: ",
        timeout=60_000,
    )
    return readout(page)


def losses(words: str) -> list[float]:
    found = re.search(r"training ([\d.]+), validation ([\d.]+) nats", words)
    return [float(found[1]), float(found[2])]


def near(rows):
    """The last losses that Python has, which are rounded too."""
    return pytest.approx(rows[-1][1:], abs=6e-4)


def samples(page) -> dict[str, str]:
    rows = page.locator(".lf-text tbody tr")
    return {
        row.locator("th").text_content(): row.locator("td").text_content()
        for row in rows.all()
    }


@pytest.mark.browser
@pytest.mark.parametrize("look", ["light", "dark", "print", "forced"])
@pytest.mark.parametrize("width", [1280, 360])
def test_every_look_fits_the_screen(visit, width, look):
    page = visit(width=width)
    fits(page, look)
    assert "2.500" not in readout(page)
    page.emulate_media(media="screen")
    page.click("text=Just show me")
    train_here(page)
    page.click("text=100 steps")
    at_rest(page, 100)
    fits(page, look)


@pytest.mark.browser
def test_readable_without_scripts(visit, fig):
    page = visit(java_script_enabled=False, ready=None, width=360)
    assert page.get_by_role("img", name=fig.alt).is_visible()
    assert readout(page) == fig.alt
    assert page.locator("tbody tr").count() == 7 + 4 + 2 + len(SEEN) - 1


@pytest.mark.browser
def test_draw_where_validation_goes(visit):
    page = visit()
    picture = page.locator(".lf-picture svg[role=img]")
    shown = "document.querySelector('.lf').textContent"
    page.click("text=Show as table")
    assert "2.300" not in page.evaluate(shown) and "hidden" in page.evaluate(shown)
    for _ in range(2):
        page.get_by_role("slider", name="At step 400").press("ArrowUp")
    page.get_by_role("slider", name="At step 600").press("Home")
    dots = picture.locator("circle")
    assert dots.count() == 4, "three guesses and the best"
    box = picture.bounding_box()
    page.mouse.click(box["x"] + box["width"] - 14, box["y"] + 12)  # the top, the end
    slider = page.get_by_role("slider", name="At step 600")
    assert slider.get_attribute("aria-valuetext") == "4.00 nats"
    page.click("text=Check")
    verdict = page.locator(".lf-verdict").text_content()
    assert verdict.startswith("It rises, as you drew.")
    assert "at step 400 you put 1.80, it was 2.000" in verdict
    assert "at step 600 you put 4.00, it was 2.500" in verdict
    assert not page.get_by_text("Predict first").is_visible()
    assert readout(page).startswith("Step 600: training 0.700, validation 2.500")
    page.get_by_role("slider", name="Evaluation").press("Home")
    assert readout(page).startswith("Step 0: training 4.000")
    page.get_by_label("Run", exact=True).select_option(label="rate 9")
    assert readout(page).startswith("Step 100: training 2.000, validation 2.100")


@pytest.mark.browser
def test_the_run_of_the_browser_is_that_of_python(visit):
    page = visit()
    train_here(page)
    page.click("text=100 steps")
    assert losses(at_rest(page, 100)) == near(run(100, lr=10, batch=64, share=1))
    page.click("text=1 step")
    assert losses(at_rest(page, 101)) == near(run(101, lr=10, batch=64, share=1))
    # Another setting makes the run again, up to the same step.
    moves = [("Training text", "Home"), ("Batch", "End"), ("Weight decay", "End"), ("Learning rate", "End")]  # fmt: skip
    for name, key in moves:
        page.get_by_role("slider", name=name).press(key)
    page.get_by_text("Least possible on these 70 characters").wait_for()
    page.get_by_role("slider", name="Learning rate").fill("5")
    settings = {"lr": 30, "batch": 512, "share": 0.0025, "decay": 1e-3}
    assert losses(at_rest(page, 101)) == near(run(101, **settings))


@pytest.mark.browser
def test_the_samples_are_those_of_python(visit, fig):
    page = visit()
    train_here(page)
    page.click("text=1 step")
    at_rest(page, 1)
    made = samples(page)
    assert set(made) == {"0", "1"}
    first = TOKENIZER.encode("\n")[0]
    text = TOKENIZER.decode(written(torch.zeros(V, V).double(), first, 64, 1))
    assert made["0"] == text.replace("\n", "")


@pytest.mark.browser
def test_play_pause_and_start_over(visit):
    page = visit()
    train_here(page)
    page.get_by_role("button", name="Play").press("Enter")
    page.wait_for_function("document.querySelector('.lf-readout').textContent > 'Step 2'")  # fmt: skip
    page.get_by_role("button", name="Pause").press("Enter")
    step = re.match(r"Step ([\d,]+):", readout(page))[1]
    page.wait_for_timeout(200)
    assert readout(page).startswith(f"Step {step}:"), "it rests"
    page.click("text=Start over")
    assert f"Step 0: training {math.log(V):.3f}" in at_rest(page, 0)
    page.click("text=Play")
    at_rest(page, STEPS)
    assert page.get_by_role("button", name="Play").is_visible()
    assert set(samples(page)) == {"0", "10", "100", "1,000", f"{STEPS:,}"}
    page.get_by_role("slider", name="Learning rate").press("End")
    page.wait_for_function("document.querySelector('.lf-readout').textContent.includes('the steps are too long')")  # fmt: skip
    assert page.get_by_text("validation of the run before").is_visible()


@pytest.mark.browser
def test_a_link_carries_the_state_and_odd_ones_do_no_harm(visit):
    page = visit()
    train_here(page)
    page.get_by_role("slider", name="Learning rate").press("Home")
    page.click("text=100 steps")
    words = at_rest(page, 100)
    page.click("text=Copy link")
    again = visit("/" + page.evaluate("location.hash"))
    assert at_rest(again, 100) == words
    odd = visit("/#live-training-1?run=77&at=no&lr=-4&batch=1e9&step=x&share=&open=1")
    assert readout(odd).startswith("Step 200: training 1.500")
    assert odd.get_by_text("Predict first").is_visible()
    page.click("text=Reset")
    assert page.get_by_text("Predict first").is_visible()


@pytest.mark.browser
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("opened", [False, True])
def test_axe_finds_nothing(visit, theme, opened):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    page = visit()
    page.evaluate("t => document.documentElement.dataset.theme = t", theme)
    if opened:
        page.click("text=Just show me")
        train_here(page)
        page.click("text=100 steps")
        at_rest(page, 100)
        page.click("text=Show as table")
        page.click("summary")
    page.wait_for_timeout(300)
    found = axe.Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
