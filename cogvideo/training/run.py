"""One training from a recipe and folders: networks, batches, engine, and the weights that it leaves.

The folder of a run: `training.json` (what it is), `log.jsonl`, `checkpoints/`, and at the end the network by its name.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch

from cogvideo.checkpoint.cards import CARD_NAME, Part, read_card
from cogvideo.checkpoint.loading import load_network
from cogvideo.config import ModelConfig, get_size
from cogvideo.data.records import Records
from cogvideo.data.sources import open_source
from cogvideo.errors import MissingPrerequisite, UserError
from cogvideo.network import Kind, Network, initialise_
from cogvideo.superres.inherit import inherit_superres_
from cogvideo.training import precision, state
from cogvideo.training.batches import FrameBatches, SuperresBatches, split_batches
from cogvideo.training.codebook import TokenizerTask
from cogvideo.training.engine import Batches, Engine, Options, Outcome
from cogvideo.training.export import export_network, export_tokenizer
from cogvideo.training.frames import frames_of, hash_of
from cogvideo.training.inherit import freeze_, inherit_video_
from cogvideo.training.log import Listener, progress_line, tensorboard
from cogvideo.training.parallel import World, joined, shard_
from cogvideo.training.recipe import TrainingRecipe
from cogvideo.training.tasks import ImageTask, StageTask, SuperresTask, Task
from cogvideo.vqvae.config import IMAGE_TOKENIZERS
from cogvideo.vqvae.image_tokenizer import ImageTokenizer

RUN_NAME = "training.json"
PARTS: dict[str, Part] = {
    "tokenizer": "image-tokenizer",
    "base": "image",
    "stage1": "stage1",
    "stage2": "stage2",
    "superres": "superres",
}
KINDS: dict[str, Kind] = {"base": "image", "stage1": "video", "stage2": "video", "superres": "superres"}
# Parameters from which a network is spread over the processes instead of kept by each.
SHARDED_FROM = 50_000_000
# Folder names in a pipeline folder.
NAMES = {"tokenizer": "image_tokenizer", "base": "image"}


@dataclass(frozen=True)
class Request:
    """What a person asks for. `init`: the network that the run starts from, or a pipeline folder that holds it."""

    recipe: TrainingRecipe
    data: Path
    out: Path
    device: torch.device
    init: Path | None = None
    seed: int = 0
    accumulate: int = 1
    save_every: int = 500
    log_every: int = 50
    recompute: bool = False
    is_compiled: bool = False
    workers: int = 1
    until: int | None = None
    is_resumed: bool = True
    is_quiet: bool = False


@dataclass(frozen=True)
class Result:
    """How it ended, and where the weights are if it is finished."""

    outcome: Outcome
    weights: Path | None
    out: Path
    recipe: TrainingRecipe


def train(request: Request, listeners: Sequence[Listener] = ()) -> Result:
    """Train to the end, or until a signal; under `torchrun`, as one process of several.

    Raises UserError for data, weights or a folder that do not fit the recipe, before anything is trained.
    """
    recipe = request.recipe
    with joined(request.device) as (world, device), ExitStack() as stack:
        is_half = precision.is_half(recipe.precision, device, request.out, world)
        config = get_size(recipe.size)
        weights = request.out / NAMES.get(recipe.task, recipe.task)
        _make_folder(request, world)
        task, facts = _task(request, config, world)
        batches, held_out, data_facts = _batches(request, config, task, world)
        facts |= data_facts | {"precision": "bfloat16" if is_half else "float32"}
        task.to(device)
        is_sharded = not world.is_alone and recipe.task != "tokenizer" and _is_large(task)
        if is_sharded:
            shard_(task, cast(Network, task.network), device, half=is_half)
        options = Options(
            request.seed,
            request.accumulate,
            request.save_every,
            request.log_every,
            is_half=is_half,
            is_compiled=request.is_compiled,
            facts=facts,
        )
        engine = Engine(
            task,
            recipe,
            batches,
            request.out,
            held_out=held_out,
            device=device,
            options=options,
            world=world,
            is_sharded=is_sharded,
        )
        engine.resume()
        if world.is_first:
            _write_run(request, facts, world)
        everyone = list(listeners)
        if world.is_first:
            show = progress_line(recipe.name, recipe.steps, engine.step, is_quiet=request.is_quiet)
            everyone.append(stack.enter_context(show))
            if board := tensorboard(request.out):
                everyone.append(board)
        outcome = engine.run(everyone, until=request.until)
        if not outcome.is_finished:
            return Result(outcome, None, request.out, recipe)
        note = f"recipe {recipe.name}, seed {request.seed}, {recipe.steps} steps of {recipe.batch_size}"
        if recipe.task == "tokenizer":
            if world.is_first:
                export_tokenizer(cast(ImageTokenizer, task.tokenizer), weights, step=engine.step, note=note)
            world.wait()
        else:
            network = cast(Network, task.network)
            export_network(network, weights, PARTS[recipe.task], step=engine.step, note=note, world=world)
        return Result(outcome, weights, request.out, recipe)


def _task(request: Request, config: ModelConfig, world: World) -> tuple[Task, dict[str, Any]]:
    """What is trained, on the CPU, and what identifies where it started."""
    recipe = request.recipe
    recompute = request.recompute or recipe.recompute
    if recipe.task == "tokenizer":
        sizes = IMAGE_TOKENIZERS.get(recipe.size)
        if sizes is None:
            raise UserError(
                f"there is no image tokenizer of size {recipe.size}; there are {', '.join(IMAGE_TOKENIZERS)}"
            )
        torch.manual_seed(request.seed)
        tokenizer = ImageTokenizer(sizes)
        return TokenizerTask(tokenizer, config.compress_rate, config.frame_pixels, recipe.codebook, world), {}
    network, facts = _network(request, config)
    network.dropout = recipe.dropout
    if recipe.task == "base":
        return ImageTask(freeze_(network, "everything"), recompute=recompute), facts
    freeze_(network, recipe.trained)
    if recipe.task == "superres":
        return SuperresTask(network), facts
    return StageTask(network, 1 if recipe.task == "stage1" else 2, recipe.window, recompute=recompute), facts


def _network(request: Request, config: ModelConfig) -> tuple[Network, dict[str, Any]]:
    """The network as it starts, in float32 and with storage of its own."""
    recipe, kind = request.recipe, KINDS[request.recipe.task]
    if recipe.start == "random":
        if request.init is not None:
            raise UserError(f"recipe {recipe.name} starts from random weights: leave --init out")
        return initialise_(Network(config, kind), request.seed), {"init": "random"}
    part = PARTS[recipe.task] if recipe.start == "same" else "image"
    if request.init is None:
        raise MissingPrerequisite(
            f"recipe {recipe.name} starts from a network of the kind {part}: give its folder with --init DIR"
        )
    folder = _folder_of(request.init, part)
    source = load_network(folder, part, device="cpu", dtype=torch.float32, expect=config)
    facts = {"init": _identity(folder)}
    network = Network(source.config, kind)
    if recipe.start == "same":
        network.load_state_dict(source.state_dict())
    elif kind == "superres":
        inherit_superres_(network, source)
    else:
        inherit_video_(network, source, recipe.start, request.seed)
    return network, facts


def _batches(
    request: Request, config: ModelConfig, task: Task, world: World
) -> tuple[Batches, Batches | None, dict[str, Any]]:
    """Rows to train on, held-out rows if there are some, and what identifies the data."""
    recipe, seed = request.recipe, request.seed
    if recipe.task == "tokenizer":
        if world.is_first:
            frames = frames_of(
                open_source(request.data), request.out, config.frame_pixels, seed=seed, workers=request.workers
            )
        world.wait()
        if not world.is_first:
            frames = frames_of(open_source(request.data), request.out, config.frame_pixels, seed=seed)
        return FrameBatches(frames, recipe.batch_size, seed), None, {"data": hash_of(frames)}
    if recipe.task == "superres":
        rows = SuperresBatches(request.data, config, recipe.batch_size, seed)
        return rows, None, {"data": f"{request.data.name}, {len(rows.rows)} rows"}
    records = Records.open(request.data, config)
    names = sorted(shard.sha256 for shard in records.card.shards.values()) if records.card else []
    what = names[0][:16] if len(names) == 1 else f"{len(records)} records"
    batches, held_out = split_batches(records, recipe, seed)
    return batches, held_out, {"data": what}


def _make_folder(request: Request, world: World) -> None:
    """Raises UserError if a run that must not be continued is there."""
    if not request.is_resumed and state.saved(request.out):
        raise UserError(
            f"{request.out} holds a training already; leave --no-resume out to go on with it, or give another --out"
        )
    if world.is_first:
        try:
            request.out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"cannot make {request.out}: {error.strerror or error}; choose another --out") from None
    world.wait()


def _write_run(request: Request, facts: dict[str, Any], world: World) -> None:
    values = {
        "recipe": {**request.recipe.values(), "summary": request.recipe.summary},
        "seed": request.seed,
        "processes": world.size,
        "accumulate": request.accumulate,
        "device": str(request.device),
        "torch": torch.__version__,
        **facts,
    }
    path = request.out / RUN_NAME
    temporary = path.with_name(f".{RUN_NAME}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    temporary.replace(path)


def _folder_of(init: Path, part: str) -> Path:
    """The network itself, or its folder in a pipeline folder."""
    name = {"image-tokenizer": "image_tokenizer"}.get(part, part)
    inside = init / name
    return inside if not (init / CARD_NAME).is_file() and inside.is_dir() else init


def _identity(folder: Path) -> str:
    """The hashes of its files, shortened; its name, where it has no card."""
    if not (folder / CARD_NAME).is_file():
        return folder.name
    return ",".join(sorted(record.sha256[:16] for record in read_card(folder).files.values()))


def _is_large(task: Task) -> bool:
    """Whether sharding pays: a small network is sent as one message of gradients faster than as its parts."""
    return sum(parameter.numel() for parameter in task.parameters()) >= SHARDED_FROM
