"""`cogeval data`: draw the embedded data set, or say what a folder of a data set holds, lacks and cannot decode.

cogeval data check UCF-101 --decode
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from cogvideo.errors import Finished, UserError

if TYPE_CHECKING:
    from eval.datasets.items import DataSet

_NAMES_SHOWN = 10


@click.group()
def data() -> None:
    """Draw the embedded data set, or check a folder."""


@data.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
@click.option("--seed", type=int, default=0, show_default=True, help="Another seed draws other clips.")
@click.option(
    "--classes",
    type=click.Choice(["benchmark", "training", "all"]),
    default="benchmark",
    show_default=True,
    help="The 40 of the benchmark, the 186 a generator may learn from, or all 210.",
)
@click.option(
    "--groups",
    type=click.IntRange(5, 99),
    default=12,
    show_default=True,
    help="Backgrounds a class, two clips each; the first 4 are test.",
)
@click.option(
    "--style",
    type=click.Choice(["textured", "plain"]),
    default="textured",
    show_default=True,
    help="The benchmark's, or plain ones for small generators: flat backgrounds, one size.",
)
@click.option("--workers", type=click.IntRange(1), help="Clips drawn at a time. Default: one a core, four at most.")
def shapes(
    folder: Path,
    seed: int,
    classes: Literal["benchmark", "training", "all"],
    groups: int,
    style: Literal["textured", "plain"],
    workers: int | None,
) -> None:
    """Draw the embedded data set `shapes` into the new folder DIR, in UCF-101's layout."""
    from eval.datasets.shapes import render

    render(folder, seed=seed, classes=classes, groups=groups, style=style, workers=workers)
    click.echo(f"shapes ({classes} classes, seed {seed}) drawn in {folder}")


