"""The embedded detectors: weights that match their cards, know what they are said to know, and rank the controls."""

import hashlib
import json

import numpy as np
import pytest
import torch

from cogvideo.errors import UserError
from eval.datasets.shapes_drawing import classes, draw_clip
from eval.detectors import shapes
from eval.detectors.weights import EMBEDDED, embedded_file
from eval.metrics.frechet import frechet
from eval.metrics.inception_score import inception_score
from eval.preprocess import apply
from eval.protocols.shapes import SHAPES_PIXELS
from eval.registry import detectors

NAMES = ("i3d-shapes", "c3d-shapes", "clip-shapes", "frame-shapes")


def load(name):
    file = embedded_file(name)
    assert file is not None
    return detectors.get(name).make(file.path)


def drawn(which, n, seed):
    """`n` clips of 16 frames from seeds that neither training nor the data set uses, and their classes."""
    picked = [which[k % len(which)] for k in range(n)]
    clips = [draw_clip(of.shape, of.colour, of.motion, f"test/{seed}/{k}")[:16] for k, of in enumerate(picked)]
    return np.stack(clips), picked


def features(detector, clips, layer):
    pixels = [torch.stack([apply(clip, SHAPES_PIXELS) for clip in clips[k : k + 8]]) for k in range(0, len(clips), 8)]
    return torch.cat([detector(part)[layer] for part in pixels]).numpy()


@pytest.fixture(scope="module")
def fresh():
    return drawn(classes("benchmark"), 80, "judge")


def head(logits, heads, wanted):
    """What one softmax of several side by side says, as words."""
    start = 0
    for name, words in heads.items():
        if name == wanted:
            return [words[k] for k in logits[:, start : start + len(words)].argmax(1)]
        start += len(words)
    raise KeyError(wanted)


@pytest.mark.parametrize("name", NAMES)
def test_cards_are_complete_and_match_the_weights(name):
    card = json.loads((EMBEDDED / f"{name}.json").read_text())
    data = (EMBEDDED / f"{name}.safetensors").read_bytes()
    assert card["sha256"] == hashlib.sha256(data).hexdigest()
    assert card["name"] == name
    assert len(data) <= 2.5e6
    for key in ("network", "data", "pixels", "command", "seed", "steps", "torch", "date", "licence", "comparable"):
        assert card[key] not in ("", None), key
    assert f"train_detectors {name} --seed {card['seed']} --steps {card['steps']}" in card["command"]
    assert all(value >= 0.95 for value in card["accuracy"].values())


def test_all_weights_together_are_small():
    assert sum(path.stat().st_size for path in EMBEDDED.glob("*.safetensors")) < 8e6


@pytest.mark.parametrize("name", NAMES)
def test_layers_are_what_the_detector_says(name, fresh):
    detector = load(name)
    pixels = torch.stack([apply(clip, SHAPES_PIXELS) for clip in fresh[0][:3]])
    outputs = detector(pixels)
    assert set(outputs) == set(detector.layers)
    for layer, width in detector.layers.items():
        expected = (3, 16, width) if detector.is_frame_network else (3, width)
        assert outputs[layer].shape == expected
        assert outputs[layer].dtype == torch.float32


def test_i3d_names_shape_colour_and_motion(fresh):
    clips, truth = fresh
    logits = features(load("i3d-shapes"), clips, "logits")
    for what in shapes.I3D_HEADS:
        named = head(logits, shapes.I3D_HEADS, what)
        assert np.mean([word == getattr(of, what) for word, of in zip(named, truth, strict=True)]) >= 0.95, what


def test_i3d_knows_all_classes_not_only_those_of_the_benchmark():
    clips, truth = drawn(classes("all")[::5], 42, "all")
    logits = features(load("i3d-shapes"), clips, "logits")
    named = zip(*(head(logits, shapes.I3D_HEADS, what) for what in ("shape", "colour", "motion")), strict=True)
    assert np.mean([words == (of.shape, of.colour, of.motion) for words, of in zip(named, truth, strict=True)]) >= 0.92


