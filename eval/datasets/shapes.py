"""`shapes`, the data set that comes with the package: drawn by code, on disk in UCF-101's layout, captions in English.

from eval.datasets.shapes import open_
data = open_()          # renders it into the cache the first time
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from uuid import uuid4

from filelock import FileLock

from cogvideo.errors import UserError
from cogvideo.video import write_video
from cogvideo.weights import cache_home
from eval.datasets.items import DataSet
from eval.datasets.shapes_drawing import FPS, ShapeClass, StyleName, classes, draw_clip
from eval.datasets.ucf_layout import LISTS_FOLDER, read_layout
from eval.registry import datasets

VERSION = "v1"
GROUPS = 12  # a class, unless more are asked for
# The clips of a group share their background, as clips cut from one video do.
CLIPS_PER_GROUP = 2
MOST_GROUPS = 99
TEST_GROUPS = 4  # the first ones, as in UCF-101's first list

Which = Literal["benchmark", "training", "all"]


@dataclass(frozen=True)
class PlannedClip:
    """One file of the data set: what is drawn into it, and where it stands."""

    of: ShapeClass
    group: int
    number: int
    seed: int
    style: StyleName = "textured"

    @property
    def relative(self) -> str:
        """`Class/v_Class_gNN_cMM.avi`."""
        return f"{self.of.name}/v_{self.of.name}_g{self.group:02d}_c{self.number:02d}.avi"

    @property
    def split(self) -> str:
        return "test" if self.group <= TEST_GROUPS else "train"

    def write(self, root: Path) -> None:
        of, scene = self.of, f"{self.seed}/{self.of.name}/g{self.group:02d}"
        key = f"{scene}/c{self.number:02d}"
        clip = draw_clip(of.shape, of.colour, of.motion, key, scene=scene, style=self.style)
        write_video(root / self.relative, clip, fps=FPS, codec="ffv1")


def plan(
    *, seed: int = 0, which: Which = "benchmark", groups: int = GROUPS, style: StyleName = "textured"
) -> list[PlannedClip]:
    """Every clip of the data set: groups of 2 in each class, of which the first 4 are test clips.

    More groups leave those that fewer have as they are. Raises UserError for fewer than would leave train clips, and
    for more than the file names have digits for.
    """
    if not TEST_GROUPS < groups <= MOST_GROUPS:
        raise UserError(f"expected from {TEST_GROUPS + 1} to {MOST_GROUPS} groups of clips a class, got {groups}")
    return [
        PlannedClip(of, group, number, seed, style)
        for of in classes(which)
        for group in range(1, groups + 1)
        for number in range(1, CLIPS_PER_GROUP + 1)
    ]


def render(
    root: Path | str,
    *,
    seed: int = 0,
    classes: Which = "benchmark",
    groups: int = GROUPS,
    style: StyleName = "textured",
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Draw the data set into the new folder `root` and return it; the same bytes for the same seed.

    `classes`: the benchmark's 40, the 186 that a generator may be trained on, or all 210; two clips of each in every
    group, 17 frames of 64 x 64 at 8 fps, lossless. `style`: the benchmark's, or "plain" ones. `workers`: threads, None
    for one a core (four at most). `progress` gets (clips done, clips in all). The folder appears when it is complete.
    Raises UserError if it exists and is not empty, or cannot be written.
    """
    root = Path(root).absolute()
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise UserError(f"shapes are rendered into a new or empty folder; {root} has something in it: name another one")
    planned = plan(seed=seed, which=classes, groups=groups, style=style)
    with _appearing_whole(root) as unfinished:
        for name in dict.fromkeys(clip.of.name for clip in planned):
            (unfinished / name).mkdir()
        _write_lists(unfinished / LISTS_FOLDER, planned)
        for done in _write_clips(unfinished, planned, workers or min(4, os.cpu_count() or 1)):
            if progress:
                progress(done, len(planned))
    return root


@datasets.register(
    "shapes", "coloured shapes that move, 960 clips of 40 classes, drawn on first use", form="embedded, UCF-101 layout"
)
def open_(
    root: Path | str | None = None,
    *,
    seed: int = 0,
    split: int | str = 1,
    progress: Callable[[int, int], None] | None = None,
) -> DataSet:
    """The data set in `root`, or in the cache, where it is rendered if it is not there yet.

    Split "test" has 8 clips a class, "train" 16, and no group is in both. Raises UserError for a folder of another
    kind.
    """
    if root is None:
        place = cache_home() / "data" / f"shapes-{VERSION}-{seed}"
        if not place.is_dir():
            _render_once(place, seed, progress)
    else:
        place = Path(root)
    captions = {of.name: of.caption for of in classes("all")}
    return read_layout(place, name="shapes", split=int(split), captions={"en": captions})


def _render_once(place: Path, seed: int, progress: Callable[[int, int], None] | None) -> None:
    """Render into the cache; of several processes that try at once, one does and the others wait for it."""
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write {place.parent}: {error.strerror}; set COGEVAL_HOME to another folder") from None
    with FileLock(place.with_name(f".{place.name}.lock")):
        if not place.is_dir():
            render(place, seed=seed, progress=progress)


@contextmanager
def _appearing_whole(root: Path) -> Iterator[Path]:
    """A hidden folder beside `root` that takes its name when all went well, and vanishes when not."""
    unfinished = root.with_name(f".{root.name}.{uuid4().hex}.part")
    try:
        unfinished.mkdir(parents=True)
        yield unfinished
        try:
            unfinished.replace(root)
        except OSError:
            # Another process was first; its clips are the same as ours.
            if not (root / LISTS_FOLDER).is_dir():
                raise
    except OSError as error:
        raise UserError(f"cannot write {root}: {error.strerror or error}; make room, or name another folder") from None
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _write_lists(folder: Path, planned: Sequence[PlannedClip]) -> None:
    """`classInd.txt` and the lists of the one split there is, in UCF-101's form."""
    folder.mkdir()
    numbers = {name: k for k, name in enumerate(dict.fromkeys(clip.of.name for clip in planned), 1)}
    train = [f"{clip.relative} {numbers[clip.of.name]}" for clip in planned if clip.split == "train"]
    test = [clip.relative for clip in planned if clip.split == "test"]
    known = [f"{number} {name}" for name, number in numbers.items()]
    for name, lines in (("classInd", known), ("trainlist01", train), ("testlist01", test)):
        (folder / f"{name}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")


def _write_clips(root: Path, planned: Sequence[PlannedClip], workers: int) -> Iterator[int]:
    """Write every clip; gives the number of finished ones now and then."""
    parts = [planned[first : first + 24] for first in range(0, len(planned), 24)]
    # Threads are enough: numpy and FFmpeg let go of the interpreter while they work.
    with ThreadPoolExecutor(workers) as pool:
        done = 0
        for part, _ in zip(parts, pool.map(_write_part, [root] * len(parts), parts), strict=True):
            done += len(part)
            yield done


def _write_part(root: Path, part: Sequence[PlannedClip]) -> None:
    for clip in part:
        clip.write(root)
