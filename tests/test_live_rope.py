"""The live figure of chapter 15: what Python makes of it, and what a reader can do with it in a browser."""

import copy
import functools
import json
import math
import re

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from babygpt_course import tinytales
from babygpt_course.attention import MultiHeadAttention
from babygpt_course.errors import ConfigError
from babygpt_course.gpt import GPT, GPTConfig
from babygpt_course.live import LiveFigure, rope_figure
from babygpt_course.live.rope import SCHEMES, read
from babygpt_course.llama import apply_rotary, rotary_table
from babygpt_course.tokenizer import CharTokenizer
from babygpt_course.trainer import TrainConfig, train
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

TALES = "".join(tinytales.sample(150, seed=3))
CHARS = CharTokenizer(TALES)
IDS = torch.tensor(CHARS.encode(TALES))
T, LONG, C = 24, 64, 24
WINDOWS = IDS[: 60 * LONG].view(60, LONG)
TEXTS = ["Once upon a time,", "She was\nhappy"]


class Turned(MultiHeadAttention):
    def attend(self, q, k, v, mask, causal):
        cos, sin = (x.to(q.dtype) for x in rotary_table(q.shape[-1], q.shape[2]))
        q, k = apply_rotary(q, cos, sin), apply_rotary(k, cos, sin)
        return super().attend(q, k, v, mask, causal)


class Nowhere(nn.Module):
    def forward(self, positions):
        return torch.zeros(len(positions), 1)


def placed(scheme: str) -> GPT:
    torch.manual_seed(0)
    model = GPT(GPTConfig(CHARS.vocab_size, LONG, 2, 2, C))
    if scheme in ("none", "rotary"):
        model.position_embedding = Nowhere()
    if scheme == "sinusoids":
        waves = torch.stack(rotary_table(C, LONG)[::-1], dim=-1).flatten(1)
        model.position_embedding = nn.Embedding.from_pretrained(0.1 * waves)
    if scheme == "rotary":
        for block in model.blocks:
            block.attention = Turned(C, 2, causal=True)
        model.init_weights()
    return model


@functools.cache
def models() -> dict[str, GPT]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    config = TrainConfig(steps=200, batch_size=12, block_size=T, lr=0.01, warmup=20, optimizer="muon", eval_every=200, progress=False)  # fmt: skip
    made = {scheme: placed(scheme) for scheme in SCHEMES}
    for model in made.values():
        train(model, (IDS, IDS[:1000]), config)
    torch.set_num_threads(threads)
    return made


def figure(**options) -> LiveFigure:
    options = {"texts": TEXTS, "windows": WINDOWS, "code_href": "#code", "card": "Four models"} | options  # fmt: skip
    given = options.pop("models", models())
    return rope_figure(given, CHARS, options.pop("trained", T), **options)


@pytest.fixture(scope="module")
def fig() -> LiveFigure:
    return figure()


@functools.cache
def state(scheme: str) -> dict:
    """The weights that the page runs."""
    return {k: v.half().double() for k, v in models()[scheme].state_dict().items()}


@functools.cache
def expected(
    scheme: str, text: str, shift: int, theta: float = 1e4
) -> tuple[float, float]:
    """How far visible scores of the first layer move, and bits per character after the shift."""
    ids = torch.tensor([CHARS.encode(text)])
    (_, here), (logits, there) = (read(state(scheme), ids, 2, scheme, at, theta) for at in (0, shift))  # fmt: skip
    seen = torch.ones(len(text), len(text), dtype=torch.bool).tril()
    bits = F.cross_entropy(logits[0, :-1], ids[0, 1:]) / math.log(2)
    return float((here - there)[..., seen].abs().max()), float(bits)


# --- what Python makes


def test_the_page_is_small_and_asks_nobody(fig, monkeypatch, tmp_path):
    monkeypatch.setenv("BABYGPT_COURSE_STATIC", str(tmp_path))
    page = fig._repr_mimebundle_()["text/html"]
    assert page == figure().html, "the same numbers must make the same page"
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")
    props = json.loads(re.search(r"data-props>(.*?)</script>", page, re.S)[1])
    assert [s for s, _ in props["schemes"]] == list(SCHEMES)
    assert len(fig.weights) < 600 * 1024
    assert not any(name.endswith("head.weight") for name in fig.tensors), "tied once"


