"""Videos of the prompts that have a page: gathered once from run folders, then players by name of what was gathered."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup, escape

from cogvideo.errors import UserError
from eval.notation import number
from reports.board.document import Board, Clip, FileFacts, PromptEntry, RunEntry
from reports.board.runs import read_run
from reports.media import Asset, make_media, media_cache
from reports.page import language_of
from reports.site.site import Site


@dataclass(frozen=True)
class Film:
    """What the player macros read. An empty `src` is said in words by `missing`."""

    name: str
    marker: int
    score: str
    src: str
    poster: str
    sprite: str
    alt: str
    width: int
    height: int
    frames: int
    fps: float
    caption: Markup
    key: str
    missing: str = "This video is not in the folder."


def gather(
    board: Board, folders: Mapping[str, Path], advance: Callable[[int], None] = lambda n: None
) -> dict[str, bytes]:
    """Posters, sprites and clips of shown prompts, from the folders (run id -> path) that are at hand; into the board.

    What was gathered before stays. A video that cannot be read is a note of its run, no error.
    """
    found: dict[str, bytes] = {}
    for run in board.runs:
        folder = folders.get(run.id)
        if folder is None:
            continue
        wanted = [
            board.prompts[place].sample
            for place in run.samples.prompts
            if board.prompts[place].page and board.prompts[place].sample not in run.clips
        ]
        files = {line.id: line.file for line in read_run(folder).samples.values()} if wanted else {}
        for sample in wanted:
            path = _inside(folder, files.get(sample, ""))
            if path is not None:
                run.clips |= _clip(board, run, sample, path, found)
            advance(1)
    return found


def wanted_clips(board: Board, folders: Iterable[str]) -> int:
    """How many videos `gather` will look at."""
    held = set(folders)
    return sum(
        bool(board.prompts[place].page) and board.prompts[place].sample not in run.clips
        for run in board.runs
        if run.id in held
        for place in run.samples.prompts
    )


def _inside(folder: Path, file: str) -> Path | None:
    """The video if it lies inside the run folder: a record from elsewhere must not reach other files."""
    try:
        path = (folder / file).resolve()
        return path if file and path.is_file() and path.is_relative_to(folder.resolve()) else None
    except (OSError, ValueError):
        return None


def _clip(board: Board, run: RunEntry, sample: str, path: Path, found: dict[str, bytes]) -> dict[str, Clip]:
    try:
        media = make_media(path, cache=media_cache())
    except UserError as error:
        run.notes.append(f"{sample}: {error}")
        return {}
    names = [_take(board, asset, found) for asset in (media.poster, media.sprite, media.clip)]
    poster, sprite, clip = names
    return {
        sample: Clip(
            poster=poster,
            sprite=sprite,
            clip=clip,
            width=media.width,
            height=media.height,
            frames=media.frames,
            fps=media.fps,
        )
    }


def _take(board: Board, asset: Asset | None, found: dict[str, bytes]) -> str:
    if asset is None:
        return ""
    found[asset.name] = asset.data
    board.media[asset.name] = FileFacts(name=asset.name, bytes=len(asset.data), sha256=asset.sha256)
    return asset.name


def film(
    site: Site,
    run: RunEntry,
    prompt: PromptEntry,
    up: str,
    *,
    name: str | None = None,
    marker: int = 0,
    metric: str = "",
    decimals: int = 3,
    caption_href: str = "",
) -> Film:
    """A run's video of a prompt."""
    clip = run.clips.get(prompt.sample)
    title = site.title(run)
    value = site.score(run, metric, prompt.sample) if metric else None
    score = number(value, decimals) if value is not None else ""
    src = f"{up}media/{clip.clip}" if clip and clip.clip else ""
    return Film(
        name=title if name is None else name,
        marker=marker,
        score=score,
        src=src,
        poster=f"{up}media/{clip.poster}" if clip and clip.poster else "",
        sprite=f"{up}media/{clip.sprite}" if clip and clip.sprite else "",
        alt=f"{title}: {prompt.prompt}",
        width=clip.width if clip else 0,
        height=clip.height if clip else 0,
        frames=clip.frames if clip else 0,
        fps=clip.fps if clip else 0.0,
        caption=caption(prompt, caption_href) if caption_href else Markup(""),
        key=prompt.sample,
        missing=_missing(run, prompt),
    )


def _missing(run: RunEntry, prompt: PromptEntry) -> str:
    for sample, kind, reason in run.samples.rejected:
        if sample == prompt.sample:
            return f"rejected: {kind or reason}"
    return "not run" if prompt.sample not in run.clips and not run.samples.ids else "This video is not in the folder."


def caption(prompt: PromptEntry, href: str) -> Markup:
    """The prompt as a link to its page, in its own language and direction."""
    language = language_of(prompt.prompt)
    lang = Markup(' lang="{}"').format(language) if language else Markup("")
    return Markup('<p><a href="{}" dir="auto"{}>{}</a></p>').format(href, lang, escape(_shown(prompt.prompt)))


def _shown(text: str) -> str:
    from reports.page import showable

    return str(showable(text))
