"""Ids around captions with a SentencePiece model, as the released networks have: parts put together are the whole."""

from __future__ import annotations

import io
from fractions import Fraction

import pytest
import sentencepiece

from cogvideo.data.rates import PAPER_RATES
from cogvideo.data.words import duration_ids, words_of
from cogvideo.errors import UserError
from cogvideo.prompting import CHINESE, ENGLISH, Prompts
from cogvideo.tokenizer import IceTokenizer

CORPUS = [
    "一个人在跑步",
    "夜晚的城市",
    "高清摄影 视频",
    "16.0秒 8.0秒 4.0秒 2.0秒 1.0秒 0.5秒",
    "a dog runs photo video s",
] * 20


@pytest.fixture(scope="module", params=[CHINESE, ENGLISH], ids=["zh", "en"])
def ice_prompts(request, tmp_path_factory, make_config):
    content = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS),
        model_writer=content,
        vocab_size=90,
        hard_vocab_limit=False,
        minloglevel=2,
        unk_id=0,
        bos_id=1,
        eos_id=2,
        pad_id=3,
        user_defined_symbols=["<n>"],
    )
    path = tmp_path_factory.mktemp("ice") / "ice_text.model"
    path.write_bytes(content.getvalue())
    tokenizer = IceTokenizer(path, 24)
    sizes = {"text_len": 40, "image_position_offset": 60, "max_sequence_length": 90, "text_pieces": tokenizer.pieces}
    return Prompts(tokenizer, make_config(**sizes, vocab_size=tokenizer.vocab_size), request.param)


@pytest.mark.parametrize("caption", ["一个人在跑步", "夜晚的城市", "a dog", "a dog runs 16", "dog "])
def test_parts_are_the_templates_of_generation(ice_prompts, caption):
    words, encode = words_of(ice_prompts, PAPER_RATES), ice_prompts.tokenizer.encode
    assert [*encode(caption), *words.first_frame_suffix] == ice_prompts.first_frame(caption)
    for seconds in (16.0, 8.0, 4.0, 2.0, 1.0, 0.5):
        duration = words.durations[str(seconds)]
        assert [*duration, *encode(caption)] == ice_prompts.between(caption, seconds)
        assert [*duration, *encode(caption), *words.video_suffix] == ice_prompts.key_frames(caption, seconds, True)
        assert [*duration, *words.video] == ice_prompts.key_frames_guider(seconds)


def test_durations_are_told_apart(ice_prompts):
    heads = {tuple(duration_ids(ice_prompts, rate)) for rate in PAPER_RATES}
    assert len(heads) == len(PAPER_RATES)
    assert all(head.count(ice_prompts.config.newline_id) == 1 for head in heads)


def test_a_closed_list_of_words_has_four(prompts):
    assert sorted(words_of(prompts, PAPER_RATES).durations) == ["0.5", "1.0", "2.0", "4.0"]
    with pytest.raises(UserError, match=r"0.5 frames a second need the duration 8.0s in the text"):
        duration_ids(prompts, Fraction(1, 2))