def test_the_finding_has_the_numbers_of_the_models(fig):
    for scheme in ("learned", "sinusoids"):
        moved, _ = expected(scheme, TEXTS[0], 8)
        assert moved > 0.02 and f"by up to {moved:.2f}" in fig.alt
    for scheme in ("none", "rotary"):
        assert expected(scheme, TEXTS[0], 8)[0] < 1e-9
    assert "stay: none, rotary." in fig.alt
    assert fig.html.count("<tr>") == 1 + len(SCHEMES)
    assert html_label(fig) in fig.html


def html_label(fig) -> str:
    return f'role="img" aria-label="{fig.alt}"'


def test_reading_from_a_start_is_the_model():
    idx = WINDOWS[:3, :20]
    for scheme, model in models().items():
        plain = {k: v.double() for k, v in model.state_dict().items()}
        ours = read(plain, idx, 2, scheme)[0]
        theirs = copy.deepcopy(model)(idx)[0].double()
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
    table = models()["learned"].position_embedding.weight
    moved = copy.deepcopy(models()["learned"])
    moved.position_embedding.weight = nn.Parameter(table.roll(-5, 0))
    plain = {k: v.double() for k, v in models()["learned"].state_dict().items()}
    ours = read(plain, idx, 2, "learned", start=5)[0]
    torch.testing.assert_close(ours, moved(idx)[0].double(), atol=1e-4, rtol=1e-4)


def test_what_does_not_do_is_refused():
    good = models()
    with pytest.raises(ConfigError, match="in this order"):
        figure(models=dict(reversed(good.items())))
    with pytest.raises(ConfigError, match="is not the GPT with"):
        figure(models=good | {"rotary": good["none"]})
    with pytest.raises(ConfigError, match="a table of positions"):
        figure(models=good | {"learned": good["none"]})
    with pytest.raises(ConfigError, match="no table of positions"):
        figure(models=good | {"none": good["learned"]})
    with pytest.raises(ConfigError, match="not the best of the four"):
        figure(models=good | {"rotary": placed("rotary")})  # it is not trained
    flat = copy.deepcopy(good["learned"])
    flat.position_embedding.weight.data.zero_()
    with pytest.raises(ConfigError, match="not what the figure claims"):
        figure(models=good | {"learned": flat})
    with pytest.raises(ConfigError, match="characters of the models"):
        figure(texts=["§§"])
    with pytest.raises(ConfigError, match="needs a text"):
        figure(texts=[])
    with pytest.raises(ConfigError, match="do not reach"):
        figure(windows=WINDOWS[:, :T])


# --- what a reader can do


@pytest.fixture(scope="module")
def site(fig, tmp_path_factory):
    with served(tmp_path_factory.mktemp("site"), index=fig) as address:
        yield address


@pytest.fixture
def visit(browser, site):
    with visiting(browser, site) as open_page:
        yield open_page


def put(page, name: str, to: int) -> None:
    page.get_by_role("slider", name=name).fill(str(to))


def compared(page) -> dict[str, list[float]]:
    rows = page.locator(".lf-picture tbody tr").all()
    return {
        row.locator("th").text_content(): [float(x) for x in row.locator("td").all_text_contents()]
        for row in rows
    }  # fmt: skip


@pytest.mark.browser
@pytest.mark.parametrize("look", ["light", "dark", "print", "forced colors"])
@pytest.mark.parametrize("width", [1280, 360])
def test_every_look_fits_the_screen(visit, width, look):
    page = visit(width=width)
    for opened in (False, True):
        if opened:
            page.emulate_media(media="screen")
            page.click("text=Just show me")
        if look == "print":
            page.emulate_media(media="print")
        elif look == "forced colors":
            page.emulate_media(forced_colors="active")
        else:
            page.evaluate("t => document.documentElement.dataset.theme = t", look)
        page.wait_for_timeout(250)
        assert sideways(page) <= 0
        assert not small_text(page) and not tiny_targets(page)
        shown = page.get_by_text("All four under this shift").is_visible()
        assert shown is (opened or look == "print")


