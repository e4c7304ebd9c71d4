"""Text to ids and back: the released SentencePiece model, or a closed list of words for the `tiny` size. No torch.

Ids: image tokens first, then text pieces (`<unk> <s> </s> <pad> <n>`, then the others), then three added tokens.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Protocol

from sentencepiece import SentencePieceProcessor

from cogvideo.config import SIZES, ModelConfig
from cogvideo.errors import MissingPrerequisite, UserError

FIRST_PIECES = ("<unk>", "<s>", "</s>", "<pad>", "<n>")
ADDED_TOKENS = ("<start_of_image>", "<start_of_english>", "<start_of_chinese>")
LINE_BREAK = "<n>"

# What the captions of the shapes data set, their durations and their suffixes are made of. The order is the order of
# the ids, which trained weights rely on: add at the end only.
SHAPES_WORDS = (
    *("a", "red", "green", "blue", "yellow", "purple", "white", "circle", "square", "triangle", "cross", "moving"),
    *("left", "right", "up", "down", "growing", "shrinking", "rotating", "bouncing", "circling"),
    *("4.0s", "2.0s", "1.0s", "0.5s", "photo", "video"),
)


class TextTokenizer(Protocol):
    """Text to ids and back. `special` maps the names of the special tokens to their ids."""

    @property
    def vocab_size(self) -> int:
        """Image tokens, text pieces and added tokens: one more than the highest id."""

    @property
    def special(self) -> Mapping[str, int]: ...

    @property
    def fingerprint(self) -> str:
        """The sha256 of what the tokenizer is made from."""

    def encode(self, text: str) -> list[int]:
        """The ids of a text. A line break becomes the id of `<n>`."""

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids. Raises ValueError for an id that is no text."""

    def describe(self) -> dict[str, str | int]:
        """What a sidecar or a card says of the tokenizer."""


