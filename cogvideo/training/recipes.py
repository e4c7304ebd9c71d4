"""The trainings that have a name: the release's and the paper's, its ablations, and the small networks that ship.

`cogeval train --list` prints them as one table. No torch.
"""

from __future__ import annotations

from dataclasses import replace
from difflib import get_close_matches

from cogvideo.errors import UserError
from cogvideo.training.recipe import CodebookRules, Phase, TextRules, TrainingRecipe

# Ablations were trained on Kinetics-600, 11,000 iterations with batches of 160 (CogVideo, table of the ablation).
_ABLATION = TrainingRecipe(
    "ablation-stage1",
    "stage1",
    "The paper's ablation, full model: key frames",
    phases=(Phase(11_000),),
    batch_size=160,
    start="same",
)

# Measured on two cores (docs/training.md). Muon took a third of the steps of AdamW for the image tokenizer.
_EMBEDDED = TrainingRecipe(
    "embedded-base",
    "base",
    "Embedded: pictures of shapes from text",
    size="tiny",
    phases=(Phase(1_400),),
    batch_size=64,
    start="random",
    trained="everything",
    optimizer="muon",
    lr=3e-3,
    warm_up=100,
    final_share=0.02,
    weight_decay=0.01,
    clip=1.0,
    dropout=0.0,
    text=TextRules(drop=0.1),
    precision="fast",
    held_out=0.0,
)
_EMBEDDED_STAGE = replace(
    _EMBEDDED,
    task="stage1",
    start="paper",
    trained="temporal",
    batch_size=8,
    lr=3e-3,
    warm_up=50,
    settling=0,
    phases=(Phase(1_500),),
)

_EMBEDDED_KEYS = replace(
    _EMBEDDED_STAGE,
    name="embedded-stage1",
    summary="Embedded: key frames at 2 a second",
    phases=(Phase(4_500),),
    warm_up=150,
    only_fps=(2.0,),
    text=TextRules(drop=0.1, word_drop=0.2, suffix=0.75),
)
_EMBEDDED_BETWEEN = replace(
    _EMBEDDED_STAGE,
    name="embedded-stage2",
    task="stage2",
    summary="Embedded: frames between, at 4 and 8 a second",
    phases=(Phase(8_000),),
    warm_up=267,
    only_fps=(4.0, 8.0),
    is_tiled=True,
    text=TextRules(drop=0.1, word_drop=0.2),
)
# What changes from frame to frame in more than its place is learnt last.
_HARD = ("growing", "shrinking", "rotating")


def _longer(first: TrainingRecipe, steps: int) -> TrainingRecipe:
    """A second round of a stage, from the weights of the first, at a third of its rate."""
    return replace(
        first,
        name=f"{first.name}-second",
        summary=f"{first.summary}, second round",
        start="same",
        often=_HARD,
        phases=(Phase(steps),),
        lr=1e-3,
    )


