"""The live figure of chapter 11: what Python makes of it, and what a reader can do with it in a browser."""

import json

import pytest

from babygpt_course import ledger
from babygpt_course.errors import ConfigError
from babygpt_course.gpt import GPTConfig
from babygpt_course.ledger import Device
from babygpt_course.live import LiveFigure, roofline_figure
from babygpt_course.llama import LlamaConfig
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

MODELS = {
    "Small": GPTConfig(
        58, 64, 8, 8, 256, bias=False, tie=False, head_bias=True
    ),
    "Middle": GPTConfig(50_257, 1024, 12, 12, 768),
    "Large": LlamaConfig(
        4096, 32, 32, hidden_dim=11_008, max_seq_len=4096, tie=False
    ),
    "Grouped": LlamaConfig(
        4096, 32, 32, 8, hidden_dim=14_336, max_seq_len=8192, tie=False
    ),
}  # fmt: skip
HERE = Device("This core", 20e9, {"fp32": 80e9})
MEASURED = [("one row", 0.5, 9e9), ("training", 40.0, 50e9)]


def figure(**options) -> LiveFigure:
    options = {
        "here": HERE,
        "measured": MEASURED,
        "opens": "Large",
        "small": "Small",
        "code_href": "#code",
        "card": "Counts",
    } | options
    return roofline_figure(MODELS, **options)


@pytest.fixture(scope="module")
def fig() -> LiveFigure:
    return figure()


# --- what Python makes


def test_the_still_picture_says_the_finding(fig):
    t4, _, h200 = ledger.DEVICES
    ridges = [d.peaks[n] / d.bandwidth for d, n in ((t4, "fp16"), (h200, "bf16"))]
    for ridge in ridges:
        batch = ledger.ridge_batch(MODELS["Large"], ridge, width=2)
        assert f" {batch}" in fig.alt and f"<td>{batch}</td>" in fig.html
    assert "1.0 FLOP a byte" in fig.alt and "0.46 %" in fig.alt
    assert f'role="img" aria-label="{fig.alt}"' in fig.html
    assert fig.html.count("<tr>") == 1 + len(ledger.DEVICES)
    assert "never gets there on a T4" in fig.props["answer"]
    assert "all together never reach the ridge" in fig.props["answer"]
    assert len(fig.weights) < 100, "it has no weights"
    json.dumps(fig.props, allow_nan=False)


def test_faults_are_named():
    with pytest.raises(ConfigError, match="Huge"):
        figure(opens="Huge")
    with pytest.raises(ConfigError, match="Huge"):
        figure(small="Huge")
    with pytest.raises(ConfigError, match="positive"):
        figure(measured=[("one row", 0.0, 9e9)])
    with pytest.raises(ConfigError, match="positive"):
        figure(here=Device("This core", float("nan"), {"fp32": 80e9}))
    with pytest.raises(ConfigError, match="not what the title says"):
        figure(opens="Small")


# --- what a reader can do


@pytest.fixture(scope="module")
def site(fig, tmp_path_factory):
    with served(tmp_path_factory.mktemp("site"), index=fig) as address:
        yield address


@pytest.fixture
def visit(browser, site):
    with visiting(browser, site) as open_page:
        yield open_page


def dots(page) -> dict[str, list[str]]:
    """The table beside the picture: part -> intensity, attainable, limit."""
    rows = page.locator(".lf-picture tbody tr").all()
    return {
        row.locator("th").text_content(): [
            text.replace("\xa0", " ") for text in row.locator("td").all_text_contents()
        ]
        for row in rows
    }


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
    page.wait_for_timeout(250)
    assert sideways(page) <= 0
    assert len(dots(page)) == 5
    plot = page.locator(".lf-picture svg[role=img]")
    assert plot.locator("polyline").count() == 4 and plot.locator("text").count() > 15
    outside = plot.evaluate(
        """svg => { const box = svg.getBoundingClientRect();
        return [...svg.querySelectorAll('text, circle, path, rect')].filter(n => { const b = n.getBoundingClientRect();
        return b.left < box.left - 4 || b.right > box.right + 4 || b.top < box.top - 4 || b.bottom > box.bottom + 4 })
        .map(n => n.outerHTML) }"""
    )
    assert not outside
    assert page.locator("figure.lf").get_attribute("data-theme") == theme


@pytest.mark.browser
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing(visit, theme):
    page = visit(reduced_motion="reduce")
    page.evaluate("t => document.documentElement.dataset.theme = t", theme)
    for step in ("", "text=Just show me", "text=Show as table"):
        if step:
            page.click(step)
        assert not axe_findings(page)


@pytest.mark.browser
@pytest.mark.parametrize("width", [1280, 360])
def test_text_and_targets_are_large_enough(visit, width):
    page = visit(width=width)
    page.click("text=Just show me")
    page.click("text=Show as table")
    assert not small_text(page)
    assert (
        page.evaluate(
            "(s => s.clientWidth / s.viewBox.baseVal.width)(document.querySelector('.lf-picture svg[role=img]'))"
        )
        > 0.97
    ), "the plot is drawn at its size, so its 14 px are 14 px"
    assert not tiny_targets(page)


@pytest.mark.browser
def test_readable_without_scripts(visit, fig):
    page = visit(java_script_enabled=False, ready=None, width=360)
    assert page.get_by_role("img", name=fig.alt).is_visible()
    assert page.locator("tbody tr").count() == 3
    assert page.locator(".lf-readout").text_content() == fig.alt


