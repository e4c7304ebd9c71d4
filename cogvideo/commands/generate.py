"""`cogeval generate`: a prompt, or a file of them, to videos, each with its recipe beside it."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cogvideo.commands.progress import duration, phase_bars
from cogvideo.commands.reading import read_given, read_prompts
from cogvideo.errors import Finished, UserError

if TYPE_CHECKING:
    import torch

    from cogvideo.pipeline import CogVideo, Video
    from cogvideo.recipe import Recipe
    from cogvideo.settings import GenerationSettings

    Pair = tuple[Recipe, Path]

SUFFIX = {"mp4": ".mp4", "gif": ".gif", "frames": ""}
CODEC = {"mp4": "h264", "gif": "gif", "frames": "png"}
# Weights of a seed and a role come from 8 * seed + role, which has to fit into 64 bits.
LARGEST_WEIGHTS_SEED = 2**32 - 1


FRAMES = 33
FLAGS_OF_SETTINGS = ("guidance_scale", "first_frame_guidance_scale", "between_guidance_scale")
FLAGS_OF_SAMPLER = {"temperature": "temperature", "top_k_clusters": "top_k"}
OF_WEIGHTS = "Default: what suits the weights, with the release's"


@click.command()
@click.argument("prompt", required=False)
@click.option(
    "--file", "file", type=click.Path(path_type=Path), help="Prompts, one a line, instead of PROMPT; - is stdin."
)
@click.option(
    "--checkpoint",
    type=click.Path(path_type=Path),
    help="Folder of the networks, converted or as released. Default: the small model that comes with cogeval.",
)
@click.option("--size", metavar="NAME", help="A size with random weights instead: tiny, small, medium, release.")
@click.option(
    "--weights-seed",
    type=click.IntRange(0, LARGEST_WEIGHTS_SEED),
    default=0,
    show_default=True,
    help="Seed of random weights.",
)
@click.option(
    "--text-model",
    type=click.Path(path_type=Path),
    help="ice_text.model, for --size other than tiny. Default: as fetched.",
)
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("videos"), show_default=True, help="Folder for the videos."
)
@click.option(
    "--frames", type=click.IntRange(1), help="Frames of a video. Default: what the networks were trained for, else 33."
)
@click.option(
    "--fps", type=click.FloatRange(min=0, min_open=True), default=8.0, show_default=True, help="Frames a second."
)
@click.option("--samples", type=click.IntRange(1), default=1, show_default=True, help="Videos of each prompt.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Another seed, another video.")
@click.option("--given", type=click.Path(path_type=Path), help="Picture or video that every video starts with.")
@click.option("--given-frames", type=click.IntRange(1), default=1, show_default=True, help="How many of its frames.")
@click.option("--guidance-scale", type=float, help=f"Of the key frames. {OF_WEIGHTS}: 3.")
@click.option(
    "--guidance/--no-guidance", default=True, show_default=True, help="Classifier-free guidance of key frames."
)
@click.option("--first-frame-guidance-scale", type=float, help=f"Of the first frame. {OF_WEIGHTS}: off.")
@click.option("--between-guidance-scale", type=float, help=f"Of the frames between. {OF_WEIGHTS}: off.")
@click.option("--temperature", type=float, help=f"Of all frames but the first. {OF_WEIGHTS}: 1.05.")
@click.option("--top-k", type=click.IntRange(1), help=f"Clusters of tokens to draw from. {OF_WEIGHTS}: 12.")
@click.option(
    "--super-resolution/--no-super-resolution",
    default=None,
    help="Three times as wide. Default: on; off for the small model that comes with cogeval, which cannot.",
)
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

    Without --checkpoint it is the small model that comes with cogeval, which knows drawn shapes that move.

    Each video gets a JSON file of the same name with everything that is needed to make it again. The same prompt, seed
    and weights give the same video, whatever is made beside it. A run that was cut short goes on where it was.

    \b
      cogeval generate "a red circle moving left"
      cogeval generate "跳舞的猫" --checkpoint weights/cogvideo
    """
    prompts = read_prompts(flags["prompt"], flags["file"])
    from cogvideo.devices import choose_device, choose_dtype, type_name
    from cogvideo.settings import GenerationSettings, Timeline
    from cogvideo.shipped import shipped

    _check_flags(flags)
    if flags["checkpoint"] is None and flags["size"] is None:
        flags["checkpoint"] = shipped()
        flags["super_resolution"] = bool(flags["super_resolution"])
    if flags["super_resolution"] is None:
        flags["super_resolution"] = True
    flags["frames"] = flags["frames"] or _frames_of(flags["checkpoint"])
    timeline = Timeline(flags["frames"], flags["fps"])
    _settings(flags, GenerationSettings())  # Refusals come before networks are read.
    device = choose_device(flags["device"])
    clip, given = read_given(flags["given"], flags["given_frames"], flags["frames"], flags["fps"])
    _check_folder(flags["out"])
    model = _model(flags, device, choose_dtype(flags["dtype"], device), has_stage2=timeline.rounds > 0)
    settings = _settings(flags, model.networks.settings)
    asked = {"frames": flags["frames"], "fps": flags["fps"], "settings": settings}
    asked |= {"superres": flags["super_resolution"], "iterative": flags["refine"]}
    model.check(prompts, **asked)
    dtype = type_name(model.networks.stage1.dtype)
    size = flags["batch_size"] or (16 if device.type == "cuda" else 4)
    recipes = _recipes(prompts, flags, model, settings, given, device.type, dtype, size)
    targets = [flags["out"] / f"{recipe.stem()}{SUFFIX[flags['form']]}" for recipe in recipes]
    pairs = list(zip(recipes, targets, strict=True))
    todo = _todo(pairs, flags["on_existing"])
    _make_folder(flags["out"])
    seconds: dict[str, float] = {}
    made, start = 0, time.perf_counter()
    with phase_bars(is_quiet=flags["quiet"]) as (say, progress):
        say(_headline(model, flags, device, len(recipes), len(todo)))
        for batch in _batches(pairs, todo, size, is_whole=dtype != "float32"):
            videos = model.generate(
                [recipe.prompt for recipe, _ in batch],
                seeds=[recipe.sample_seed for recipe, _ in batch],
                given=[clip] * len(batch) if clip is not None else None,
                progress=progress,
                **asked,
            )
            for (recipe, target), video in zip(batch, videos, strict=True):
                if target in todo:
                    _write(target, video, recipe, CODEC[flags["form"]], len(batch), model.seconds)
                    made += 1
            for phase, took in model.seconds.items():
                seconds[phase] = seconds.get(phase, 0.0) + took
            say(_footline(made, len(todo), time.perf_counter() - start))
    return _answer(pairs, made, seconds, as_json=flags["as_json"])