@pytest.mark.browser
def test_readable_without_scripts(visit, fig):
    page = visit(java_script_enabled=False, ready=None, width=360)
    assert page.get_by_role("img", name=fig.alt).is_visible()
    assert readout(page) == fig.alt
    assert page.locator("tbody tr").count() == len(SCHEMES)
    assert sideways(page) <= 0


@pytest.mark.browser
def test_predict_first(visit):
    page = visit()
    page.click("text=Check")
    assert page.get_by_text("Predict first").is_visible(), "nothing was chosen"
    page.get_by_label("How many of the four stay?").select_option("2")
    page.click("text=Check")
    verdict = page.locator(".lf-verdict").text_content()
    assert verdict.startswith("Right: 2 stay, “none” and “rotary”")
    page.click("text=Reset")
    assert not page.locator(".lf-verdict").is_visible()
    again = visit()
    again.get_by_label("How many of the four stay?").select_option("1")
    again.click("text=Check")
    assert again.locator(".lf-verdict").text_content().startswith("Not so: 2")


@pytest.mark.browser
def test_the_numbers_are_those_of_python(visit):
    page = visit()
    page.click("text=Just show me")
    for shift in (8, 19):
        put(page, "Shift of all positions", shift)
        for scheme, row in zip(SCHEMES, compared(page).values()):
            moved, after = expected(scheme, TEXTS[0], shift)
            wanted = [moved, expected(scheme, TEXTS[0], 0)[1], after]
            assert row == pytest.approx(wanted, abs=0.012), (scheme, shift)
    put(page, "Base", 1)  # 100
    assert "base 100 in place of 10,000" in readout(page)
    moved, after = expected("rotary", TEXTS[0], 19, 100.0)
    assert f"costs {after:.2f} bits" in readout(page) and moved < 1e-9
    page.click("text=sinusoids")
    moved, after = expected("sinusoids", TEXTS[0], 19)
    found = re.search(r"by up to (\S+); this text costs (\S+) bits", readout(page))
    assert [float(x) for x in found.groups()] == pytest.approx([moved, after], abs=0.012)  # fmt: skip


@pytest.mark.browser
def test_scores_and_texts(visit):
    page = visit()
    page.click("text=Just show me")
    put(page, "Head", 1)
    text = "The cat"
    page.get_by_label("What the model reads").fill(text)
    page.click("text=Show as table")
    region = page.get_by_role("region", name="The scores in numbers")
    rows = [r.locator("td").all_text_contents() for r in region.locator("tbody tr").all()]  # fmt: skip
    ids = torch.tensor([CHARS.encode(text)])
    scores = read(state("rotary"), ids, 2, "rotary", 8)[1][0, 1]
    for t, row in enumerate(rows):
        assert row[t + 1 :] == ["hidden"] * (len(text) - 1 - t)
        numbers = [float(x.replace("−", "-")) for x in row[: t + 1]]
        assert numbers == pytest.approx(scores[t, : t + 1].tolist(), abs=2e-3)
    grid = page.get_by_role("application")
    grid.focus()
    page.keyboard.press("ArrowUp")
    page.keyboard.press("End")
    assert "may not read" in page.locator(".lf-cell").text_content()
    page.keyboard.press("Home")
    assert "distance 5" in said(page)


@pytest.mark.browser
def test_a_link_carries_the_state_and_odd_ones_do_no_harm(visit):
    page = visit()
    page.click("text=Just show me")
    page.click("text=learned table")
    put(page, "Shift of all positions", 11)
    page.click("text=Copy link")
    again = visit("/" + page.evaluate("location.hash"))
    assert readout(again) == readout(
        page
    ) and "learned table. Shifted by 11" in readout(again)
    odd = visit("/#live-rope-1?scheme=alibi&text=%C2%A7&shift=9999&head=-3&theta=&t=x")
    assert "Positions: rotary" in readout(odd)
    assert f"Shifted by {LONG - T}" in readout(odd)


@pytest.mark.browser
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("opened", [False, True])
def test_axe_finds_nothing(visit, theme, opened):
    page = visit()
    page.evaluate("t => document.documentElement.dataset.theme = t", theme)
    if opened:
        page.click("text=Just show me")
        page.click("text=Show as table")
        page.click("summary")
    page.wait_for_timeout(300)
    assert axe_findings(page) == []
