"""The dates task and the image task: right data, a model that learns, a rival that cannot."""

import re
from collections import Counter

import pytest
import torch

from babygpt_course import seq2seq, vision
from babygpt_course.errors import ConfigError, VocabularyError
from babygpt_course.seq2seq import Seq2Seq, Seq2SeqConfig, make_dates
from babygpt_course.vision import ImageModel, make_images

# --- dates


def read_date(text: str) -> tuple[int, int, int]:
    """Year, month, day, by rules of its own: month by its first three letters."""
    numbers = [int(n) for n in re.findall(r"\d+", text)]
    year = max(numbers)
    months = [month[:3].lower() for month in seq2seq.MONTHS]
    for word in re.findall(r"[a-z]+", text.lower()):
        if word[:3] in months:
            return year, months.index(word[:3]) + 1, min(numbers)
    return year, numbers[1], numbers[0]


def test_dates_are_right_varied_and_the_same_for_one_seed():
    pairs = make_dates(3000, seed=1)
    assert pairs == make_dates(3000, seed=1) != make_dates(3000, seed=2)
    assert pairs[:10] == make_dates(10, seed=1)
    for text, iso in pairs:
        assert read_date(text) == tuple(int(part) for part in iso.split("-")), text
        assert len(iso) == seq2seq.ISO_LENGTH
        assert len(text) <= Seq2SeqConfig().source_length
    looks = Counter(
        re.sub(r"[a-z]+", "a", re.sub(r"\d+", "1", t.lower())) for t, _ in pairs
    )
    assert len(looks) >= 9 and min(looks.values()) > 100
    for text, iso in pairs:  # a weekday that is named is the right one
        day = seq2seq.DAYS[__import__("datetime").date.fromisoformat(iso).weekday()][:3]
        named = re.match("(mon|tue|wed|thu|fri|sat|sun)", text.lower())
        assert named is None or named[0] == day.lower()


def test_texts_become_ids_and_come_back():
    texts = ["5. Mar. 1998", "12/11/2050"]
    ids = seq2seq.encode(texts)
    assert ids.shape == (2, 12) and ids[1, 10:].tolist() == [seq2seq.PAD] * 2
    assert seq2seq.decode(ids) == ["5. mar. 1998", "12/11/2050"]
    assert int(ids.max()) < seq2seq.VOCAB_SIZE
    with pytest.raises(VocabularyError, match="'é' in '5 février'"):
        seq2seq.encode(["5 février"])


@pytest.fixture(scope="module")
def untrained():
    torch.manual_seed(0)
    return Seq2Seq(Seq2SeqConfig(n_embd=16, n_head=2, n_layer=2)).double().eval()


def test_padding_changes_nothing(untrained):
    source = seq2seq.encode(["march 5, 1998", "thursday, 15 september 2022"])
    target = seq2seq.encode(["1998-03-05", "2022-09-15"])
    together = untrained(source, target)[0]
    alone = untrained(source[:1, :13], target[:1])[0]
    torch.testing.assert_close(together[:1], alone)


def test_the_decoder_sees_all_of_the_source_and_none_of_the_future(untrained):
    source, target = seq2seq.encode(["march 5, 1998"]), seq2seq.encode(["1998-03-05"])
    logits = untrained(source, target)[0]
    for t in range(10):
        changed = target.clone()
        changed[0, t] = 5
        moved = (untrained(source, changed)[0] - logits).abs().amax((0, 2)) > 1e-12
        assert not moved[: t + 1].any() and moved[t + 1 :].all()
    for s in range(source.shape[1]):
        changed = source.clone()
        changed[0, s] = 30
        moved = (untrained(changed, target)[0] - logits).abs().amax((0, 2)) > 1e-12
        assert moved.all()


def test_attention_alone_has_no_other_part():
    model = Seq2Seq(Seq2SeqConfig(n_layer=2, attention_only=True))
    names = {name for name, _ in model.named_parameters()}
    assert not [name for name in names if "norm" in name or "mlp" in name]
    source, target = seq2seq.encode(["march 5, 1998"]), seq2seq.encode(["1998-03-05"])
    model(source, target)[1].backward()
    assert all(p.grad is not None for p in model.parameters())


def test_hidden_positions_are_not_read(untrained):
    source = seq2seq.encode(["march 5, 1998"])
    changed = source.clone()
    changed[0, 6] = 9
    seen = torch.arange(source.shape[1])[None] != 6
    written = torch.full((1, 1), seq2seq.START)
    logits = [
        untrained.decode(written, untrained.encode(ids, seen), seen)
        for ids in (source, changed)
    ]
    torch.testing.assert_close(*logits)
    assert (untrained.encode(source) - untrained.encode(changed)).abs().max() > 1e-6, (
        "without the mask it is read"
    )


def test_dates_in_every_style():
    import datetime

    day = datetime.date(1994, 3, 7)
    styles = seq2seq.in_every_style(day)
    assert len(set(styles)) == 9
    assert all(read_date(text) == (1994, 3, 7) for text in styles)


def test_fitting_tells_each_step():
    steps = []
    model = Seq2Seq(Seq2SeqConfig(n_embd=8, n_head=2))
    seq2seq.fit(model, make_dates(9, 0), steps=3, batch_size=2, on_step=steps.append)
    assert steps == [0, 1, 2, 3]


def test_translating_is_the_greedy_reading_of_forward(untrained):
    source = seq2seq.encode([text for text, _ in make_dates(5, 0)])
    written = untrained.translate(source)
    # Given its own output, the model predicts that output at every position.
    if not (written == seq2seq.PAD).any():
        assert torch.equal(untrained(source, written)[0].argmax(-1), written)
    assert written.shape == (5, 10)


