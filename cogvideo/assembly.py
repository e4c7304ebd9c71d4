"""The parts of CogVideo put together: from a folder of networks, or with random weights of any size."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from cogvideo.checkpoint.cards import PIPELINE_CARD_NAME
from cogvideo.checkpoint.identity import identity
from cogvideo.checkpoint.images import image_tokenizer_at
from cogvideo.checkpoint.loading import network_of
from cogvideo.checkpoint.memory import available_memory, network_bytes, require_memory
from cogvideo.checkpoint.opening import Checkpoint, open_checkpoint
from cogvideo.checkpoint.parts import IN_CATALOGUE, PipelineParts, find_parts
from cogvideo.clusters import ClusterTable, automatic_clusters, read_clusters
from cogvideo.config import SIZES, ModelConfig, get_size
from cogvideo.errors import MissingPrerequisite, UserError
from cogvideo.network import Kind, Network, initialise_
from cogvideo.prompting import CHINESE, ENGLISH, Prompts
from cogvideo.settings import GenerationSettings, suited
from cogvideo.tokenizer import load_tokenizer
from cogvideo.vqvae import IMAGE_TOKENIZERS, ImageTokenizer, ImageTokenizerConfig
from cogvideo.weights import WeightStore, load_catalogue

# The release has 500 clusters of 20,000 tokens; where no table came with the weights, the same share of tokens.
TOKENS_OF_A_CLUSTER = 40
# Of a GPU's free memory, what the networks may take if all of them stay there: the rest is for caches.
RESIDENT_SHARE = 1 / 1.2


@dataclass
class Networks:
    """The parts of the pipeline. `name` and `facts` say where they came from; `is_random` that nobody trained them.

    `settings` are those that suit them.
    """

    stage1: Network
    stage2: Network | None
    image_tokenizer: ImageTokenizer
    prompts: Prompts
    clusters: ClusterTable
    superres: Network | None = None
    iterative: Network | None = None
    name: str = ""
    language: str = "en"
    is_random: bool = False
    settings: GenerationSettings = field(default_factory=GenerationSettings)
    facts: dict[str, object] = field(default_factory=dict)


def load_networks(
    checkpoint: Path | str,
    device: torch.device,
    dtype: torch.dtype | None,
    *,
    stage2: bool,
    superres: bool,
    iterative: bool,
) -> Networks:
    """The networks in a folder. Everything small, and whether all fit into memory, is looked at before one is read.

    On a GPU that holds all of them they are read straight to it, else to the CPU. Raises as `CogVideo.load`.
    """
    parts = find_parts(checkpoint)
    parts = replace(
        parts,
        image=None,
        stage2=parts.stage2 if stage2 else None,
        superres=parts.require("superres", "super-resolution is on") if superres else None,
        iterative=parts.require("iterative", "iterative super-resolution is on") if iterative else None,
    )
    opened = {"stage1": open_checkpoint(parts.stage1, "stage1")}
    config = opened["stage1"].config
    assert config is not None
    for role in ("stage2", "superres", "iterative"):
        if path := getattr(parts, role):
            opened[role] = open_checkpoint(path, role, config)
    dtype = dtype or _computable(opened["stage1"].dtype, device)
    prompts, clusters = prompts_of(parts, config), clusters_of(parts, config)
    image_tokenizer = image_tokenizer_of(parts, config)
    place = _place_for(opened, device, dtype, parts.card.name)
    found = {role: network_of(one, place, dtype) for role, one in opened.items()}
    return Networks(
        found["stage1"],
        found.get("stage2"),
        image_tokenizer,
        prompts,
        clusters,
        superres=found.get("superres"),
        iterative=found.get("iterative"),
        name=parts.card.name,
        language=parts.card.language,
        settings=suited(parts.card.settings, f"{parts.folder / PIPELINE_CARD_NAME}"),
        facts={"form": parts.form, "licence": parts.card.licence, "parts": identity(parts)},
    )


def random_networks(
    size: str | ModelConfig,
    seed: int,
    dtype: torch.dtype,
    *,
    stage2: bool,
    superres: bool,
    iterative: bool,
    text_model: Path | None,
) -> Networks:
    """Networks of any size with random weights, on the CPU. Raises as `CogVideo.random`.

    Without `text_model`, sizes other than `tiny` take the one that was fetched.
    """
    config = get_size(size) if isinstance(size, str) else size
    name = f"random-{config.name or 'weights'}"
    # Each role has its own number, so that its weights do not depend on which others are there.
    numbers: dict[str, tuple[Kind, int]] = {"stage1": ("video", 0)}
    numbers |= {"stage2": ("video", 1)} if stage2 else {}
    numbers |= {"superres": ("superres", 2)} if superres else {}
    numbers |= {"iterative": ("iterative", 3)} if iterative else {}
    if text_model is None and config.text_pieces != SIZES["tiny"].text_pieces:
        text_model = WeightStore(load_catalogue()).get(IN_CATALOGUE["text_model"]).path
    prompts = Prompts(load_tokenizer(config, text_model), config, CHINESE if text_model else ENGLISH)
    need = sum(network_bytes(config, kind, dtype) for kind, _ in numbers.values())
    require_memory(need, "cpu", f"the networks of {name} in {_type_name(dtype)}")
    image_tokenizer = random_image_tokenizer(config, seed)
    found = {role: _random_network(config, kind, seed * 8 + number, dtype) for role, (kind, number) in numbers.items()}
    facts: dict[str, object] = {"weights": "random", "weights_seed": seed}
    if text_model:
        facts["text_model"] = prompts.tokenizer.fingerprint
    return Networks(
        found["stage1"],
        found.get("stage2"),
        image_tokenizer,
        prompts,
        _own_clusters(config),
        superres=found.get("superres"),
        iterative=found.get("iterative"),
        name=name,
        language="zh" if text_model else "en",
        is_random=True,
        facts=facts,
    )


def prompts_of(parts: PipelineParts, config: ModelConfig) -> Prompts:
    """What the networks in a folder are told, in the language of its card.

    Raises MissingPrerequisite, saying where the text model belongs, if it is not there; UserError if it does not fit.
    """
    try:
        tokenizer = load_tokenizer(config, parts.text_model)
    except MissingPrerequisite:
        parts.require("text_model", "prompts are made of its pieces")
        raise
    return Prompts(tokenizer, config, CHINESE if parts.card.language == "zh" else ENGLISH)


def clusters_of(parts: PipelineParts, config: ModelConfig) -> ClusterTable:
    """The table of a folder. The release's weights mean nothing with another one, so they are not used without it.

    Raises MissingPrerequisite if it is needed and not there, UserError if it does not fit.
    """
    if parts.clusters is not None:
        return read_clusters(parts.clusters, config)
    if parts.form == "released" or config.num_image_tokens == SIZES["release"].num_image_tokens:
        parts.require("clusters", "tokens are drawn by clusters")
    return _own_clusters(config)


def image_tokenizer_of(parts: PipelineParts, config: ModelConfig) -> ImageTokenizer:
    """That of a folder, in float32: it is small, and frames are made of it. Raises UserError if it does not fit."""
    path = parts.image_tokenizer
    sizes = _sizes_of(open_checkpoint(path, "image-tokenizer"))
    if sizes.num_codes != config.num_image_tokens:
        raise UserError(
            f"{path} has {sizes.num_codes:,} codes, the networks beside it {config.num_image_tokens:,} image tokens;"
            " give the image tokenizer that they were trained with"
        )
    sizes.level(config.compress_rate)
    return image_tokenizer_at(path, sizes, dtype=torch.float32)


def random_image_tokenizer(config: ModelConfig, seed: int) -> ImageTokenizer:
    """That of `CogVideo.random` for the same size and seed. Raises UserError for a compress rate that it lacks."""
    sizes = next((known for known in IMAGE_TOKENIZERS.values() if known.num_codes == config.num_image_tokens), None)
    sizes = sizes or replace(IMAGE_TOKENIZERS["tiny"], num_codes=config.num_image_tokens, name="")
    sizes.level(config.compress_rate)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ImageTokenizer(sizes).eval()


def _sizes_of(checkpoint: Checkpoint) -> ImageTokenizerConfig:
    """The known image tokenizer with these channels, with as many codes as the file has."""
    shapes = checkpoint.tensors.shapes
    codes, first = shapes.get("quantize.embed.weight", ()), shapes.get("enc.conv_in.weight", ())
    for row in IMAGE_TOKENIZERS.values():
        if codes[1:] == (row.code_dim,) and first[:1] == (row.first_channels,):
            return row if codes[0] == row.num_codes else replace(row, num_codes=codes[0], name="")
    raise UserError(
        f"{checkpoint.path} holds an image tokenizer of none of the known sizes ({', '.join(IMAGE_TOKENIZERS)});"
        " fetch it again with `cogeval weights fetch ice-image-tokenizer`"
    )


def _place_for(opened: dict[str, Checkpoint], device: torch.device, dtype: torch.dtype, name: str) -> torch.device:
    """Where the networks are read to. Raises UserError if they fit nowhere."""
    sizes = {role: network_bytes(one.config, one.kind, dtype) for role, one in opened.items() if one.config}
    need, what = sum(sizes.values()), f"the networks of {name} in {_type_name(dtype)}"
    if device.type != "cpu":
        free = available_memory(device)
        if free is None or need < free * RESIDENT_SHARE:
            return device
        # They take turns there; both stages are there at once.
        stages = sizes["stage1"] + sizes.get("stage2", 0)
        require_memory(max(stages, *sizes.values()), device, what)
    require_memory(need, "cpu", what)
    return torch.device("cpu")


def _random_network(config: ModelConfig, kind: Kind, seed: int, dtype: torch.dtype) -> Network:
    """Made in its own type at once: no parameter is drawn twice, and none is held in float32 on the way."""
    with torch.device("meta"):
        network = Network(config, kind).to(dtype)
    return initialise_(network.to_empty(device="cpu"), seed).eval()


def _type_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _computable(dtype: torch.dtype, device: torch.device) -> torch.dtype:
    """No CPU has a fast float16."""
    return torch.bfloat16 if dtype == torch.float16 and device.type == "cpu" else dtype


def _own_clusters(config: ModelConfig) -> ClusterTable:
    return automatic_clusters(config, max(1, config.num_image_tokens // TOKENS_OF_A_CLUSTER))
