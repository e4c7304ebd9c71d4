"""`cogeval tokenize`: videos and captions to records of tokens, which training reads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cogvideo.cores import available_cores
from cogvideo.errors import Finished, UserError

if TYPE_CHECKING:
    import torch

    from cogvideo.config import ModelConfig
    from cogvideo.data.rates import Rates
    from cogvideo.data.record_card import RecordCard
    from cogvideo.data.tokenizing import Progress
    from cogvideo.prompting import Prompts
    from cogvideo.vqvae import ImageTokenizer

FILE = click.Path(path_type=Path)


@click.command()
@click.argument("source", type=FILE)
@click.argument("out", type=FILE)
@click.option("--checkpoint", type=FILE, help="Folder of the networks that the records are for: sizes and tokenizers.")
@click.option(
    "--image-tokenizer", type=FILE, help="Image tokenizer alone: a converted folder, ice_image.pt, .safetensors."
)
@click.option("--text-model", type=FILE, help="ice_text.model, with --image-tokenizer; the tiny size needs none.")
@click.option(
    "--size", metavar="NAME", help="Size of the networks, with --image-tokenizer; told by its codes unless given."
)
@click.option(
    "--language", type=click.Choice(["en", "zh"]), help="Of durations and suffixes. Default: the networks' own."
)
@click.option(
    "--rates",
    metavar="LIST",
    help="Frame rates, e.g. 1,2,4,8, or stage1, stage1-late, stage2: a video gets the lowest that it is long enough"
    " for. Default: 0.25 to 8, as far as the text model has words for them.",
)
@click.option("--min-rate", type=click.FloatRange(min=0), default=0.0, help="Leave lower rates of the list out.")
@click.option("--frames", type=click.IntRange(2), help="Frames of a record. Default: 5, those of a clip.")
@click.option("--clips-per-video", type=click.IntRange(1), default=1, show_default=True, help="Starts are drawn.")
@click.option("--captions", type=FILE, help="Table (.csv, .jsonl) of class or file, and caption.")
@click.option("--only", type=FILE, help="Text file that names the videos to take, such as UCF-101's trainlist01.txt.")
@click.option("--split", metavar="NAME", help="Of a Kinetics table: train, val or test.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the starts.")
@click.option("--shard-videos", type=click.IntRange(1), default=1024, show_default=True, help="Videos of one file.")
@click.option("--batch-size", type=click.IntRange(1), default=64, show_default=True, help="Frames tokenised at once.")
@click.option("--workers", type=click.IntRange(0), help="Processes that decode; 0: none. Default: one a core.")
@click.option("--device", default="auto", show_default=True, metavar="NAME", help="auto, cpu, cuda, cuda:1.")
@click.option(
    "--on-existing",
    type=click.Choice(["resume", "redo", "error"]),
    default="resume",
    show_default=True,
    help="What to do with records that are there already.",
)
@click.option("--json", "is_json", is_flag=True, help="The card of the records on stdout.")
@click.option("--quiet", "is_quiet", is_flag=True, help="No progress on stderr.")
def tokenize(source: Path, out: Path, **flags: Any) -> Finished:
    """Make records of tokens in the folder OUT of the videos and captions in SOURCE.

    SOURCE is a folder in the layout of UCF-101 or Kinetics, or a manifest (.csv, .jsonl) with the columns file and
    caption, and perhaps start and end in seconds. Videos that cannot be read or are too short are listed in
    OUT/skipped.jsonl. A run that was stopped goes on where it was.
    """
    from cogvideo.data.sources import open_source
    from cogvideo.devices import choose_device

    device = choose_device(flags["device"])
    opened = open_source(source, captions=flags["captions"], only=flags["only"], split=flags["split"])
    config, image_tokenizer, prompts, language = _tokenizers(flags, device)
    from cogvideo.data.tokenizing import TokenizeSettings
    from cogvideo.data.tokenizing import tokenize as write_records

    settings = TokenizeSettings(
        rates=_rates(flags["rates"], flags["min_rate"], prompts),
        frames=flags["frames"],
        clips=flags["clips_per_video"],
        seed=flags["seed"],
        shard_videos=flags["shard_videos"],
        batch=flags["batch_size"],
    )
    workers = available_cores() if flags["workers"] is None else flags["workers"]
    headline = f"{len(opened.pairs):,} videos of {opened.name} ({opened.layout}) on {device}, {workers} decoding"
    with _bar(headline, is_quiet=flags["is_quiet"]) as progress:
        card = write_records(
            opened,
            out,
            config=config,
            image_tokenizer=image_tokenizer,
            prompts=prompts,
            settings=settings,
            language=language,
            workers=workers,
            on_existing=flags["on_existing"],
            progress=progress,
        )
    if flags["is_json"]:
        click.echo(card.model_dump_json(indent=1))
        return Finished(json=True)
    click.echo(_text(out, card))
    return Finished()


def _tokenizers(flags: dict[str, Any], device: torch.device) -> tuple[ModelConfig, ImageTokenizer, Prompts, str]:
    """Sizes, both tokenizers, and the language of the words around captions."""
    checkpoint, image, text = flags["checkpoint"], flags["image_tokenizer"], flags["text_model"]
    if (checkpoint is None) == (image is None):
        raise UserError("expected --checkpoint DIR (a folder of networks), or --image-tokenizer FILE")
    from cogvideo.prompting import CHINESE, ENGLISH, Prompts
    from cogvideo.tokenizer import load_tokenizer

    styles = {"en": ENGLISH, "zh": CHINESE}
    if checkpoint is not None:
        if text is not None or flags["size"] is not None:
            raise UserError("--checkpoint has sizes and a text model of its own: leave --size and --text-model out")
        from cogvideo.assembly import image_tokenizer_of, prompts_of
        from cogvideo.checkpoint.opening import open_checkpoint
        from cogvideo.checkpoint.parts import find_parts

        parts = find_parts(checkpoint)
        config = open_checkpoint(parts.stage1, "stage1").config
        assert config is not None
        tokenizer = prompts_of(parts, config).tokenizer
        image_tokenizer, language = image_tokenizer_of(parts, config), parts.card.language
    else:
        image_tokenizer = _image_tokenizer(image)
        config = _size(flags["size"], image_tokenizer)
        tokenizer, language = load_tokenizer(config, text), "zh" if text else "en"
    language = flags["language"] or language
    return config, image_tokenizer.to(device), Prompts(tokenizer, config, styles.get(language, ENGLISH)), language


def _image_tokenizer(path: Path) -> ImageTokenizer:
    """In float32. Raises UserError if the file holds none of a known size."""
    import torch

    from cogvideo.checkpoint.images import image_tokenizer_at
    from cogvideo.vqvae import IMAGE_TOKENIZERS, load_image_tokenizer

    if path.suffix != ".safetensors":
        return image_tokenizer_at(path, dtype=torch.float32)
    problems = []
    for sizes in reversed(IMAGE_TOKENIZERS.values()):
        try:
            return load_image_tokenizer(path, sizes, dtype=torch.float32)
        except UserError as error:
            problems.append(error)
    raise problems[0]


def _size(name: str | None, image_tokenizer: ImageTokenizer) -> ModelConfig:
    from cogvideo.config import SIZES, get_size

    if name is not None:
        return get_size(name)
    for known in (SIZES["tiny"], SIZES["release"]):
        if known.num_image_tokens == image_tokenizer.num_tokens:
            return known
    raise UserError(f"no size has {image_tokenizer.num_tokens:,} image tokens; give --size NAME")


def _rates(text: str | None, minimum: float, prompts: Prompts) -> Rates:
    """Raises UserError for rates that were asked for and that the text model has no duration for."""
    from cogvideo.data.rates import PAPER_RATES, at_least, parse_rates
    from cogvideo.data.words import duration_ids

    if text is not None:
        return at_least(parse_rates(text), minimum)

    def is_known(rate: Any) -> bool:
        try:
            duration_ids(prompts, rate)
        except UserError:
            return False
        return True

    return at_least([rate for rate in PAPER_RATES if is_known(rate)], minimum)


def _text(out: Path, card: RecordCard) -> str:
    files = f"{len(card.shards)} file{'s'[: len(card.shards) != 1]}"
    by_rate = ", ".join(f"{count:,} at {rate} fps" for rate, count in card.rates.items())
    lines = [
        f"records  {out}",
        f"  {card.records:,} of {card.frames} frames in {files}: {by_rate}",
    ]
    if card.cut_captions:
        lines.append(f"  {card.cut_captions:,} captions were cut: they have more than {card.sizes['text_len']} ids")
    if card.skipped or card.source.missing:
        reasons = [f"{count:,} {code}" for code, count in card.skipped.items()]
        reasons += [f"{card.source.missing:,} missing"] if card.source.missing else []
        lines.append(f"  left out, see skipped.jsonl: {', '.join(reasons)}")
    return "\n".join(lines)


@contextmanager
def _bar(headline: str, *, is_quiet: bool) -> Iterator[Progress | None]:
    """On stderr: videos, videos a second, time left; a line a tenth of the way where there is no terminal."""
    if is_quiet:
        yield None
        return
    from rich import progress as bars
    from rich.console import Console

    console = Console(stderr=True, highlight=False, markup=False, emoji=False)
    columns = (
        bars.BarColumn(28),
        bars.TextColumn("{task.completed:,.0f} of {task.total:,.0f} videos", markup=False),
        bars.TextColumn("{task.fields[rate]}", markup=False),
        bars.TimeRemainingColumn(compact=True, elapsed_when_finished=True),
    )
    is_live = console.is_terminal and not console.is_dumb_terminal
    with bars.Progress(*columns, console=console, transient=True, disable=not is_live) as shown:
        tasks: list[bars.TaskID] = []

        def progress(done: int, total: int) -> None:
            if not tasks:
                console.print(headline, soft_wrap=True)
                tasks.append(shown.add_task("videos", total=total, completed=done, rate=""))
            speed = shown.tasks[tasks[0]].speed
            shown.update(tasks[0], completed=done, rate=f"{speed:,.1f}/s" if speed else "")

            if not is_live and done and done * 10 // total > (done - 1) * 10 // total:
                console.print(f"{done:,} of {total:,} videos", soft_wrap=True)

        yield progress
