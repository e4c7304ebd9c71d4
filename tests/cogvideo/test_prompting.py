"""The templates, told apart by a tokenizer whose ids are characters, and the limits on the length of a prompt."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cogvideo.config import get_size
from cogvideo.errors import UserError
from cogvideo.prompting import CHINESE, ENGLISH, Prompts
from cogvideo.tokenizer import SHAPES_WORDS, WordTokenizer

RELEASE = get_size("release")


class Characters:
    """One id a character, and a record of what was encoded at once."""

    def __init__(self):
        self.calls = []

    def encode(self, text):
        self.calls.append(text)
        return [ord(character) for character in text]


@pytest.fixture
def characters():
    return Characters()


@pytest.fixture
def prompts(characters):
    return Prompts(characters, RELEASE, CHINESE)


def ids(*texts):
    """Ids of the texts with that of a line break between, which the release takes from 20004."""
    joined = []
    for text in texts:
        joined += [*([20004] if joined else []), *map(ord, text)]
    return joined


def test_each_use_has_its_template(prompts):
    assert prompts.first_frame("猫") == ids("猫 高清摄影")
    assert prompts.key_frames("猫", 4.0, guided=True) == ids("4.0秒", "猫 视频")
    assert prompts.key_frames("猫", 4.0, guided=False) == ids("4.0秒", "猫")
    assert prompts.key_frames_guider(4.0) == ids("4.0秒", "视频")
    assert prompts.between("猫", 0.5) == ids("0.5秒", "猫")
    assert prompts.between_guider(2.0) == ids("2.0秒", "视频")
    assert prompts.superres("猫") == prompts.iterative("猫") == ids("猫")


def test_duration_and_prompt_are_encoded_apart(prompts, characters):
    prompts.key_frames("猫", 4, guided=True)
    assert sorted(characters.calls) == sorted(["4.0秒", "猫 视频"])


def test_the_english_style_fits_the_closed_vocabulary():
    tiny = get_size("tiny")
    words = WordTokenizer(SHAPES_WORDS, tiny.num_image_tokens, tiny.text_pieces)
    prompts = Prompts(words, tiny, ENGLISH)
    prompt = "a red square moving left"
    assert words.decode(prompts.first_frame(prompt)) == f"{prompt} photo"
    assert words.decode(prompts.key_frames(prompt, 4, guided=True)) == f"4.0s\n{prompt} video"
    assert words.decode(prompts.between(prompt, 0.5)) == f"0.5s\n{prompt}"
    assert words.decode(prompts.key_frames_guider(2)) == words.decode(prompts.between_guider(2)) == "2.0s\nvideo"


@pytest.mark.parametrize("prompt", ["", "  \n\t", "\u3000"])
@pytest.mark.parametrize(
    "use",
    [
        lambda prompts, text: prompts.first_frame(text),
        lambda prompts, text: prompts.key_frames(text, 4.0, guided=True),
        lambda prompts, text: prompts.between(text, 1.0),
        lambda prompts, text: prompts.superres(text),
        lambda prompts, text: prompts.iterative(text),
    ],
    ids=["first_frame", "key_frames", "between", "superres", "iterative"],
)
def test_an_empty_prompt_is_refused(prompts, use, prompt):
    with pytest.raises(UserError, match="the prompt is empty"):
        use(prompts, prompt)


@pytest.mark.parametrize(
    ("use", "longest", "limit"),
    [
        # 74 less " 高清摄影"; less "4.0秒", the line break and " 视频"; less "4.0秒" and the line break; 96 less one
        (lambda prompts, text: prompts.first_frame(text), 69, 74),
        (lambda prompts, text: prompts.key_frames(text, 4.0, guided=True), 66, 74),
        (lambda prompts, text: prompts.between(text, 1.0), 69, 74),
        (lambda prompts, text: prompts.superres(text), 95, 95),
    ],
    ids=["first_frame", "key_frames", "between", "superres"],
)
def test_the_longest_prompt_passes_and_one_more_is_refused_with_both_numbers(prompts, use, longest, limit):
    assert len(use(prompts, "猫" * longest)) == limit
    with pytest.raises(UserError, match=rf"too long: {limit + 1} tokens .* at most {limit} fit") as caught:
        use(prompts, "猫" * (longest + 1))
    assert "猫" * 41 not in str(caught.value)


def test_the_limits_are_those_of_the_size(characters):
    prompts = Prompts(characters, replace(RELEASE, text_len=10, spare_text_len=0, iterative_text_len=3), CHINESE)
    assert len(prompts.key_frames("猫" * 5, 4.0, guided=False)) == 10
    with pytest.raises(UserError, match="11 tokens for key frames with their duration, at most 10 fit"):
        prompts.key_frames("猫" * 6, 4.0, guided=False)
    assert prompts.iterative("一二三四") == ids("一二三")


def test_iterative_super_resolution_cuts_and_never_refuses(prompts):
    assert prompts.iterative("猫" * 200) == ids("猫" * 16)