def test_a_short_training_learns_and_repeats():
    losses = []
    for _ in range(2):
        torch.manual_seed(0)
        model = Seq2Seq(Seq2SeqConfig(n_embd=32, n_head=2))
        losses.append(seq2seq.fit(model, make_dates(500, 0), steps=60, batch_size=32))
    assert losses[0] == losses[1]
    assert losses[0][-1] < 1.5 < losses[0][0]


@pytest.mark.slow
def test_dates_are_learned_to_95_percent():
    torch.manual_seed(0)
    model = Seq2Seq()
    seq2seq.fit(model, make_dates(10_000, seed=0), steps=700)
    unseen = make_dates(1000, seed=1)
    assert seq2seq.exact_match(model, unseen) > 0.95
    assert unseen[0] not in make_dates(10_000, seed=0)
    # Looking over at the source is what it is for: hide the source and it must guess.
    hidden = [(" ", iso) for _, iso in unseen]
    assert seq2seq.exact_match(model, hidden) < 0.05


def test_dates_errors():
    with pytest.raises(ConfigError, match="n must be 0 or more"):
        make_dates(-1, 0)
    with pytest.raises(ConfigError, match="n_embd = 10"):
        Seq2SeqConfig(n_embd=10)
    with pytest.raises(ConfigError, match="40 source positions are more"):
        Seq2Seq().encode(torch.ones(1, 40, dtype=torch.int64))
    with pytest.raises(ConfigError, match="no texts to encode"):
        seq2seq.encode([])
    model, source = Seq2Seq(), seq2seq.encode(["5 march 1998"])
    longer = torch.full((1, 12), 3)
    for use in (
        lambda: model(source, longer),
        lambda: model.decode(longer, model.encode(source), source > 0),
    ):
        with pytest.raises(
            ConfigError, match="12 target positions are more than targe"
        ):
            use()


# --- images


def test_images_hold_the_shapes_they_name_and_one_seed_is_one_set():
    images, labels, names = make_images(300, seed=1, noise=0.0)
    again = make_images(300, seed=1, noise=0.0)
    assert torch.equal(images, again[0]) and torch.equal(labels, again[1])
    assert not torch.equal(images, make_images(300, seed=2, noise=0.0)[0])
    assert images.shape == (300, 1, 16, 16) and set(images.unique().tolist()) == {0, 1}
    assert (images[..., 5:11] == 0).all()  # six empty columns between the two
    for image, label, (left, right) in zip(images, labels, names):
        assert label == (left == right)
        for half, name in ((image[0, :, :8], left), (image[0, :, 8:], right)):
            rows, columns = half.any(1).nonzero()[0], half.any(0).nonzero()[0]
            found = half[rows[0] : rows[0] + 4, columns[0] : columns[0] + 4]
            shape = [[float(c == "#") for c in row] for row in vision.SHAPES[name]]
            assert found.tolist() == shape
    assert 0.4 < labels.float().mean() < 0.6
    assert len(set(names)) == 36


def reach(model):
    """How far from a column of 1 the features of a changed pixel are felt, in columns of 2."""
    image = torch.zeros(1, 1, 16, 16, dtype=torch.float64)
    features = {}
    hook = model.mixers[-1].register_forward_hook(lambda *a: features.update(x=a[-1]))
    model(image)
    before = features["x"]
    image[..., 0, 0] = 1
    model(image)
    hook.remove()
    return int((features["x"] - before).abs().amax((0, 1, 2)).gt(1e-12).nonzero().max())


def test_attention_reaches_across_the_image_and_the_rival_does_not():
    torch.manual_seed(0)
    assert reach(ImageModel("attention", 8).double()) == 7  # the last of 8 columns
    assert reach(ImageModel("convolution", 8).double()) <= 2  # pixels 0 to 5


def test_the_rival_has_no_fewer_parameters():
    n = {m: sum(p.numel() for p in ImageModel(m).parameters()) for m in vision.MIXERS}
    assert n["convolution"] >= n["attention"]


@pytest.mark.slow
def test_attention_compares_and_the_rival_cannot():
    train, test = make_images(8000, seed=0), make_images(2000, seed=1)
    share = {}
    for mixer in vision.MIXERS:
        torch.manual_seed(0)
        model = ImageModel(mixer)
        vision.fit(model, *train[:2], steps=500)
        share[mixer] = vision.accuracy(model, *test[:2])
    assert share["attention"] > 0.95
    assert share["convolution"] < 0.7


def test_positions_tell_a_bag_of_pixels_apart():
    torch.manual_seed(0)
    image = torch.randn(2, 1, 4, 6)
    order = torch.randperm(24)
    shuffled = image.flatten(2)[..., order].view_as(image)
    bag = ImageModel(channels=8, n_class=3, stem="pixel")
    logits, _ = bag(image)
    assert logits.shape == (2, 3)
    torch.testing.assert_close(bag(shuffled)[0], logits)
    knows = ImageModel(channels=8, stem="pixel", positions=(4, 6))
    assert (knows(shuffled)[0] - knows(image)[0]).abs().max() > 1e-3
    assert knows.positions.shape == (8, 4, 6) and knows.positions.requires_grad


def test_image_errors():
    with pytest.raises(ConfigError, match="mixer must be one of"):
        ImageModel("mamba")
    with pytest.raises(ConfigError, match="stem must be one of"):
        ImageModel(stem="fourier")
    with pytest.raises(ConfigError, match="n must be"):
        make_images(0, seed=0)
