"""The live figure of chapter 07: what Python makes of it, and what a reader can do with it in a browser."""

import json
import re
from pathlib import Path

import pytest
import torch
from torch import nn

from babygpt_course import vision
from babygpt_course.errors import ConfigError
from babygpt_course.live import LiveFigure, spatial_attention_figure
from babygpt_course.live import spatial_attention as module
from tests.live_page import said, served, visiting


@pytest.fixture(scope="module")
def models():
    """An attention model that learned the ready-made drawings by heart, and a rival that learned nothing."""
    torch.manual_seed(1)
    attention = vision.ImageModel("attention")
    images = torch.stack([module._drawing(a, b) for a, b in module.PAIRS])
    labels = torch.tensor([int(a == b) for a, b in module.PAIRS])
    many = images.repeat(40, 1, 1, 1)
    many = many + 0.1 * torch.randn(many.shape)
    vision.fit(attention, many, labels.repeat(40), steps=300, batch_size=16, lr=1e-3)
    assert vision.accuracy(attention, images, labels) == 1
    rival = vision.ImageModel("convolution")
    nn.init.zeros_(rival.head.weight)
    return attention, rival


@pytest.fixture(scope="module")
def fig(models) -> LiveFigure:
    return spatial_attention_figure(*models, code_href="#code", card="A card.")


# --- what Python makes


def test_the_still_picture_says_the_finding(fig):
    assert (
        "right one, which covers 9 %" in fig.alt and "model judges 8 right" in fig.alt
    )
    assert f'role="img" aria-label="{fig.alt}"' in fig.html
    assert fig.html.count("<tr>") == 1 + len(module.PAIRS)
    assert len(fig.weights) < 900_000
    json.dumps(fig.props, allow_nan=False)


def test_the_reach_drawn_is_the_reach_there_is(models):
    rival = models[1]
    for row, column in [(0, 0), (3, 4), (7, 2)]:
        image = torch.randn(1, 1, 16, 16, requires_grad=True)
        features = rival.mixers[0](rival.stem(image))
        features[0, :, row, column].sum().backward()
        seen = module._reach(row, column)
        assert torch.equal(image.grad[0, 0] != 0, seen == 1)


def test_models_that_do_not_show_it_are_refused(models):
    attention, rival = models
    with pytest.raises(ConfigError, match="one block of attention"):
        spatial_attention_figure(rival, attention)
    torch.manual_seed(1)
    with pytest.raises(ConfigError, match="do not show"):
        spatial_attention_figure(vision.ImageModel("attention"), rival)


# --- what a reader can do


@pytest.fixture(scope="module")
def site(fig, tmp_path_factory):
    with served(tmp_path_factory.mktemp("site"), index=fig) as address:
        yield address


@pytest.fixture
def visit(browser, site):
    with visiting(browser, site) as open_page:
        yield open_page


def percents(text: str) -> list[float]:
    return [float(x) for x in re.findall(r"<?([\d.]+)\xa0%", text)]


def meters(page) -> list[float]:
    return [
        percents(x)[0] for x in page.locator(".lf-meter output").all_text_contents()
    ]


@pytest.mark.browser
@pytest.mark.parametrize("width", [1280, 360])
@pytest.mark.parametrize("look", ["light", "dark", "print", "forced-colors"])
def test_every_look_fits_the_screen(visit, width, look):
    page = visit(width=width)
    page.click("text=Just show me")
    if look == "dark":
        page.evaluate("document.documentElement.dataset.theme = 'dark'")
    elif look == "print":
        page.emulate_media(media="print")
    elif look == "forced-colors":
        page.emulate_media(forced_colors="active")
    page.wait_for_timeout(200)
    assert page.evaluate(
        "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
    )
    assert page.locator(".lf-map-box").bounding_box()["width"] > 200
    assert page.locator(".lf-meter").count() == 2


@pytest.mark.browser
def test_readable_without_scripts(visit, fig):
    page = visit(java_script_enabled=False, ready=None, width=360)
    assert page.get_by_role("img", name=fig.alt).is_visible()
    assert page.locator("tbody tr").count() == len(module.PAIRS)
    assert page.locator(".lf-readout").text_content() == fig.alt


@pytest.mark.browser
def test_predict_before_the_weights(visit):
    page = visit()
    assert not page.locator(".lf-meter").first.is_visible()
    assert "%" not in page.locator(".lf-readout").text_content()
    page.click("text=Check")
    assert "Choose one" in said(page)
    page.get_by_label("The query's weights go").select_option("empty")
    page.click("text=Check")
    assert page.locator(".lf-verdict").text_content().startswith("No: its own square")
    assert page.locator(".lf-meter").first.is_visible()