def _check_flags(flags: dict[str, Any]) -> None:
    """Raise UserError for flags that contradict each other."""
    checkpoint, size = flags["checkpoint"], flags["size"]
    if checkpoint is not None and size is not None:
        raise UserError("--checkpoint has sizes of its own: leave --size out, or the checkpoint")
    if checkpoint is not None and flags["text_model"] is not None:
        raise UserError("--text-model goes with --size: a checkpoint has the text model that it was trained with")
    if flags["refine"] and flags["super_resolution"] is False:
        raise UserError("--refine refines what super-resolution makes: leave --no-super-resolution out, or --refine")


def _frames_of(checkpoint: Path | None) -> int:
    """How long a video is if nobody says so."""
    from cogvideo.checkpoint.cards import PIPELINE_CARD_NAME, read_pipeline_card

    if checkpoint is not None and (checkpoint / PIPELINE_CARD_NAME).is_file():
        return read_pipeline_card(checkpoint).frames or FRAMES
    return FRAMES


def _check_folder(out: Path) -> None:
    """Raise UserError if no folder can be made there; nothing is made yet."""
    there = out.absolute()
    while not (there.exists() or there.is_symlink()) and there != there.parent:
        there = there.parent
    if not there.is_dir():
        raise UserError(f"cannot write to {out}: {there} is no folder; choose another --out")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UserError(f"cannot write to {out}: no permission for {there}; choose another --out")


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the folder {out}: {error.strerror}; choose another --out") from None