def test_i3d_sees_that_time_is_broken(fresh):
    detector, clips = load("i3d-shapes"), fresh[0][:40]
    still = features(detector, np.repeat(clips[:, 8:9], 16, axis=1), "logits")
    order = np.random.default_rng(0)
    jumbled = features(detector, np.stack([clip[order.permutation(16)] for clip in clips]), "logits")
    assert np.mean([word == "still" for word in head(still, shapes.I3D_HEADS, "motion")]) >= 0.95
    assert np.mean([word == "jumbled" for word in head(jumbled, shapes.I3D_HEADS, "motion")]) >= 0.9


def test_c3d_is_right_and_sure(fresh):
    clips, truth = fresh
    probs = features(load("c3d-shapes"), clips, "prob")
    assert np.mean([shapes.C3D_CLASSES[k] == of for k, of in zip(probs.argmax(1), truth, strict=True)]) >= 0.95
    assert probs.max(1).mean() > 0.95
    assert inception_score(probs).mean == pytest.approx(40, rel=0.05)


def test_clip_finds_the_caption_of_a_look(fresh):
    clips, truth = fresh
    detector = load("clip-shapes")
    looks = sorted({(of.shape, of.colour) for of in classes("all")})
    texts = detector.encode_text([f"a {colour} {shape} moving left" for shape, colour in looks]).numpy()
    frames = features(detector, clips, "embedding")
    assert np.linalg.norm(texts, axis=1) == pytest.approx(1, abs=1e-5)
    nearest = (frames.mean(1) @ texts.T).argmax(1)
    assert np.mean([looks[k] == (of.shape, of.colour) for k, of in zip(nearest, truth, strict=True)]) >= 0.95


def test_captions_become_words_and_long_ones_are_reported():
    tokens, cut = shapes.tokenise(["a red square moving left", "A red square moving left.", "a red dog", "so " * 40])
    assert (tokens[0] == tokens[1]).all()
    assert (tokens[0] != tokens[2]).any()
    assert cut == [False, False, False, True]
    assert tokens.shape == (4, shapes.CONTEXT)
    assert (tokens.argmax(1) == torch.tensor([6, 6, 4, 11])).all()  # the end mark is the highest number


def test_every_word_of_every_caption_has_its_own_token():
    tokens, cut = shapes.tokenise([of.caption for of in classes("all")])
    assert len({tuple(row.tolist()) for row in tokens}) == 210
    assert not any(cut)
    assert not (tokens == shapes.tokenise(["dog"])[0][0, 1]).any()


def test_frame_network_separates_looks(fresh):
    """Frames of one look lie nearer to each other than to those of other looks."""
    clips, truth = fresh
    pooled = features(load("frame-shapes"), clips, "pooled").mean(1)
    gaps = np.linalg.norm(pooled[:, None] - pooled[None], axis=-1)
    same = np.array([[a.shape == b.shape and a.colour == b.colour for a in truth] for b in truth])
    np.fill_diagonal(gaps, np.inf)
    assert np.mean(same[np.arange(len(gaps)), gaps.argmin(1)]) >= 0.95


def test_controls_rank_as_they_must():
    """Real < shuffled and frozen < noise, by distance and by score, on clips that no one trained on."""
    real, _ = drawn(classes("benchmark"), 160, "reference")
    held, _ = drawn(classes("benchmark"), 80, "held out")
    dice = np.random.default_rng(1)
    sets = {
        "real": held,
        "shuffled": np.stack([clip[dice.permutation(16)] for clip in held]),
        "frozen": np.repeat(held[:, :1], 16, axis=1),
        "noise": dice.integers(0, 256, held.shape, dtype=np.uint8),
    }
    detector, judge = load("i3d-shapes"), load("c3d-shapes")
    reference = features(detector, real, "logits")
    distance = {name: frechet(features(detector, clips, "logits"), reference) for name, clips in sets.items()}
    assert 10 * distance["real"] < min(distance["shuffled"], distance["frozen"])
    assert 1.2 * max(distance["shuffled"], distance["frozen"]) < distance["noise"]
    score = {name: inception_score(features(judge, clips, "prob")).mean for name, clips in sets.items()}
    assert score["noise"] < score["frozen"] < score["shuffled"] < score["real"]


def test_no_option_is_taken_silently():
    file = embedded_file("c3d-shapes")
    with pytest.raises(UserError, match="no option 'width'"):
        detectors.get("c3d-shapes").make(file.path, options={"width": 1})
