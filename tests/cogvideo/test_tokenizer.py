"""Text to ids: the released rules on a small SentencePiece model trained here, and the closed vocabulary of `tiny`."""

from __future__ import annotations

import hashlib
import io
from dataclasses import replace

import pytest
import sentencepiece

from cogvideo.config import get_size
from cogvideo.errors import MissingPrerequisite, UserError
from cogvideo.tokenizer import ADDED_TOKENS, SHAPES_WORDS, IceTokenizer, WordTokenizer, load_tokenizer

CORPUS = [
    "一个人在跑步 a man is running 4.0秒",
    "夜晚的城市 高清摄影 视频 the city at night",
    "2.0秒 1.0秒 0.5秒 视频",
    "a red square moving left",
    "孩子在公园里玩 children play in the park",
] * 30
TINY = get_size("tiny")


def train(**options):
    """A SentencePiece model with the released order of its first pieces, as bytes."""
    content = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS),
        model_writer=content,
        **{"vocab_size": 110, "hard_vocab_limit": False, "character_coverage": 1.0, "minloglevel": 2}
        | {"unk_id": 0, "bos_id": 1, "eos_id": 2, "pad_id": 3, "user_defined_symbols": ["<n>"]}
        | options,
    )
    return content.getvalue()


@pytest.fixture(scope="module")
def model_bytes():
    return train()


@pytest.fixture(scope="module")
def model_path(model_bytes, tmp_path_factory):
    path = tmp_path_factory.mktemp("ice") / "ice_text.model"
    path.write_bytes(model_bytes)
    return path


@pytest.fixture(scope="module")
def ice(model_path):
    return IceTokenizer(model_path, num_image_tokens=300)


@pytest.fixture
def words():
    return WordTokenizer(SHAPES_WORDS, TINY.num_image_tokens, TINY.text_pieces)


@pytest.mark.parametrize("text", ["一个人在跑步", "4.0秒", "夜晚的城市 高清摄影", "a red square", "  two   blanks "])
def test_ids_are_those_of_sentencepiece_after_the_image_tokens(ice, model_bytes, text):
    plain = sentencepiece.SentencePieceProcessor(model_proto=model_bytes)
    assert ice.encode(text) == [piece + 300 for piece in plain.encode(text)]
    assert ice.decode(ice.encode(text)) == plain.decode(plain.encode(text))


def test_special_ids_follow_the_layout_of_the_size(ice):
    config = replace(get_size("release"), num_image_tokens=300, text_pieces=ice.pieces, vocab_size=ice.vocab_size)
    assert ice.special["<pad>"] == config.pad_id == 303
    assert ice.special["<n>"] == config.newline_id == 304
    assert ice.special["<start_of_image>"] == config.boi_id
    assert [ice.special[name] for name in ADDED_TOKENS] == list(range(ice.vocab_size - 3, ice.vocab_size))


@pytest.mark.parametrize("name", ADDED_TOKENS)
def test_the_name_of_an_added_token_inside_a_prompt_is_that_token(ice, model_bytes, name):
    # Without the added pieces the same text falls into many; with them the rest of the text is segmented as before.
    unchanged = sentencepiece.SentencePieceProcessor(model_proto=model_bytes)
    assert ice.encode(f"夜晚的{name}城市").count(ice.special[name]) == 1
    assert ice.encode(name)[-1] == ice.special[name]
    assert len(unchanged.encode(name)) > 3
    assert name in ice.decode(ice.encode(f"夜晚的{name}城市"))


@pytest.mark.parametrize("text", ["夜晚的\n城市", "夜晚的\r\n城市", "夜晚的<n>城市"])
def test_a_line_break_is_one_token_and_comes_back(ice, text):
    ids = ice.encode(text)
    assert ids.count(ice.special["<n>"]) == 1
    assert ice.decode(ids) == "夜晚的\n城市"


def test_padding_leaves_no_text_and_image_tokens_are_none(ice):
    ids = ice.encode("a red square")
    assert ice.decode([ice.special["<pad>"], *ids, ice.special["</s>"]]) == ice.decode(ids)
    for id_ in (299, ice.vocab_size, -1):
        with pytest.raises(ValueError, match=rf"text \(300 to {ice.vocab_size - 1}\), got {id_}"):
            ice.decode([id_])


def test_the_fingerprint_is_the_hash_of_the_file(ice, model_bytes):
    assert ice.fingerprint == hashlib.sha256(model_bytes).hexdigest()
    assert ice.describe()["sha256"] == ice.fingerprint
    assert ice.describe()["text_pieces"] == ice.pieces


def test_a_missing_model_says_where_to_get_it(tmp_path):
    with pytest.raises(MissingPrerequisite, match=r"cogeval weights fetch ice-text-model"):
        IceTokenizer(tmp_path / "absent.model")
    with pytest.raises(MissingPrerequisite, match=r"cogeval weights fetch ice-text-model"):
        load_tokenizer(get_size("release"), None)