class IceTokenizer:
    """The released tokenizer, on its SentencePiece model file (cogvideo's weights `ice-text-model`).

    An id is the SentencePiece id plus `num_image_tokens`. The three added tokens follow the file's pieces; as in the
    release, their names are found inside a text, so that the literal `<start_of_image>` in a prompt is that token. A
    line break is written `<n>` before the text is segmented; icetk does so on request and otherwise makes it a blank,
    which would leave no way to write the piece that CogVideo itself puts between duration and caption.
    `fingerprint` is the sha256 of the file.

    Raises MissingPrerequisite if there is no file, UserError if it is no such model or its `<pad>` and `<n>` are not
    the pieces 3 and 4.
    """

    def __init__(self, path: Path, num_image_tokens: int = 20000) -> None:
        self.path = path
        self.num_image_tokens = num_image_tokens
        content = _read(path)
        self.fingerprint = hashlib.sha256(content).hexdigest()
        try:
            self.pieces = _load(content).get_piece_size()
            # A message in protocol buffers goes on by appending: these are three more entries of field 1, the pieces.
            self._model = _load(content + b"".join(map(_piece, ADDED_TOKENS)))
        except RuntimeError:
            raise UserError(
                f"{path} ({len(content):,} bytes) is no SentencePiece model, or was cut short; run `cogeval weights "
                "fetch ice-text-model` and give that file"
            ) from None
        names = self._model.id_to_piece(list(range(min(self.pieces, len(FIRST_PIECES)))))
        if tuple(names[3:]) != FIRST_PIECES[3:]:
            raise UserError(
                f"{path} is not the ice text model: expected its first pieces to be {' '.join(FIRST_PIECES)}, got "
                f"{' '.join(names)}; run `cogeval weights fetch ice-text-model` and give that file"
            )
        self.special = _special_ids(num_image_tokens, self.pieces)

    @property
    def vocab_size(self) -> int:
        return self.num_image_tokens + self.pieces + len(ADDED_TOKENS)

    def encode(self, text: str) -> list[int]:
        """The ids of a text, without `<s>` and `</s>`."""
        found: list[int] = self._model.encode(_one_line(text))
        return [piece + self.num_image_tokens for piece in found]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids; `<pad>` and its like leave nothing. Raises ValueError for an id that is no text."""
        pieces = [_text_id(id_, self.num_image_tokens, self.vocab_size) for id_ in ids]
        return str(self._model.decode(pieces)).replace(LINE_BREAK, "\n")

    def describe(self) -> dict[str, str | int]:
        return {
            "kind": "ice",
            "file": self.path.name,
            "sha256": self.fingerprint,
            "num_image_tokens": self.num_image_tokens,
            "text_pieces": self.pieces,
        }


class WordTokenizer:
    """A closed list of words, one id each, laid out as the released tokenizer: for the `tiny` size, without a file.

    `text_pieces` is the number of ids between the image tokens and the added ones (default: just enough); ids beyond
    the last word are left free. Upper case, and punctuation at the end of a word, do not matter.
    Raises UserError for words that are not distinct, or too many.
    """

    def __init__(self, words: Sequence[str], num_image_tokens: int, text_pieces: int | None = None) -> None:
        self.words = tuple(words)
        self.num_image_tokens = num_image_tokens
        self.pieces = len(FIRST_PIECES) + len(self.words) if text_pieces is None else text_pieces
        if len(FIRST_PIECES) + len(self.words) > self.pieces or len(set(self.words)) < len(self.words):
            raise UserError(
                f"expected at most {self.pieces - len(FIRST_PIECES)} distinct words, got {len(self.words)}: "
                f"{', '.join(self.words)}"
            )
        self.special = _special_ids(num_image_tokens, self.pieces)
        first = num_image_tokens + len(FIRST_PIECES)
        self._ids = {
            **{word: first + k for k, word in enumerate(self.words)},
            **{name: self.special[name] for name in (LINE_BREAK, *ADDED_TOKENS)},
        }
        self._texts = {id_: word for word, id_ in self._ids.items()}

    @property
    def vocab_size(self) -> int:
        return self.num_image_tokens + self.pieces + len(ADDED_TOKENS)

    @property
    def fingerprint(self) -> str:
        made_from = "\n".join((*self.words, str(self.num_image_tokens), str(self.pieces)))
        return hashlib.sha256(made_from.encode()).hexdigest()

    def encode(self, text: str) -> list[int]:
        """The ids of a text. Raises UserError with near words for one that is not in the list."""
        return [self._id(word) for word in _one_line(text).replace(LINE_BREAK, f" {LINE_BREAK} ").split()]

    def decode(self, ids: Iterable[int]) -> str:
        """The words of ids with blanks between; `<pad>` and its like leave nothing. Raises ValueError for others."""
        silent = {self.special[name] for name in FIRST_PIECES} - {self.special[LINE_BREAK]}
        words = []
        for id_ in ids:
            if id_ in self._texts:
                words.append(self._texts[id_])
            elif id_ not in silent:
                raise ValueError(f"expected ids of text, got {id_}")
        return " ".join(words).replace(f" {LINE_BREAK} ", "\n").replace(LINE_BREAK, "\n")

    def describe(self) -> dict[str, str | int]:
        return {
            "kind": "words",
            "words": " ".join(self.words),
            "sha256": self.fingerprint,
            "num_image_tokens": self.num_image_tokens,
            "text_pieces": self.pieces,
        }

    def _id(self, word: str) -> int:
        for form in (word, word.lower(), word.lower().rstrip(".,;:!?")):
            if form in self._ids:
                return self._ids[form]
        near = get_close_matches(word.lower(), self.words, n=2)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        raise UserError(
            f"unknown word {word!r} in the prompt; {hint}this network knows these words alone: {', '.join(self.words)}"
        )


def load_tokenizer(config: ModelConfig, path: Path | None) -> TextTokenizer:
    """The text tokenizer of a size: the closed list of words for `tiny`, the SentencePiece model in `path` otherwise.

    Raises MissingPrerequisite if a model file is needed and not there, UserError if it does not fit the size.
    """
    if path is None and config.text_pieces == SIZES["tiny"].text_pieces:
        return WordTokenizer(SHAPES_WORDS, config.num_image_tokens, config.text_pieces)
    if path is None:
        raise MissingPrerequisite(
            "text needs the SentencePiece model of icetk and none was given: run `cogeval weights fetch "
            "ice-text-model`, or `cogeval weights add ice-text-model FILE` if you have ice_text.model"
        )
    tokenizer = IceTokenizer(path, config.num_image_tokens)
    if tokenizer.pieces != config.text_pieces:
        raise UserError(
            f"{path} holds {tokenizer.pieces:,} text pieces, but the {config.name or 'given'} size expects "
            f"{config.text_pieces:,}; give the model file that the checkpoint was trained with"
        )
    return tokenizer


def _special_ids(num_image_tokens: int, pieces: int) -> dict[str, int]:
    return {
        **{name: num_image_tokens + k for k, name in enumerate(FIRST_PIECES)},
        **{name: num_image_tokens + pieces + k for k, name in enumerate(ADDED_TOKENS)},
    }


def _one_line(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\n", LINE_BREAK)


def _text_id(id_: int, num_image_tokens: int, vocab_size: int) -> int:
    if not num_image_tokens <= id_ < vocab_size:
        raise ValueError(f"expected ids of text ({num_image_tokens} to {vocab_size - 1}), got {id_}")
    return int(id_) - num_image_tokens


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise MissingPrerequisite(
            f"there is no SentencePiece model at {path}: run `cogeval weights fetch ice-text-model`, or `cogeval "
            "weights add ice-text-model FILE` if you have ice_text.model"
        ) from None
    except OSError as error:
        raise UserError(f"cannot read the SentencePiece model {path}: {error.strerror or error}") from None


def _load(content: bytes) -> SentencePieceProcessor:
    """Raises RuntimeError if the bytes are no model."""
    if not content:
        raise RuntimeError("empty")  # SentencePiece itself takes it for a model without pieces
    return SentencePieceProcessor(model_proto=content)


def _piece(name: str) -> bytes:
    """A piece of score 0 and type NORMAL, the default, as an entry of the field 1 of a serialised model."""
    text = name.encode()
    body = b"\x0a" + bytes([len(text)]) + text + b"\x15" + struct.pack("<f", 0.0)
    return b"\x0a" + bytes([len(body)]) + body