@pytest.mark.browser
def test_predict_before_the_batch_is_told(visit):
    page = visit()
    assert "reach the ridge" not in readout(page)
    page.click("text=Check")
    assert "Choose everywhere" in said(page)
    page.get_by_label("Large on T4").select_option("2")
    page.get_by_label("Large on H200").select_option("3")
    page.get_by_label("Small on T4").select_option("never")
    page.click("text=Check")
    verdict = page.locator(".lf-verdict").text_content()
    assert verdict.startswith("2 of your 3 guesses are right")
    assert "Small on T4: never" in verdict
    ridge = 65e12 / 300e9
    batch = ledger.ridge_batch(MODELS["Large"], ridge, width=2)
    assert f"from {batch} texts on" in readout(page)
    assert "with the scores, never" in readout(page)


@pytest.mark.browser
def test_the_numbers_are_those_of_the_ledger(visit):
    page = visit()
    page.click("text=Just show me")
    for name, device, bits, mode, log_batch, log_length in (
        ("Large", "T4", 16, "decode", 0, 10),
        ("Small", "H200", 32, "decode", 12, 6),
        ("Middle", "A100", 16, "prefill", 3, 7),
        ("Grouped", "T4", 32, "decode", 7, 13),
        ("Large", "This core", 32, "prefill", 0, 4),
    ):
        page.get_by_label("Machine", exact=True).select_option(device)
        page.get_by_label("Model", exact=True).select_option(name)
        if device != "This core":
            page.click(f'[data-value="{bits}"]')
        page.click(f'[data-value="{mode}"]')
        page.get_by_role("slider", name="Batch").fill(str(log_batch))
        page.get_by_role("slider", name="Length").fill(str(log_length - 4))
        B, T, width = 2**log_batch, 2**log_length, bits // 8
        parts = (
            ledger.work(MODELS[name], B, 1, past=T - 1, width=width)
            if mode == "decode"
            else ledger.work(MODELS[name], B, T, width=width)
        )
        total = ledger.Work(
            sum(w.flops for w in parts.values()), sum(w.bytes for w in parts.values())
        )
        machine = next(d for d in (*ledger.DEVICES, HERE) if d.name == device)
        peak = list(machine.peaks.values())[0 if bits == 32 else 1]
        told = list(dots(page).values())
        for row, w in zip(told, [*parts.values(), total], strict=True):
            assert float(row[0].replace(",", "")) == pytest.approx(
                w.intensity, rel=0.05
            )
            value, unit = row[1].split()
            scale = {"G": 1e9, "T": 1e12}[unit[0]]
            most = ledger.attainable(w.intensity, peak, machine.bandwidth)
            assert float(value.replace(",", "")) * scale == pytest.approx(
                most, rel=0.02
            )
            below = w.intensity < peak / machine.bandwidth
            assert row[2] == ("memory" if below else "computing")


@pytest.mark.browser
def test_keys_change_the_batch_and_what_is_said(visit):
    page = visit()
    slider = page.get_by_role("slider", name="Batch")
    slider.press("End")
    assert "4,096 texts" in said(page)
    assert slider.get_attribute("aria-valuetext") == "4,096 texts"
    slider.press("Home")
    assert said(page).startswith("Large, one token for 1 text: 1.00 FLOP a byte")
    assert "Memory is the limit" in said(page)


@pytest.mark.browser
def test_a_short_model_has_short_texts_and_a_core_has_one_format(visit):
    page = visit()
    page.get_by_label("Model", exact=True).select_option("Small")
    length = page.get_by_role("slider", name="Length")
    assert length.get_attribute("aria-valuetext") == "64 tokens"
    length.press("End")
    assert length.get_attribute("aria-valuetext") == "64 tokens"
    page.get_by_label("Machine", exact=True).select_option("This core")
    assert page.locator('[data-value="16"]').is_disabled()
    assert page.locator('[data-value="32"]').get_attribute("aria-pressed") == "true"


@pytest.mark.browser
def test_this_browser_is_measured_when_the_reader_asks(visit):
    page = visit()
    page.click("text=Just show me")
    page.get_by_label("Machine", exact=True).select_option("This browser")
    assert "Press Measure this browser" in readout(page)
    plot = page.locator(".lf-picture svg[role=img]")
    assert plot.locator("polyline").count() == 4
    page.click("text=Measure this browser")
    page.wait_for_selector("text=Measure again", timeout=30_000)
    assert plot.locator("polyline").count() == 5
    assert "of the peak" in readout(page) and "LOP/s" in readout(page)
    page.click("text=Show as table")
    region = page.get_by_role("region", name="The numbers of the picture")
    row = region.locator("tr", has_text="This browser, fp32")
    flops, rate, _ = row.locator("td").all_text_contents()
    assert flops.endswith("FLOP/s") and rate.endswith("B/s")
    page.get_by_label("Machine", exact=True).select_option("T4")
    assert plot.locator("polyline").count() == 5, "its roof stays as a thin line"


@pytest.mark.browser
def test_what_was_measured_is_in_the_table(visit):
    page = visit()
    page.click("text=Show as table")
    region = page.get_by_role("region", name="The numbers of the picture")
    text = region.text_content().replace("\xa0", " ")
    assert "one row" in text and "50.0 GFLOP/s" in text and "T4, fp16" in text
    assert region.locator("tbody tr").count() == 5 + 4 + len(MEASURED)


@pytest.mark.browser
def test_state_from_a_link_is_mended(visit):
    page = visit(
        path="/#live-roofline-1?device=Abacus&bits=8&model=Small&batch=99&length=40&mode=x"
    )
    assert page.get_by_label("Machine", exact=True).input_value() == "T4"
    assert page.locator('[data-value="32"]').get_attribute("aria-pressed") == "true"
    assert page.get_by_role("slider", name="Batch").input_value() == "12"
    length = page.get_by_role("slider", name="Length")
    assert length.get_attribute("aria-valuetext") == "64 tokens"
    assert len(dots(page)) == 5
