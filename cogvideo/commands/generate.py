"""`cogeval generate`: a prompt, or a file of them, to videos, each with its recipe beside it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cogvideo.errors import Finished, UserError

if TYPE_CHECKING:
    import torch

    from cogvideo.pipeline import Clip, CogVideo, Progress, Video
    from cogvideo.recipe import Recipe
    from cogvideo.settings import GenerationSettings

SUFFIX = {"mp4": ".mp4", "gif": ".gif", "frames": ""}
CODEC = {"mp4": "h264", "gif": "gif", "frames": "png"}
# What each phase counts, where it is not tokens.
UNITS = {"decoding": "videos", "super-resolution": "frames", "refinement": "frames"}
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


@click.command()
@click.argument("prompt", required=False)
@click.option(
    "--file", "file", type=click.Path(path_type=Path), help="Prompts, one a line, instead of PROMPT; - is stdin."
)
@click.option("--checkpoint", type=click.Path(path_type=Path), help="Folder of the networks, converted or as released.")
@click.option("--size", metavar="NAME", help="A size with random weights instead: tiny, small, medium, release.")
@click.option("--weights-seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of random weights.")
@click.option("--text-model", type=click.Path(path_type=Path), help="ice_text.model, for --size other than tiny.")
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("videos"), show_default=True, help="Folder for the videos."
)
@click.option("--frames", type=click.IntRange(1), default=33, show_default=True, help="Frames of a video.")
@click.option(
    "--fps", type=click.FloatRange(min=0, min_open=True), default=8.0, show_default=True, help="Frames a second."
)
@click.option("--samples", type=click.IntRange(1), default=1, show_default=True, help="Videos of each prompt.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Another seed, another video.")
@click.option("--given", type=click.Path(path_type=Path), help="Picture or video that every video starts with.")
@click.option("--given-frames", type=click.IntRange(1), default=1, show_default=True, help="How many of its frames.")
@click.option("--guidance-scale", type=float, default=3.0, show_default=True, help="Of the key frames.")
@click.option(
    "--guidance/--no-guidance", default=True, show_default=True, help="Classifier-free guidance of key frames."
)
@click.option("--between-guidance-scale", type=float, help="Guidance of the frames between; off unless given.")
@click.option("--temperature", type=float, default=1.05, show_default=True, help="Of all frames but the first.")
@click.option("--top-k", type=click.IntRange(1), default=12, show_default=True, help="Clusters of tokens to draw from.")
@click.option("--super-resolution/--no-super-resolution", default=True, show_default=True, help="Three times as wide.")
@click.option("--refine/--no-refine", default=False, show_default=True, help="Iterative super-resolution as well.")
@click.option(
    "--parallel/--no-parallel", default=True, show_default=True, help="Frames between in fewer steps; same samples."
)
@click.option(
    "--quirks",
    type=click.Choice(["consistent", "release"]),
    default="consistent",
    show_default=True,
    help="Infer as training did, or as the released code does.",
)
@click.option(
    "--format", "form", type=click.Choice(list(SUFFIX)), default="mp4", show_default=True, help="What is written."
)
@click.option(
    "--batch-size", type=click.IntRange(1), help="Videos in work at once; changes no video. Default: 4, on a GPU 16."
)
@click.option("--device", default="auto", show_default=True, metavar="NAME", help="auto, cpu, cuda, cuda:1.")
@click.option(
    "--dtype",
    type=click.Choice(["auto", "float32", "bfloat16", "float16"]),
    default="auto",
    show_default=True,
    help="Type of the numbers; auto is bfloat16 on a GPU, else the weights' own.",
)
@click.option(
    "--on-existing",
    type=click.Choice(["skip", "redo", "error"]),
    default="skip",
    show_default=True,
    help="What to do with videos that are there already.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
@click.option("--quiet", is_flag=True, help="No progress on stderr.")
def generate(**flags: Any) -> Finished:
    """Make videos of PROMPT with CogVideo: first frame, key frames, frames between, super-resolution.

    Each video gets a JSON file of the same name with everything that is needed to make it again. The same prompt, seed
    and weights give the same video, whatever is made beside it. A run that was cut short goes on where it was.
    """
    prompts = _prompts(flags["prompt"], flags["file"])
    from cogvideo.devices import choose_device, choose_dtype, type_name
    from cogvideo.settings import Timeline

    Timeline(flags["frames"], flags["fps"])
    device = choose_device(flags["device"])
    settings = _settings(flags)
    clip, given = _given(flags)
    out = _folder(flags["out"])
    model = _model(flags, device, choose_dtype(flags["dtype"], device))
    recipes = _recipes(prompts, flags, model, settings, given, str(device), type_name(model.networks.stage1.dtype))
    targets = [out / f"{recipe.stem()}{SUFFIX[flags['form']]}" for recipe in recipes]
    todo = _todo(recipes, targets, flags["on_existing"])
    seconds: dict[str, float] = {}
    with _bars(quiet=flags["quiet"]) as (say, progress):
        say(_headline(model, flags, device, len(recipes), len(todo)))
        size = flags["batch_size"] or (16 if device.type == "cuda" else 4)
        for batch in _batches(todo, size):
            videos = model.generate(
                [recipe.prompt for recipe, _ in batch],
                frames=flags["frames"],
                fps=flags["fps"],
                seeds=[recipe.sample_seed for recipe, _ in batch],
                given=[clip] * len(batch) if clip is not None else None,
                superres=flags["super_resolution"],
                iterative=flags["refine"],
                settings=settings,
                progress=progress,
            )
            for (recipe, target), video in zip(batch, videos, strict=True):
                _write(target, video, recipe, CODEC[flags["form"]], len(batch), model.seconds)
            for phase, took in model.seconds.items():
                seconds[phase] = seconds.get(phase, 0.0) + took
    return _answer(recipes, targets, len(todo), seconds, as_json=flags["as_json"])


def _prompts(prompt: str | None, file: Path | None) -> list[str]:
    """The prompts, each once, in order. Raises UserError for none, or for both sources."""
    if (prompt is None) == (file is None):
        raise UserError("expected a PROMPT, or --file with one a line; see `cogeval generate --help`")
    if file is None:
        lines = [prompt or ""]
    else:
        try:
            text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
            raise UserError(f"cannot read {file}: {reason}; expected a text file with a prompt on each line") from None
        lines = [line for line in text.splitlines() if line.strip()]
    prompts = list(dict.fromkeys(line.strip() for line in lines))
    if not prompts or not all(prompts):
        where = f"{file} has no prompt" if file else "the prompt is empty"
        raise UserError(f"{where}: expected a text that says what the video shows")
    return prompts


def _model(flags: dict[str, Any], device: torch.device, dtype: torch.dtype | None) -> CogVideo:
    """The networks that the flags name. Raises UserError for both or neither of checkpoint and size."""
    checkpoint, size = flags["checkpoint"], flags["size"]
    if checkpoint is not None and size is not None:
        raise UserError("--checkpoint has sizes of its own: leave --size out, or the checkpoint")
    if checkpoint is None and size is None:
        raise UserError(
            "no trained weights come with cogeval yet: give --checkpoint DIR (see `cogeval convert --help`),"
            " or --size tiny for a trial with random weights"
        )
    from cogvideo.pipeline import CogVideo

    wanted = {"superres": flags["super_resolution"], "iterative": flags["refine"]}
    if checkpoint is not None:
        return CogVideo.load(checkpoint, device=device, dtype=dtype, **wanted)
    if dtype is not None:
        wanted["dtype"] = dtype
    return CogVideo.random(size, seed=flags["weights_seed"], text_model=flags["text_model"], device=device, **wanted)


def _settings(flags: dict[str, Any]) -> GenerationSettings:
    from dataclasses import replace

    from cogvideo.forward import QUIRKS
    from cogvideo.sampling import VIDEO
    from cogvideo.settings import GenerationSettings

    return GenerationSettings(
        video=replace(VIDEO, temperature=flags["temperature"], top_k_clusters=flags["top_k"]),
        guidance_scale=flags["guidance_scale"] if flags["guidance"] else None,
        between_guidance_scale=flags["between_guidance_scale"],
        quirks=QUIRKS[flags["quirks"]],
        is_parallel=flags["parallel"],
    )


def _given(flags: dict[str, Any]) -> tuple[Clip | None, dict[str, Any] | None]:
    """The frames that every video starts with, and how the recipe names them."""
    path, count = flags["given"], flags["given_frames"]
    if path is None:
        return None, None
    if count >= flags["frames"]:
        raise UserError(f"{count} given frames leave nothing to make of {flags['frames']}; give fewer, or ask for more")
    from cogvideo.recipe import content_sha256

    if path.suffix.lower() in PICTURES:
        import numpy as np
        from PIL import Image, UnidentifiedImageError

        try:
            with Image.open(path) as picture:
                clip = np.asarray(picture.convert("RGB"))[None]
        except (OSError, UnidentifiedImageError) as error:
            reason = getattr(error, "strerror", None) or "it is no picture"
            raise UserError(f"cannot read {path}: {reason}; expected a picture or a video") from None
        if count != 1:
            raise UserError(f"{path} is one picture: leave --given-frames at 1, or give a video")
    else:
        from cogvideo.video import read_clip

        clip = read_clip(path, start=0, frames=count, fps=flags["fps"])
    return clip, {"file": path.name, "sha256": content_sha256(path), "frames": count}


def _folder(out: Path) -> Path:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the folder {out}: {error.strerror}; choose another --out") from None
    return out


def _recipes(
    prompts: Sequence[str],
    flags: dict[str, Any],
    model: CogVideo,
    settings: GenerationSettings,
    given: dict[str, Any] | None,
    device: str,
    dtype: str,
) -> list[Recipe]:
    from dataclasses import asdict

    from cogvideo.pipeline import job_seed
    from cogvideo.recipe import Recipe

    # What changes the pixels; how many sequences are in work at once and in which order does not.
    chosen = {k: v for k, v in asdict(settings).items() if k not in ("is_parallel", "max_rows", "superres_frames")}
    chosen |= {"super_resolution": flags["super_resolution"], "refine": flags["refine"], "format": flags["form"]}
    facts = {"name": model.networks.name, "is_random": model.networks.is_random, **model.networks.facts}
    facts["sizes"] = model.config.layout()
    return [
        Recipe(
            prompt=prompt,
            sample=sample,
            seed=flags["seed"],
            sample_seed=job_seed(flags["seed"], prompt, sample),
            frames=flags["frames"],
            fps=flags["fps"],
            model=facts,
            settings=chosen,
            given=given,
            device=device.split(":")[0],
            dtype=dtype,
        )
        for prompt in prompts
        for sample in range(flags["samples"])
    ]


def _todo(recipes: Sequence[Recipe], targets: Sequence[Path], on_existing: str) -> list[tuple[Recipe, Path]]:
    from cogvideo.recipe import is_finished

    pairs = list(zip(recipes, targets, strict=True))
    done = [target for recipe, target in pairs if is_finished(target, recipe)]
    if done and on_existing == "error":
        raise UserError(
            f"{len(done)} of {len(pairs)} videos are there already, e.g. {done[0]}; use --on-existing skip or redo"
        )
    return pairs if on_existing == "redo" else [pair for pair in pairs if pair[1] not in done]


def _batches(pairs: Sequence[tuple[Recipe, Path]], size: int) -> Iterator[list[tuple[Recipe, Path]]]:
    waiting = iter(pairs)
    while batch := list(islice(waiting, size)):
        yield batch


def _write(target: Path, video: Video, recipe: Recipe, codec: str, batch: int, seconds: dict[str, float]) -> None:
    """The video, then its sidecar: what has a sidecar is finished."""
    import shlex
    from importlib.metadata import version

    from cogvideo.recipe import Made, content_sha256, sidecar_of, write_sidecar
    from cogvideo.video import write_video

    sidecar_of(target).unlink(missing_ok=True)
    write_video(target, video.clip, fps=video.fps, codec=codec)
    _, height, width, _ = video.clip.shape
    made = Made(
        file=target.name,
        sha256=content_sha256(target),
        width=width,
        height=height,
        batch=batch,
        seconds={phase: round(took, 3) for phase, took in seconds.items()},
        command=shlex.join(["cogeval", *sys.argv[1:]]),
        versions={name: version(name) for name in ("cogeval", "torch", "av")},
    )
    write_sidecar(target, recipe, made)


def _headline(model: CogVideo, flags: dict[str, Any], device: torch.device, asked: int, todo: int) -> str:
    weights = "random weights, so the pictures mean nothing" if model.networks.is_random else "trained weights"
    ready = f", {asked - todo} there already" if todo < asked else ""
    side = model.config.superres_pixels if flags["super_resolution"] else model.config.frame_pixels
    return (
        f"{model.networks.name} ({weights}) on {device}: {asked} video{'s'[: asked != 1]} of {flags['frames']} frames"
        f" at {flags['fps']:g} a second, {side} x {side} pixels{ready}"
    )


def _answer(
    recipes: Sequence[Recipe], targets: Sequence[Path], made: int, seconds: dict[str, float], *, as_json: bool
) -> Finished:
    from cogvideo.recipe import sidecar_of

    if as_json:
        rows = [
            {"prompt": recipe.prompt, "sample": recipe.sample, "video": str(target), "recipe": str(sidecar_of(target))}
            for recipe, target in zip(recipes, targets, strict=True)
        ]
        took = {phase: round(value, 3) for phase, value in seconds.items()}
        click.echo(json.dumps({"videos": rows, "made": made, "seconds": took}, ensure_ascii=False, indent=1))
        return Finished(json=True)
    for target in targets:
        click.echo(str(target))
    return Finished()


@contextmanager
def _bars(*, quiet: bool) -> Iterator[tuple[Any, Progress | None]]:
    """A line for what is done and a bar for each phase, on stderr: units, units a second, time left."""
    if quiet:
        yield (lambda _line: None), None
        return
    from rich import progress as bars
    from rich.console import Console

    console = Console(stderr=True, highlight=False, markup=False, emoji=False)
    columns = (
        bars.TextColumn("{task.description:>16}", markup=False),
        bars.BarColumn(28),
        bars.MofNCompleteColumn(),
        bars.TextColumn("{task.fields[unit]}", markup=False),
        bars.TextColumn("{task.fields[rate]}", markup=False),
        bars.TimeRemainingColumn(compact=True, elapsed_when_finished=True),
    )
    with bars.Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as shown:
        tasks: dict[str, bars.TaskID] = {}

        def progress(phase: str, done: int, total: int) -> None:
            if phase not in tasks or shown.tasks[tasks[phase]].completed > done:
                unit = UNITS.get(phase, "tokens")
                if phase in tasks:
                    shown.reset(tasks[phase], total=total, completed=done)
                else:
                    tasks[phase] = shown.add_task(phase, total=total, unit=unit, rate="")
            speed = shown.tasks[tasks[phase]].speed
            shown.update(tasks[phase], completed=done, total=total, rate=f"{speed:,.0f}/s" if speed else "")

        yield lambda line: console.print(line, soft_wrap=True), progress