_ALL = (
    TrainingRecipe(
        "release-stage1",
        "stage1",
        "Key frames as published: from 0.25, then from 1 frame a second",
        phases=(Phase(76_000, 0.25), Phase(15_000, 1.0)),
    ),
    TrainingRecipe(
        "release-stage2",
        "stage2",
        "Frames between as published",
        phases=(Phase(78_500, 2.0),),
        only_fps=(2.0, 4.0, 8.0),
    ),
    TrainingRecipe(
        "ucf101-stage1",
        "stage1",
        "Fine-tuning for UCF-101: key frames",
        phases=(Phase(10_000),),
        batch_size=192,
        start="same",
    ),
    TrainingRecipe(
        "ucf101-stage2",
        "stage2",
        "Fine-tuning for UCF-101: frames between",
        phases=(Phase(10_000),),
        batch_size=192,
        start="same",
    ),
    TrainingRecipe(
        "kinetics600-stage1",
        "stage1",
        "Fine-tuning for Kinetics-600: key frames",
        phases=(Phase(12_000),),
        batch_size=640,
        start="same",
    ),
    TrainingRecipe(
        "kinetics600-stage2",
        "stage2",
        "Fine-tuning for Kinetics-600: frames between",
        phases=(Phase(12_000),),
        batch_size=640,
        start="same",
    ),
    _ABLATION,
    replace(
        _ABLATION, name="ablation-stage2", task="stage2", summary="The paper's ablation, full model: frames between"
    ),
    replace(
        _ABLATION,
        name="ablation-one-stage",
        summary="Ablation: one stage at the highest rate; overlap is up to generation",
        only_fps=(8.0,),
    ),
    replace(
        _ABLATION,
        name="ablation-no-video",
        start="release",
        summary="Ablation: from CogView2, without video pre-training",
    ),
    replace(
        _ABLATION,
        name="ablation-random",
        start="random",
        trained="everything",
        summary="Ablation: random weights, everything trained",
    ),
    TrainingRecipe(
        "superres",
        "superres",
        "CogView2's direct super-resolution, from its image network",
        phases=(Phase(20_000),),
        batch_size=64,
        start="release",
    ),
    TrainingRecipe(
        "embedded-tokenizer",
        "tokenizer",
        "Embedded: 64 pixels to 8 x 8 codes of 1,024",
        size="tiny",
        phases=(Phase(1_600),),
        batch_size=32,
        start="random",
        trained="everything",
        optimizer="muon",
        lr=5e-3,
        warm_up=50,
        final_share=0.0,
        weight_decay=0.01,
        clip=1.0,
        dropout=0.0,
        codebook=CodebookRules(warm_up=150),
        precision="fast",
    ),
    _EMBEDDED,
    _EMBEDDED_KEYS,
    _EMBEDDED_BETWEEN,
    _longer(_EMBEDDED_KEYS, 9_000),
    _longer(_EMBEDDED_BETWEEN, 13_000),
    replace(
        _EMBEDDED_STAGE,
        name="embedded-one-stage",
        summary="Embedded ablation: one stage, at 8 frames a second",
        only_fps=(8.0,),
        text=TextRules(drop=0.1, suffix=0.75),
    ),
    replace(
        _EMBEDDED_STAGE,
        name="embedded-random",
        start="random",
        trained="everything",
        summary="Embedded ablation: key frames, random weights, everything trained",
        only_fps=(2.0,),
        text=TextRules(drop=0.1, suffix=0.75),
    ),
)

RECIPES: dict[str, TrainingRecipe] = {recipe.name: recipe for recipe in _ALL}


def get_recipe(name: str) -> TrainingRecipe:
    """The recipe of a name. Raises UserError with near names if there is none."""
    if name in RECIPES:
        return RECIPES[name]
    near = get_close_matches(name, RECIPES, n=2, cutoff=0.4)
    tail = f"; did you mean {' or '.join(near)}?" if near else ""
    raise UserError(f"unknown recipe {name!r}{tail} `cogeval train --list` shows all")


def table() -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Heads of columns, and a row for each recipe: complete, but for what is the same for all."""
    heads = ("recipe", "size", "steps", "batch", "from", "trains", "fps", "lr", "clip", "decay", "dropout", "what")
    return heads, [_row(recipe) for recipe in RECIPES.values()]


def _row(recipe: TrainingRecipe) -> tuple[str, ...]:
    steps = " + ".join(f"{phase.steps:,}" for phase in recipe.phases)
    fps = "/".join(f"{rate:g}" for rate in recipe.only_fps)
    if not fps:
        fps = ", then ".join(f">= {phase.min_fps:g}" for phase in recipe.phases if phase.min_fps) or "all"
    numbers = (recipe.lr, recipe.clip, recipe.weight_decay, recipe.dropout)
    return (
        recipe.name,
        recipe.size,
        steps,
        str(recipe.batch_size),
        recipe.start,
        recipe.trained,
        fps,
        *(f"{number:g}" for number in numbers),
        recipe.summary,
    )
