"""What `cogeval generate` starts from: prompts of the command line, a file or stdin, and frames that are given."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cogvideo.errors import UserError

if TYPE_CHECKING:
    from cogvideo.video.opening import Clip

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


def read_prompts(prompt: str | None, file: Path | None) -> list[str]:
    """The prompts, each once, in order. Raises UserError for none, for both sources, and for what is no text."""
    if (prompt is None) == (file is None):
        raise UserError("expected a PROMPT, or --file with one a line; see `cogeval generate --help`")
    if file is None:
        assert prompt is not None
        if any(end in prompt for end in "\r\n"):
            raise UserError("the prompt has several lines: expected one; give them with --file, one prompt a line")
        if _is_file(prompt.strip()):
            raise UserError(f"the prompt {prompt!r} is the name of a file; for the prompts in it, use --file {prompt}")
        lines = [prompt]
    else:
        lines = [line for line in re.split(r"\r\n|\r|\n", _text(file)) if line.strip()]
    prompts = list(dict.fromkeys(line.strip() for line in lines))
    if not prompts or not all(prompts):
        where = f"{_name(file)} has no prompt" if file else "the prompt is empty"
        raise UserError(f"{where}: expected a text that says what the video shows")
    for number, text in enumerate(prompts, 1):
        # What a terminal or a file had in another encoding arrives as halves of characters.
        if not text.isprintable() and (wrong := _unprintable(text)):
            raise UserError(f"prompt {number} has characters that are no text ({wrong}); is it written in UTF-8?")
    return prompts


def read_given(path: Path | None, count: int, frames: int, fps: float) -> tuple[Clip | None, dict[str, Any] | None]:
    """The frames that every video starts with, uint8 (count, H, W, 3), and how a recipe names them.

    Raises UserError for too many or too few frames, and for a file that is no picture or video, or damaged.
    """
    if path is None:
        if count > 1:
            raise UserError("--given-frames says how many frames of --given are used; give that as well, or leave it")
        return None, None
    if count >= frames:
        raise UserError(f"{count} given frames leave nothing to make of {frames}; give fewer, or ask for more")
    if path.suffix.lower() in PICTURES:
        if count != 1:
            raise UserError(f"{path} is one picture: leave --given-frames at 1, or give a video")
        clip = _picture(path)
    else:
        from cogvideo.video import read_clip

        clip = read_clip(path, start=0, frames=count, fps=fps)
    from cogvideo.recipe import content_sha256

    return clip, {"file": path.name, "sha256": content_sha256(path), "frames": count}


def _picture(path: Path) -> Clip:
    """A picture the way up that its camera says, (1, H, W, 3)."""
    import numpy as np
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(path) as picture:
            return np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))[None]
    except UnidentifiedImageError:
        reason = "it is no picture"
    except Image.DecompressionBombError:
        reason = "it is too large"
    # Pillow raises all of these for damaged files, SyntaxError for PNG.
    except (OSError, SyntaxError, ValueError) as error:
        reason = getattr(error, "strerror", None) or f"it is damaged ({error})"
    raise UserError(f"cannot read {path}: {reason}; expected a picture or a video")


def _text(file: Path) -> str:
    try:
        content = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
        return content.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        line = f"cannot read {_name(file)}: {reason}; expected a text file with a prompt on each line"
        raise UserError(line) from None


def _name(file: Path | None) -> str:
    return "stdin" if str(file) == "-" else str(file)


def _is_file(prompt: str) -> bool:
    try:
        return Path(prompt).is_file()
    except (OSError, ValueError):
        return False


def _unprintable(text: str) -> str:
    """Control characters and halves of characters, as escapes; tabs and rare blanks are left."""
    wrong = [sign for sign in text if "\ud800" <= sign <= "\udfff" or (sign < " " and sign != "\t") or sign == "\x7f"]
    return ", ".join(dict.fromkeys(ascii(sign)[1:-1] for sign in wrong))