@pytest.mark.parametrize("damage", ["half", "one byte short", "text", "empty", "page"])
def test_what_is_no_model_is_refused_in_one_line(tmp_path, model_bytes, damage):
    path = tmp_path / "ice_text.model"
    path.write_bytes(
        {
            "half": model_bytes[: len(model_bytes) // 2],
            "one byte short": model_bytes[:-1],
            "text": b"these are words and no model",
            "empty": b"",
            "page": b"<html><body>sign in</body></html>",
        }[damage]
    )
    with pytest.raises(UserError, match=r"is no SentencePiece model, or was cut short") as caught:
        IceTokenizer(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_and_another_model_are_refused(tmp_path):
    with pytest.raises(UserError, match="cannot read the SentencePiece model"):
        IceTokenizer(tmp_path)
    path = tmp_path / "other.model"
    path.write_bytes(train(pad_id=-1, user_defined_symbols=[]))
    with pytest.raises(UserError, match=r"is not the ice text model: expected its first pieces to be <unk> <s>"):
        IceTokenizer(path)


def test_load_takes_the_file_or_the_words_and_compares_sizes(model_path, ice):
    fits = replace(get_size("release"), num_image_tokens=300, text_pieces=ice.pieces)
    assert load_tokenizer(fits, model_path).vocab_size == ice.vocab_size
    assert isinstance(load_tokenizer(TINY, None), WordTokenizer)
    with pytest.raises(UserError, match=f"holds {ice.pieces} text pieces, but the release size expects 130,000"):
        load_tokenizer(get_size("release"), model_path)


def test_words_are_laid_out_as_the_size_says(words):
    assert words.special["<pad>"] == TINY.pad_id
    assert words.special["<n>"] == TINY.newline_id
    assert words.special["<start_of_image>"] == TINY.boi_id
    assert words.vocab_size <= TINY.vocab_size
    ids = words.encode(" ".join(SHAPES_WORDS))
    assert ids == list(range(TINY.newline_id + 1, TINY.newline_id + 1 + len(SHAPES_WORDS)))
    assert max(ids) < TINY.boi_id


def test_every_caption_of_shapes_fits_with_its_duration_and_suffix(words):
    from cogvideo.prompting import ENGLISH, Prompts
    from eval.datasets.shapes_drawing import classes

    prompts = Prompts(words, TINY, ENGLISH)
    captions = [of.caption for of in classes("all")]
    assert len(captions) == 210
    for caption in captions:
        assert words.decode(words.encode(caption)) == caption
        for seconds in (4.0, 2.0, 1.0, 0.5):
            assert len(prompts.key_frames(caption, seconds, guided=True)) <= TINY.text_len
        assert len(prompts.first_frame(caption)) <= TINY.text_len
        assert len(prompts.superres(caption)) < TINY.superres_text_len


def test_words_forgive_capitals_and_full_stops(words):
    assert words.encode("A red square, moving left.") == words.encode("a red square moving left")


def test_words_know_line_breaks_and_added_tokens(words):
    ids = words.encode("4.0s\na red square<n>left <start_of_image>")
    assert ids.count(TINY.newline_id) == 2
    assert ids[-1] == TINY.boi_id
    assert words.decode([TINY.pad_id, *ids]) == "4.0s\na red square\nleft <start_of_image>"
    with pytest.raises(ValueError, match="expected ids of text, got 7"):
        words.decode([7])


@pytest.mark.parametrize(("word", "near"), [("sqare", "square"), ("movin", "moving"), ("zebra", "")])
def test_an_unknown_word_is_refused_with_near_ones_and_the_list(words, word, near):
    with pytest.raises(UserError) as caught:
        words.encode(f"a red {word}")
    message = str(caught.value)
    assert f"unknown word {word!r}" in message
    assert (f"did you mean {near}" in message) if near else ("did you mean" not in message)
    assert all(known in message for known in SHAPES_WORDS)


def test_the_fingerprint_of_words_follows_their_order(words):
    other = WordTokenizer(SHAPES_WORDS[::-1], TINY.num_image_tokens, TINY.text_pieces)
    assert words.fingerprint != other.fingerprint
    assert words.fingerprint == WordTokenizer(SHAPES_WORDS, TINY.num_image_tokens, TINY.text_pieces).fingerprint


@pytest.mark.parametrize(("listed", "pieces"), [(("a", "b", "a"), 48), (("a", "b"), 6)])
def test_words_must_be_distinct_and_fit(listed, pieces):
    with pytest.raises(UserError, match=f"at most {pieces - 5} distinct words"):
        WordTokenizer(listed, 512, pieces)
