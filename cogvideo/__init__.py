"""CogVideo: text to video. Importing this package costs nothing; the model is imported when it is asked for.

from cogvideo import CogVideo; CogVideo.load("weights/cogvideo").generate(["一只猫在跳舞"])
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cogvideo.pipeline import CogVideo, Video
    from cogvideo.settings import GenerationSettings

__all__ = ["CogVideo", "GenerationSettings", "Video"]


def __getattr__(name: str) -> object:
    if name in ("CogVideo", "Video"):
        from cogvideo import pipeline

        return getattr(pipeline, name)
    if name == "GenerationSettings":
        from cogvideo.settings import GenerationSettings

        return GenerationSettings
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
