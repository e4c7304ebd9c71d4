"""A file of prompts: text (one a line), CSV/TSV or JSONL, with reference videos if there are any.

MSR-VTT is run this way: several captions a video, of which one is drawn by the seed and the choice recorded.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cogvideo.errors import UserError
from eval.datasets.items import DataSet, Item
from eval.datasets.text_lines import Record, csv_records, json_records, read_lines
from eval.datasets.video_files import why_broken
from eval.registry import datasets, did_you_mean

FIELDS = ("prompt", "id", "label", "video", "captions")


@datasets.register("prompts", "a file of prompts, with or without reference videos", form=".txt, .csv, .tsv, .jsonl")
def open_(root: Path, *, seed: int = 0) -> DataSet:
    """Items of the file `root`, in its order, one a prompt; ids are the file's, else `line-000012`.

    Fields: `prompt` or `captions` (JSON list, or texts separated by `|`; one is drawn by `seed` and the id), `id`,
    `label`, `video` (a path relative to the file). A text file skips empty lines; a record without a prompt is an
    error. An item whose video is missing or broken keeps its prompt and stands in `missing` or `broken`.

    Raises UserError with file and line: no UTF-8, no such column, bad JSON, an id that came before.
    """
    path = Path(root)
    if path.is_dir():
        raise UserError(f"expected a file of prompts (.txt, .csv, .tsv or .jsonl), got the folder {path}")
    if not path.exists():
        raise UserError(f"no such file of prompts: {path}")
    skipped: list[int] = []
    items: list[Item] = []
    missing: list[str] = []
    broken: list[tuple[str, str]] = []
    line_of: dict[str, int] = {}
    for line, record in _records(path, skipped):
        item, video = _item(path, line, record, seed)
        if item.id in line_of:
            raise UserError(f"{path} line {line}: id {item.id!r} was already used in line {line_of[item.id]}")
        line_of[item.id] = line
        items.append(item)
        if video and item.path is None:
            reason = why_broken(_n_bytes(path.parent / video))
            if reason == "zero bytes":
                broken.append((item.id, f"{video}: {reason}"))
            else:
                missing.append(f"{video} (line {line})")
    if not items:
        raise UserError(f"{path} holds no prompt")
    return DataSet(
        name="prompts",
        root=path,
        items=tuple(items),
        classes=tuple(sorted({item.label for item in items if item.label})),
        missing=tuple(missing),
        broken=tuple(broken),
        notes=_notes(items, skipped, seed),
        official_counts={"": len(items)},
        hashes_captions=True,
    )


def draw_caption(item_id: str, n_captions: int, seed: int) -> int:
    """Which of an item's captions is used: uniform, from the run's seed and the id alone."""
    digest = hashlib.sha256(f"caption\n{seed}\n{item_id}".encode()).digest()
    return int.from_bytes(digest[:16], "little") % n_captions


def _records(path: Path, skipped: list[int]) -> Iterator[Record]:
    suffix = path.suffix.lower()
    if suffix in {".csv", ".tsv"}:
        return csv_records(path, _require_prompt_column)
    if suffix in {".jsonl", ".ndjson"}:
        return json_records(path)
    if suffix in {".txt", ".text", ".prompts", ""}:
        return _text_records(path, skipped)
    raise UserError(f"{path}: expected a file of prompts in .txt, .csv, .tsv or .jsonl, got {suffix}")


def _text_records(path: Path, skipped: list[int]) -> Iterator[Record]:
    for line, text in enumerate(read_lines(path), 1):
        if text:
            yield line, {"prompt": text}
        else:
            skipped.append(line)
    if skipped and skipped[-1] == line:
        skipped.pop()  # what follows the last line end is no line


def _require_prompt_column(path: Path, columns: list[str]) -> None:
    if "prompt" in columns or "captions" in columns:
        return
    near = [hint for name in columns if (hint := did_you_mean(name, list(FIELDS))).startswith("; did you mean")]
    raise UserError(
        f"{path} line 1: expected a column 'prompt' (or 'captions'), got {', '.join(columns) or 'an empty file'}"
        f"{near[0] if near else ''}"
    )


def _item(path: Path, line: int, record: dict[str, Any], seed: int) -> tuple[Item, str]:
    """The item of one record and the video it names."""
    where = f"{path} line {line}"
    cells = {name: _text(where, name, record.get(name)) for name in ("prompt", "id", "label", "video")}
    captions = _captions(where, record.get("captions"))
    item_id = cells["id"] or f"line-{line:06d}"
    if not cells["prompt"] and not captions:
        raise UserError(f"{where}: the prompt is empty")
    # A prompt beside captions is the caption that somebody chose already.
    index = draw_caption(item_id, len(captions), seed) if captions else 0
    if cells["prompt"] and captions:
        if cells["prompt"] not in captions:
            raise UserError(f"{where}: the prompt {cells['prompt'][:60]!r} is not among the captions")
        index = captions.index(cells["prompt"])
    prompt = cells["prompt"] or captions[index]
    video = path.parent / cells["video"] if cells["video"] else None
    there = video is not None and _n_bytes(video) > 0
    item = Item(
        id=item_id,
        path=video if there else None,
        label=cells["label"],
        caption=prompt,
        group=cells["video"] or item_id,
        captions=captions,
        caption_index=index,
    )
    return item, cells["video"]


def _text(where: str, name: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, int) and not isinstance(value, bool) and name in {"id", "label"}:
        return str(value)
    if not isinstance(value, str):
        raise UserError(f"{where}: expected text for {name!r}, got {json.dumps(value)[:60]}")
    return " ".join(value.split()) if name == "prompt" else value.strip()


def _captions(where: str, value: Any) -> tuple[str, ...]:
    if value is None or value == "":
        return ()
    if isinstance(value, str):
        if not value.lstrip().startswith("["):
            value = value.split("|")
        else:
            try:
                value = json.loads(value)
            except ValueError as error:
                raise UserError(f"{where}: the captions are not a JSON list ({error})") from None
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise UserError(f"{where}: expected a list of texts for 'captions', got {json.dumps(value)[:60]}")
    captions = tuple(text for one in value if (text := " ".join(one.split())))
    if not captions:
        raise UserError(f"{where}: the list of captions is empty")
    return captions


def _n_bytes(video: Path) -> int:
    try:
        return video.stat().st_size if video.is_file() else -1
    except OSError:
        return -1


def _notes(items: list[Item], skipped: list[int], seed: int) -> tuple[str, ...]:
    notes: list[str] = []
    several = [len(item.captions) for item in items if len(item.captions) > 1]
    if several:
        spread = f"{min(several)}" if min(several) == max(several) else f"{min(several)} to {max(several)}"
        notes.append(f"{len(several):,} items have {spread} captions; one of each was drawn with seed {seed}")
    repeated = len(items) - len({item.caption for item in items})
    if repeated:
        notes.append(f"{repeated:,} prompts stand there more than once")
    if skipped:
        notes.append(f"{len(skipped):,} empty lines were skipped, the first is line {skipped[0]}")
    return tuple(notes)
