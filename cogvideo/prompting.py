"""What each network is told: prompt and duration as ids, in the templates of the release.

Duration and prompt are encoded apart, with the one id of `<n>` between them. No text has padding here.
"""

from __future__ import annotations

from dataclasses import dataclass

from cogvideo.config import ModelConfig
from cogvideo.errors import UserError
from cogvideo.tokenizer import TextTokenizer


@dataclass(frozen=True)
class PromptStyle:
    """The words around a prompt. Blanks belong to them: the suffixes begin with one."""

    first_frame_suffix: str
    """After the prompt of the first frame, which is a photograph to CogView2."""
    video_suffix: str
    """After the prompt of the key frames where guidance is on."""
    guider: str
    """In place of the prompt, for the sequence that guidance moves away from."""
    second: str
    """After the number of seconds."""


# CogVideo was trained on Chinese captions: "high-definition photography", "video", "second".
CHINESE = PromptStyle(first_frame_suffix=" 高清摄影", video_suffix=" 视频", guider="视频", second="秒")
# Of words that the closed vocabulary of `tiny` has.
ENGLISH = PromptStyle(first_frame_suffix=" photo", video_suffix=" video", guider="video", second="s")


class Prompts:
    """Ids of the text part of every sequence that is generated (CogVideo's release, its sequence templates).

    Methods raise UserError for an empty prompt and for one that gives more ids than the network takes, with both
    numbers. `seconds` is the time that the five frames of the sequence span: 4.0 at 1 frame a second, 0.5 at 8.
    """

    def __init__(self, tokenizer: TextTokenizer, config: ModelConfig, style: PromptStyle = CHINESE) -> None:
        self.tokenizer = tokenizer
        self.config = config
        self.style = style

    def first_frame(self, prompt: str) -> list[int]:
        """For the first frame, which the base transformer alone makes: no duration."""
        ids = self._encode(prompt, self.style.first_frame_suffix)
        return self._fitting(ids, prompt, self.config.max_text_len, "the first frame")

    def first_frame_guider(self) -> list[int]:
        """For the sequence beside the first frame's own, where guidance is on: the suffix alone."""
        ids = self._encode(self.style.first_frame_suffix.strip())
        return self._fitting(ids, self.style.first_frame_suffix, self.config.max_text_len, "guidance")

    def key_frames(self, prompt: str, seconds: float, guided: bool) -> list[int]:
        """For the other key frames. With guidance the prompt says that this is a video."""
        ids = self._encode(prompt, self.style.video_suffix if guided else "")
        return self._with_duration(ids, prompt, seconds, "key frames")

    def key_frames_guider(self, seconds: float) -> list[int]:
        """For the sequence beside the key frames' own, where guidance is on."""
        return self._guider(seconds)

    def between(self, prompt: str, seconds: float) -> list[int]:
        """For frames between given ones: no suffix, with guidance or without, as in the release."""
        return self._with_duration(self._encode(prompt), prompt, seconds, "the frames between")

    def between_guider(self, seconds: float) -> list[int]:
        """For the sequence beside that of the frames between, where guidance is on."""
        return self._guider(seconds)

    def superres(self, prompt: str) -> list[int]:
        """For direct super-resolution: the prompt alone. One text slot stays free, as in the release."""
        return self._fitting(self._encode(prompt), prompt, self.config.superres_text_len - 1, "super-resolution")

    def iterative(self, prompt: str) -> list[int]:
        """For iterative super-resolution: the first ids of the prompt, as many as fit (the release's rule)."""
        return self._encode(prompt)[: self.config.iterative_text_len]

    def _encode(self, prompt: str, suffix: str = "") -> list[int]:
        if not prompt.strip():
            raise UserError("the prompt is empty: expected a text that says what the video shows")
        return self.tokenizer.encode(prompt + suffix)

    def _duration(self, seconds: float) -> list[int]:
        return [*self.tokenizer.encode(f"{float(seconds)}{self.style.second}"), self.config.newline_id]

    def _with_duration(self, ids: list[int], prompt: str, seconds: float, use: str) -> list[int]:
        ids = [*self._duration(seconds), *ids]
        return self._fitting(ids, prompt, self.config.max_text_len, f"{use} with their duration")

    def _guider(self, seconds: float) -> list[int]:
        ids = [*self._duration(seconds), *self.tokenizer.encode(self.style.guider)]
        return self._fitting(ids, self.style.guider, self.config.max_text_len, "guidance")

    def _fitting(self, ids: list[int], prompt: str, limit: int, use: str) -> list[int]:
        if len(ids) > limit:
            start = prompt if len(prompt) <= 40 else f"{prompt[:40]}..."
            raise UserError(
                f"the prompt {start!r} is too long: {len(ids)} tokens for {use}, at most {limit} fit; shorten it"
            )
        return ids