@data.command()
@click.argument("path", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--dataset", metavar="NAME", help="ucf101, kinetics600, prompts, ...; guessed from DIR unless given.")
@click.option("--split", help="UCF-101: number of the official split. Kinetics: train, val or test.")
@click.option("--lists", type=click.Path(path_type=Path), help="UCF-101: the folder of the split lists.")
@click.option("--annotations", type=click.Path(path_type=Path), help="Kinetics: the annotation CSV or its folder.")
@click.option("--decode", is_flag=True, help="Decode every video to its end instead of trusting its size.")
@click.option("--workers", type=click.IntRange(1), default=2, show_default=True, help="Videos decoded at a time.")
@click.option("--all", "is_whole", is_flag=True, help=f"Name every file, not the first {_NAMES_SHOWN}.")
@click.option("--json", "is_json", is_flag=True, help="Print one JSON object with every name.")
def check(
    path: Path,
    dataset: str | None,
    split: str | None,
    lists: Path | None,
    annotations: Path | None,
    decode: bool,
    workers: int,
    is_whole: bool,
    is_json: bool,
) -> Finished:
    """Say what of a data set lies in DIR (for prompts: a file): found, missing, extra, broken.

    Leaves with 0 if everything is there and whole, and with 2 if something is missing or broken.
    """
    wanted = {"split": split, "lists": lists, "annotations": annotations}
    found = open_dataset(path, dataset, {key: value for key, value in wanted.items() if value is not None})
    broken = list(found.broken)
    if decode:
        broken += _decode_all(found, workers)
    report = _report(found, broken)
    click.echo(json.dumps(report, ensure_ascii=False) if is_json else _as_text(report, is_whole))
    if found.missing or broken:
        raise UserError(f"{found.name} in {path}: {len(found.missing):,} missing, {len(broken):,} broken")
    return Finished(json=is_json)


def open_dataset(path: Path, name: str | None, options: dict[str, Any]) -> DataSet:
    """The data set `name` in `path`, or the one that `path` looks like.

    Raises UserError if it looks like none, or if the data set has no such option.
    """
    import inspect
    from collections.abc import Callable
    from functools import partial

    from eval.datasets.ucf_layout import read_layout
    from eval.registry import datasets

    name = name or guess(path)
    if name == "ucf-layout":
        read: Callable[..., DataSet] = partial(read_layout, name=path.resolve().name)
        options = {key: int(value) if key == "split" and value.isdecimal() else value for key, value in options.items()}
    else:
        read = datasets.get(name).make
    unknown = [key for key in options if key not in inspect.signature(read).parameters]
    if unknown:
        raise UserError(f"data set {name} has no --{unknown[0]}")
    opened: DataSet = read(path, **options)
    return opened


def guess(path: Path) -> str:
    """The name of the data set that `path` looks like; "ucf-layout" for UCF-101's layout with other classes."""
    from eval.datasets.text_lines import read_text
    from eval.datasets.ucf101 import class_names
    from eval.datasets.ucf_layout import class_of_stem, lists_near
    from eval.datasets.video_files import folder_listing, require_folder, scan_videos

    if path.is_file():
        return "prompts"
    require_folder(path)
    known = {name.casefold() for name in class_names()}
    videos = scan_videos(path, depth=2, with_bytes=False)
    folders = {video.folder.rpartition("/")[2].casefold() for video in videos}
    if known & (folders | {class_of_stem(video.stem) for video in videos}):
        return "ucf101"
    if lists_near(path) is not None:
        return "ucf-layout"
    for table in sorted((*path.glob("*.csv"), *path.glob("annotations/*.csv"))):
        columns = read_text(table).partition("\n")[0]
        if "youtube_id" in columns:
            return next((f"kinetics{n}" for n in (400, 700) if str(n) in table.name + path.name), "kinetics600")
    raise UserError(
        f"{path} looks like no data set: expected UCF-101's class folders, a Kinetics annotation CSV or a file of "
        f"prompts, saw {folder_listing(path)}; give --dataset NAME"
    )


def _decode_all(found: DataSet, workers: int) -> list[tuple[str, str]]:
    """Every video that does not decode to its end, with the reason."""
    from concurrent.futures import ThreadPoolExecutor
    from contextlib import nullcontext

    from cogvideo.video import probe

    def look(path: Path) -> str:
        try:
            probe(path, thorough=True)
        except UserError as error:
            return str(error)
        return ""

    items = [(item.id, item.path) for item in found.items if item.path is not None]
    with ThreadPoolExecutor(workers) as pool:
        reasons = pool.map(look, [path for _, path in items])
        bar = click.progressbar(reasons, length=len(items), label="decoding", file=sys.stderr)
        with bar if sys.stderr.isatty() else nullcontext(reasons) as shown:
            return [(item_id, reason) for (item_id, _), reason in zip(items, shown, strict=True) if reason]


def _report(found: DataSet, broken: list[tuple[str, str]]) -> dict[str, Any]:
    with_video = [item for item in found.items if item.path is not None]
    splits = found.official_counts or {"": len(found.items)}
    return {
        "dataset": found.name,
        "folder": str(found.root),
        "classes": len(found.classes),
        "items": len(found.items),
        "videos": len(with_video),
        "expected": {split or "all": count for split, count in splits.items()},
        "found": {split or "all": sum(item.split == split for item in found.items) for split in splits},
        "list_sha256": found.list_sha256,
        "notes": list(found.notes),
        "missing": list(found.missing),
        "extra": list(found.extra),
        "broken": [{"id": item_id, "reason": reason} for item_id, reason in broken],
    }


def _as_text(report: dict[str, Any], is_whole: bool) -> str:
    total, wanted = sum(report["found"].values()), sum(report["expected"].values())
    by_split = ", ".join(f"{name} {report['found'][name]:,} of {n:,}" for name, n in report["expected"].items())
    several = f" ({by_split})" if len(report["expected"]) > 1 else ""
    lines = [
        f"{report['dataset']} in {report['folder']}",
        f"  found    {total:,} of {wanted:,}{several}, {report['videos']:,} videos, {report['classes']} classes",
        f"  list     {report['list_sha256'][:16]}",
        *(f"  note     {note}" for note in report["notes"]),
    ]
    broken = [f"{entry['id']}: {entry['reason']}" for entry in report["broken"]]
    for kind, names in (("missing", report["missing"]), ("extra", report["extra"]), ("broken", broken)):
        lines.append(f"  {kind:<8} {len(names):,}")
        shown = names if is_whole else names[:_NAMES_SHOWN]
        lines += [f"           {name}" for name in shown]
        if len(shown) < len(names):
            lines.append(f"           ... and {len(names) - len(shown):,} more (--all names them)")
    return "\n".join(lines)