def _model(flags: dict[str, Any], device: torch.device, dtype: torch.dtype | None, *, has_stage2: bool) -> CogVideo:
    """The networks that the flags name; stage 2 only if it has frames to make."""
    from cogvideo.pipeline import CogVideo

    wanted: dict[str, Any] = {"superres": flags["super_resolution"], "iterative": flags["refine"]}
    wanted |= {"stage2": has_stage2, "device": device}
    if flags["checkpoint"] is not None:
        return CogVideo.load(flags["checkpoint"], dtype=dtype, **wanted)
    if dtype is not None:
        wanted["dtype"] = dtype
    return CogVideo.random(flags["size"], seed=flags["weights_seed"], text_model=flags["text_model"], **wanted)


def _settings(flags: dict[str, Any], suited: GenerationSettings) -> GenerationSettings:
    """Those that suit the weights, with what the flags say."""
    from dataclasses import replace

    from cogvideo.forward import QUIRKS

    given = {name: value for name in FLAGS_OF_SETTINGS if (value := flags[name]) is not None}
    sampler = {name: flags[flag] for name, flag in FLAGS_OF_SAMPLER.items() if flags[flag] is not None}
    settings = replace(suited, video=replace(suited.video, **sampler), **given)
    if not flags["guidance"]:
        settings = replace(settings, guidance_scale=None)
    return replace(settings, quirks=QUIRKS[flags["quirks"]], is_parallel=flags["parallel"])


def _recipes(
    prompts: Sequence[str],
    flags: dict[str, Any],
    model: CogVideo,
    settings: GenerationSettings,
    given: dict[str, Any] | None,
    device: str,
    dtype: str,
    batch_size: int,
) -> list[Recipe]:
    from dataclasses import asdict

    from cogvideo.pipeline import job_seed
    from cogvideo.recipe import Recipe

    # What changes the pixels; how many sequences are in work at once and in which order does not.
    chosen = {k: v for k, v in asdict(settings).items() if k not in ("is_parallel", "max_rows", "superres_frames")}
    chosen |= {"super_resolution": flags["super_resolution"], "refine": flags["refine"], "format": flags["form"]}
    if dtype != "float32":
        # Few digits: rounding, and with it a draw now and then, depends on what is computed in one batch.
        chosen["batch_size"] = batch_size
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
            device=device,
            dtype=dtype,
        )
        for prompt in prompts
        for sample in range(flags["samples"])
    ]


def _todo(pairs: Sequence[Pair], on_existing: str) -> set[Path]:
    """The videos that have to be made. Raises UserError for those that are there, if that is not wanted."""
    from cogvideo.recipe import is_finished

    done = [target for recipe, target in pairs if is_finished(target, recipe)]
    if done and on_existing == "error":
        raise UserError(
            f"{len(done)} of {len(pairs)} videos are there already, e.g. {done[0]}; use --on-existing skip or redo"
        )
    return {target for _, target in pairs} - (set() if on_existing == "redo" else set(done))


def _batches(pairs: Sequence[Pair], todo: set[Path], size: int, *, is_whole: bool) -> Iterator[list[Pair]]:
    """What is made together: `size` videos, in order. `is_whole` keeps the batches that a run from the start has."""
    waiting = pairs if is_whole else [pair for pair in pairs if pair[1] in todo]
    for start in range(0, len(waiting), size):
        batch = list(waiting[start : start + size])
        if any(target in todo for _, target in batch):
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


def _footline(made: int, todo: int, took: float) -> str:
    line = f"{made} of {todo} video{'s'[: todo != 1]} made in {duration(took)}"
    return f"{line}, about {duration(took / made * (todo - made))} left" if 0 < made < todo else line


def _answer(pairs: Sequence[Pair], made: int, seconds: dict[str, float], *, as_json: bool) -> Finished:
    from cogvideo.recipe import sidecar_of

    if as_json:
        rows = [
            {"prompt": recipe.prompt, "sample": recipe.sample, "video": str(target), "recipe": str(sidecar_of(target))}
            for recipe, target in pairs
        ]
        took = {phase: round(value, 3) for phase, value in seconds.items()}
        click.echo(json.dumps({"videos": rows, "made": made, "seconds": took}, ensure_ascii=False, indent=1))
        return Finished(json=True)
    for _, target in pairs:
        click.echo(str(target))
    return Finished()
