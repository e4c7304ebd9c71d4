"""The ids that stand around captions in records: durations, suffixes, and what replaces a dropped caption."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction

from cogvideo.data.rates import seconds_of, write_rate
from cogvideo.data.record_card import Words
from cogvideo.errors import UserError
from cogvideo.prompting import Prompts


def words_of(prompts: Prompts, rates: Iterable[Fraction]) -> Words:
    """What the text tokenizer of `prompts` makes of them; rates that its text model has no duration for are left out.

    Suffixes begin with a blank, where a text is always cut, so that their ids may be put behind those of a caption.
    """
    encode, style = prompts.tokenizer.encode, prompts.style
    durations = {}
    for rate in sorted(set(rates)):
        seconds = seconds_of(rate, prompts.config.frames)
        try:
            durations[str(seconds)] = duration_ids(prompts, rate)
        except UserError:
            continue
    return Words(
        durations=durations,
        first_frame_suffix=encode(style.first_frame_suffix),
        video_suffix=encode(style.video_suffix),
        first_frame=encode(style.first_frame_suffix.strip()),
        video=encode(style.guider),
    )


def duration_ids(prompts: Prompts, rate: Fraction) -> list[int]:
    """The ids in front of a caption at a rate, `<n>` included. Raises UserError if the text model has no such word."""
    seconds = seconds_of(rate, prompts.config.frames)
    try:
        ids = prompts.between_guider(seconds)
    except UserError:
        raise UserError(
            f"{write_rate(rate)} frames a second need the duration {seconds}{prompts.style.second} in the text, which "
            "this text model does not know; leave the rate out"
        ) from None
    return ids[: ids.index(prompts.config.newline_id) + 1]