@pytest.mark.browser
def test_the_numbers_are_those_of_python(visit, fig, models):
    page = visit()
    page.click("text=Just show me")
    for i, (a, b) in enumerate(module.PAIRS):
        page.get_by_label("Drawing", exact=True).select_option(label=f"{a}, {b}")
        images = module._drawing(a, b)[None]
        expected = []
        for model in models:
            same, weights = module._answers(model, images)
            expected.append(100 * float(same[0]))
            rows = weights[0] if len(weights) else rows  # noqa: F821
        assert meters(page) == pytest.approx(expected, abs=0.051)
        q = (9 * i + 3) % 64
        page.locator("input[type=range]").first.fill(str(q))
        ink = torch.nn.functional.max_pool2d(images, 2)[0, 0] > 0
        mine = torch.zeros(8, 8, dtype=torch.bool)
        mine[:, :4] = True
        mine = mine if q % 8 < 4 else ~mine
        row = rows[q].view(8, 8)
        want = [row[ink & mine].sum(), row[ink & ~mine].sum(), row[~ink].sum()]
        shown = percents(page.locator(".lf-readout").text_content())
        assert shown == pytest.approx([100 * float(x) for x in want], abs=0.051)


@pytest.mark.browser
def test_keys_move_the_query_and_draw(visit):
    page = visit()
    page.click("text=Just show me")
    slider = page.locator("input[type=range]").first
    slider.press("Home")
    assert slider.get_attribute("aria-valuetext") == "row 1, column 1"
    first = said(page)
    slider.press("End")
    assert said(page) != first and "row 8, column 8" in said(page)
    pad = page.locator(".lf-map-box")
    pad.focus()
    for key in ("ArrowUp", "ArrowUp", "ArrowLeft"):
        pad.press(key)
    assert slider.get_attribute("aria-valuetext") == "row 7, column 7"
    assert "Pixel 13, 14: empty" in page.locator(".lf-map .lf-cell").text_content()
    pad.press(" ")
    assert "Pixel 13, 14: ink" in page.locator(".lf-map .lf-cell").text_content()
    assert page.get_by_label("Drawing", exact=True).input_value() == ""
    pad.press(" ")
    assert "Pixel 13, 14: empty" in page.locator(".lf-map .lf-cell").text_content()
    assert page.get_by_label("Drawing", exact=True).input_value() != ""


@pytest.mark.browser
def test_the_pointer_draws_or_moves_the_query(visit):
    page = visit()
    page.click("text=Just show me")
    pad = page.locator(".lf-map-box")
    box = pad.bounding_box()
    unit = box["width"] / 16

    def at(r, c):
        return box["x"] + (c + 0.5) * unit, box["y"] + (r + 0.5) * unit

    page.mouse.click(*at(14, 2))
    slider = page.locator("input[type=range]").first
    assert slider.get_attribute("aria-valuetext") == "row 8, column 2"
    page.get_by_role("button", name="Clear").click()
    page.get_by_role("button", name="Draws").click()
    page.mouse.move(*at(3, 3))
    page.mouse.down()
    page.mouse.move(*at(3, 6), steps=12)
    page.mouse.up()
    page.get_by_role("button", name="Copy link").click()
    pixels = re.search(r"pixels=([0-9a-f]{64})", page.url)[1]
    assert pixels == "0" * 12 + "1e00" + "0" * 48
    assert slider.get_attribute("aria-valuetext") == "row 8, column 2", "it stays"


@pytest.mark.browser
def test_the_weights_as_a_table(visit):
    page = visit()
    page.click("text=Just show me")
    page.click("text=Show as table")
    region = page.get_by_role("region", name="The query's weights in numbers")
    cells = region.locator("tbody td").all_text_contents()
    assert len(cells) == 64 and sum(map(float, cells)) == pytest.approx(1, abs=0.03)


@pytest.mark.browser
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing(visit, theme):
    import axe_playwright_python

    axe = Path(axe_playwright_python.__file__).with_name("axe.min.js").read_text()
    page = visit(width=360)
    page.evaluate("t => document.documentElement.dataset.theme = t", theme)
    for step in ("Just show me", "Show as table"):
        page.evaluate(axe)
        found = page.evaluate("axe.run('main')")["violations"]
        assert not [(v["id"], [n["html"] for n in v["nodes"]]) for v in found]
        page.click(f"text={step}")


@pytest.mark.browser
def test_state_from_a_link_is_mended(visit, fig):
    page = visit(path="/#live-spatial_attention-1?pixels=xyz&r=99&c=-4&tool=magic")
    assert page.locator("input[type=range]").first.input_value() == "56"
    first = fig.props["examples"][0]["pixels"]
    assert page.get_by_label("Drawing", exact=True).input_value() == first
