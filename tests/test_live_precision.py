"""The live figure of chapter 14: what Python makes of it, and what a reader can do with it in a browser."""

import json
import math
import re

import pytest
import torch

from babygpt_course import corpus
from babygpt_course.errors import ConfigError
from babygpt_course.gpt import GPT, GPTConfig
from babygpt_course.live import LiveFigure, precision_figure
from babygpt_course.live.precision import (
    SCALES,
    Histogram,
    fates,
    histogram,
    record,
    unchanged,
)
from babygpt_course.precision import BF16, FORMATS, FP16, FP32, round_to
from babygpt_course.tokenizer import CharTokenizer
from babygpt_course.trainer import get_batch
from tests.live_page import (
    axe_findings,
    readout,
    said,
    served,
    sideways,
    small_text,
    tiny_targets,
    visiting,
)


@pytest.fixture(scope="module")
def made() -> tuple[GPT, torch.Tensor]:
    """A model as small as shows it, and its text."""
    text = corpus.load("tinytales").train[:60_000]
    tokenizer = CharTokenizer(text)
    torch.manual_seed(0)
    config = GPTConfig(tokenizer.vocab_size, 32, 1, 2, 48)
    return GPT(config), torch.tensor(tokenizer.encode(text))


@pytest.fixture(scope="module")
def fig(made) -> LiveFigure:
    model, ids = made
    before = {k: v.clone() for k, v in model.state_dict().items()}
    options = {"block_size": 32, "steps": (1, 20, 120), "code_href": "#code"}
    figure = precision_figure(model, ids, card="A small GPT", **options)
    assert all(v.equal(before[k]) for k, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    return figure


@pytest.fixture(scope="module")
def last(fig):
    """The last recorded step, read back from what the page is given."""
    i = len(fig.props["steps"]) - 1
    w, update = (fig.tensors[f"{n}.{i}"].view(torch.float32) for n in ("w", "update"))
    return fig.props["steps"][i], fig.tensors[f"outputs.{i}"], w, update


# --- what Python makes


def test_a_histogram_knows_the_fate_of_every_gradient():
    generator = torch.Generator().manual_seed(1)
    g = torch.randn(20_000, generator=generator)
    g *= 2.0 ** (7 * torch.randn(20_000, generator=generator) - 17)
    g[::10] = 0
    made = histogram(g)
    assert made.total == int((g != 0).sum())
    for format in FORMATS.values():
        for scale in (0, 7, 16, 24):
            told = fates(made, scale, format)
            assert sum(told.values()) == made.total
            y = round_to(g[g != 0].abs().double() * 2.0**scale, format)
            assert told["zero"] == int((y == 0).sum())
            over = int((~y.isfinite()).sum())
            assert abs(told["overflow"] - over) <= 2
            assert (told["overflow"] > 0) == (over > 0)


def test_what_cannot_be_counted_is_named():
    for x in (torch.zeros(3), torch.tensor([1.0, math.nan]), torch.tensor([])):
        with pytest.raises(ConfigError, match="finite"):
            histogram(x)


def test_updates_below_half_a_gap_change_nothing():
    weights = torch.tensor([1.0, 1.0, 1.0, 2.0, 1.0])
    updates = torch.tensor([2.0**-8, 2.0**-8 * 1.01, -(2.0**-9), 0.0, 2.0**-12])
    # Below 1 the gap is half as wide: the negative one is a tie, and goes back to 1.
    assert unchanged(weights, updates, BF16) == 0.75
    assert unchanged(weights, updates, FP16) == 0.25
    assert unchanged(weights, updates, FP32) == 0


def test_the_run_is_adamw_in_fp32(made):
    model, ids = made
    (told,) = record(
        model, ids, 32, steps=(2,), batch_size=4, lr=3e-3, seed=5
    )  # fmt: skip
    torch.manual_seed(9)
    again = GPT(model.config)
    again.load_state_dict(model.state_dict())
    generator = torch.Generator().manual_seed(5)
    optimizer = torch.optim.AdamW(again.parameters(), lr=3e-3)
    for _ in range(2):
        _, loss = again(*get_batch(ids, 4, 32, generator))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert told.loss == float(loss.detach())
    gradients = torch.cat([p.grad.flatten() for p in again.parameters()])
    assert told.gradients["weights"] == histogram(gradients)
    assert told.gradients["weights"].top == float(gradients.abs().max())


def test_the_still_picture_says_the_finding(fig, last):
    step, counts, w, update = last
    lost = 100 * _zero(counts, step["outputs"]["low"], 0) / int(counts.sum())
    assert f"{lost:.1f} %" in fig.alt and f"step {step['step']}" in fig.alt
    assert f"{100 * unchanged(w, update, BF16):.0f} %" in fig.alt
    assert f"2^{fig.props['best']}" in fig.alt
    assert f'role="img" aria-label="{fig.alt}"' in fig.html
    assert fig.html.count("<tr>") == 1 + len(FORMATS)
    assert len(fig.weights) < 600 * 1024
    json.dumps(fig.props, allow_nan=False)


def _zero(counts, low: int, scale: int) -> int:
    """How many gradients are below half of fp16's smallest number, whose edge is a bin's."""
    return int(counts[: max(0, (-25 - scale - low) * 16)].sum())


def test_faults_are_named(made):
    model, ids = made
    for steps in ((), (0, 5), (5, 5), (9, 3)):
        with pytest.raises(ConfigError, match="ascend"):
            precision_figure(model, ids, block_size=32, steps=steps)
    with pytest.raises(ConfigError, match="33"):
        precision_figure(model, ids[:20], block_size=32)
    with pytest.raises(ConfigError, match=r"does not show: .*updates"):
        # So large a rate moves everything.
        precision_figure(model, ids, block_size=32, steps=(1,), lr=0.5)


# --- what a reader can do


@pytest.fixture(scope="module")
def site(fig, tmp_path_factory):
    with served(tmp_path_factory.mktemp("site"), index=fig) as address:
        yield address


@pytest.fixture
def visit(browser, site):
    with visiting(browser, site) as open_page:
        yield open_page


def line(page):
    return page.locator(".lf-picture svg[role=img]").first


def choose(page, format):
    page.get_by_label("Format", exact=True).select_option(format)


@pytest.mark.browser
@pytest.mark.parametrize("look", ["light", "dark", "print", "forced colors"])
@pytest.mark.parametrize("width", [1280, 360])
def test_every_look_fits_the_screen(visit, width, look):
    page = visit(width=width)
    theme = "dark" if look == "dark" else "light"
    page.evaluate("t => document.documentElement.dataset.theme = t", theme)
    page.click("text=Just show me")
    page.click("text=Show as table")
    if look == "print":
        page.emulate_media(media="print")
    if look == "forced colors":
        page.emulate_media(forced_colors="active")
    for view in ("gradients", "all", "small", "one"):
        page.get_by_label("Show", exact=True).evaluate(
            "(n, v) => { n.value = v; n.dispatchEvent(new Event('change')) }", view
        )
        page.wait_for_timeout(60)
        assert sideways(page) <= 0
        outside = page.evaluate(
            """() => [...document.querySelectorAll('.lf-picture svg[role=img]')].flatMap(svg => {
            const box = svg.getBoundingClientRect();
            return [...svg.querySelectorAll('text, path, rect, line')].filter(n => { const b = n.getBoundingClientRect();
            return b.width + b.height && (b.left < box.left - 4 || b.right > box.right + 4 || b.top < box.top - 4 ||
            b.bottom > box.bottom + 4) }).map(n => n.outerHTML) })"""
        )
        assert not outside
    assert page.locator("figure.lf").get_attribute("data-theme") == theme


@pytest.mark.browser
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_letters_targets_and_axe(visit, theme, width):
    page = visit(width=width)
    page.evaluate("t => document.documentElement.dataset.theme = t", theme)
    assert not axe_findings(page)
    page.click("text=Just show me")
    page.click("text=Show as table")
    assert not small_text(page) and not tiny_targets(page) and not axe_findings(page)
    for svg in page.locator(".lf-picture svg[role=img]").all():
        drawn = svg.evaluate("s => s.clientWidth / s.viewBox.baseVal.width")
        assert drawn > 0.97, "a plot is drawn at its size, so its 14 px are 14 px"


@pytest.mark.browser
def test_readable_without_scripts(visit, fig):
    page = visit(java_script_enabled=False, ready=None, width=360)
    assert page.get_by_role("img", name=fig.alt).is_visible()
    assert page.locator("tbody tr").count() == len(FORMATS)
    assert page.locator(".lf-readout").text_content() == fig.alt


@pytest.mark.browser
def test_predict_before_it_is_told(visit, last):
    _, _, w, update = last
    page = visit()
    assert "leave a weight" not in readout(page)
    page.click("text=Show as table")
    assert "hidden" in page.get_by_role("region").text_content()
    page.click("text=Check")
    assert "Choose everywhere" in said(page)
    page.get_by_label("In fp32", exact=True).select_option("4")
    page.get_by_label("In fp16", exact=True).select_option("4")
    share = unchanged(w, update, BF16)
    assert 0.1 <= share < 0.5
    page.get_by_label("In bf16", exact=True).select_option("3")
    page.click("text=Check")
    verdict = page.locator(".lf-verdict").text_content().replace("\xa0", " ")
    assert verdict.startswith("1 of your 3 guesses is right")
    assert f"bf16: {100 * share:.1f} %" in verdict
    choose(page, "bf16")
    assert f"{100 * share:.1f} %" in readout(page).replace("\xa0", " ")


def shares(text: str) -> tuple[float, int]:
    """Per cent that become 0, and how many overflow, as a readout says it."""
    text = text.replace("\xa0", " ").replace(",", "")
    zero = re.search(r"(none|<0\.01 %|[\d.]+ %) become 0", text)[1]
    over = re.search(r"(none|\d+) overflow", text)[1]
    number = 0.0 if zero == "none" else float(re.search(r"[\d.]+", zero)[0])
    return number, 0 if over == "none" else int(over)


@pytest.mark.browser
def test_the_numbers_are_pythons(visit, fig):
    page = visit()
    page.click("text=Just show me")
    slider = page.get_by_role("slider", name="Loss times")
    steps = page.get_by_role("slider", name="Training")
    for name, kind, i, scale in (
        ("fp16", "outputs", 2, 0), ("fp16", "outputs", 0, 24), ("bf16", "weights", 1, 0),
        ("fp8_e5m2", "weights", 2, 9), ("fp8_e4m3", "outputs", 1, 20), ("fp32", "outputs", 2, 24),
    ):  # fmt: skip
        choose(page, name)
        page.click(f'[data-value="{kind}"]')
        steps.fill(str(i))
        slider.fill(str(scale))
        step = fig.props["steps"][i]
        counts = fig.tensors[f"{kind}.{i}"].tolist()
        made = Histogram(counts, step[kind]["low"], step[kind]["top"])
        told = fates(made, scale, FORMATS[name])
        zero, over = shares(readout(page))
        assert zero == pytest.approx(100 * told["zero"] / made.total, abs=0.06)
        assert over == told["overflow"]
        w, update = (
            fig.tensors[f"{n}.{i}"].view(torch.float32) for n in ("w", "update")
        )
        share = 100 * unchanged(w, update, FORMATS[name])
        said_ = page.locator(".lf-readout b").text_content()
        number = 0.0 if said_ == "none" else float(re.search(r"[\d.]+", said_)[0])
        assert number == pytest.approx(share, abs=0.06)


@pytest.mark.browser
def test_keys_move_the_scale_until_gradients_overflow(visit, fig):
    page = visit()
    slider = page.get_by_role("slider", name="Loss times")
    slider.press("End")
    assert f"2^{SCALES - 1}" in said(page)
    assert slider.get_attribute("aria-valuetext") == "2^24 = 16,777,216"
    page.click('[data-value="weights"]')
    assert "overflow, so the step is skipped" in said(page)
    assert line(page).locator("rect.overflow").count() > 0
    slider.fill(str(fig.props["best"]))
    assert "none overflow" in said(page)
    slider.press("Home")
    page.click('[data-value="outputs"]')
    assert line(page).locator("rect.zero").count() > 0
    choose(page, "bf16")
    assert "none become 0" in said(page)
    assert line(page).locator("rect.zero").count() == 0


@pytest.mark.browser
def test_each_number_is_a_tick_from_1_to_4(visit):
    page = visit()
    page.get_by_label("Show", exact=True).select_option("one")
    ticks = line(page).locator("path.ticks")
    numbers = ticks.evaluate_all("all => all.map(n => Number(n.dataset.n))")
    # bf16, e4m3, e5m2: two octaves and the 4 itself; fp32 and fp16 have too many.
    assert numbers == [2 * 128 + 1, 2 * 8 + 1, 2 * 4 + 1]
    choose(page, "fp8_e4m3")
    page.get_by_label("Show", exact=True).select_option("small")
    numbers = ticks.evaluate_all("all => all.map(n => Number(n.dataset.n))")
    # Up to 2^-3: 7 subnormal, then 8 an octave. e5m2 at the same place has 4 an octave.
    assert numbers[0] == 7 + 3 * 8 + 1


@pytest.mark.browser
def test_a_weight_stands_still_below_half_a_gap(visit):
    page = visit()
    size = page.get_by_role("slider", name="Each update")
    own = page.locator(".lf-picture svg[role=img]").nth(1).locator("polyline").nth(1)
    assert "never moves" in page.locator(".lf-picture").text_content()
    for name, eps in (("fp16", 2.0**-10), ("bf16", 2.0**-7), ("fp8_e5m2", 0.25)):
        choose(page, name)
        half = round(-math.log2(eps / 2))
        size.fill(str(half - 2))
        assert "the weight never moves" in page.locator(".lf-picture").text_content()
        heights = {p.split(",")[1] for p in own.get_attribute("points").split()}
        assert len(heights) == 1
        size.fill(str(half - 3))
        assert "it stands still at" in page.locator(".lf-picture").text_content() or (
            "it still moves" in page.locator(".lf-picture").text_content()
        )
        heights = {p.split(",")[1] for p in own.get_attribute("points").split()}
        assert len(heights) > 1
    size.press("End")
    assert "2^−26" in size.get_attribute("aria-valuetext")
    assert "with a master in fp32" in said(page)


@pytest.mark.browser
def test_state_from_a_link_is_mended(visit):
    page = visit(
        path="/#live-precision-1?format=fp4&of=x&at=99&scale=-3&view=y&update=400"
    )
    assert page.get_by_label("Format", exact=True).input_value() == "fp16"
    assert page.get_by_label("Show", exact=True).input_value() == "gradients"
    training = page.get_by_role("slider", name="Training")
    assert training.get_attribute("aria-valuetext").startswith("step 120, loss ")
    loss = page.get_by_role("slider", name="Loss times")
    assert loss.get_attribute("aria-valuetext") == "1"
    size = page.get_by_role("slider", name="Each update")
    assert size.get_attribute("aria-valuetext").startswith("2^−26")


@pytest.mark.browser
def test_reset_keeps_the_answer(visit):
    page = visit()
    page.click("text=Just show me")
    choose(page, "bf16")
    page.click("text=Reset")
    assert page.get_by_label("Format", exact=True).input_value() == "fp16"
    assert "leave a weight kept in fp16" in readout(page)
