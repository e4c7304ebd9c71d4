"""The folder that records are written into: finished shards stay, the plan must be the same, the card comes last."""

from __future__ import annotations

import json
import re
import shutil
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from filelock import FileLock, Timeout

from cogvideo.data.record_card import CARD_NAME, SKIPPED_NAME, RecordCard, read_card, write_whole
from cogvideo.errors import UserError

NOTES = ".unfinished"
PLAN = "plan.json"
_OURS = re.compile(r"records-\d+-of-\d+\.(bin|jsonl)|" + "|".join(map(re.escape, (CARD_NAME, SKIPPED_NAME, NOTES))))
# What a person is told that differs, for each part of a plan.
SAID = {
    "sizes": "sizes",
    "frames": "--frames",
    "rates": "--rates",
    "clips": "--clips-per-video",
    "seed": "--seed",
    "shard_videos": "--shard-videos",
    "batch": "--batch-size",
    "language": "--language",
    "image_tokenizer": "image tokenizer",
    "text_tokenizer": "text model",
    "source": "videos or captions",
    "device": "--device",
    "dtype": "type of the numbers",
}


class RecordFolder:
    """A folder of records, locked while it is written. `card` is there if it is finished already.

    Raises UserError if it has records of another plan (unless `on_existing` is "redo", which removes them), records at
    all ("error"), or things that no run of ours has written.
    """

    def __init__(self, path: Path, plan: dict[str, Any], on_existing: str = "resume") -> None:
        self.path, self.plan = path, json.loads(json.dumps(plan))
        self.notes = path / NOTES
        self.card: RecordCard | None = None
        self._on_existing = on_existing
        self._lock = FileLock(path.absolute().with_name(f".{path.name}.lock"))

    def __enter__(self) -> Self:
        try:
            self.path.absolute().parent.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(timeout=0)
        except Timeout:
            raise UserError(f"another process is writing {self.path}; wait for it, or choose another folder") from None
        except OSError as error:
            raise UserError(f"cannot write {self.path}: {error.strerror or error}; choose another folder") from None
        try:
            self._begin()
        except BaseException:
            self._unlock()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._unlock()

    def is_done(self, number: int) -> bool:
        return self._note(number).is_file()

    def facts(self, number: int) -> dict[str, Any]:
        """What was noted of a finished shard."""
        found: dict[str, Any] = json.loads(self._note(number).read_text(encoding="utf-8"))
        return found

    @staticmethod
    def shard_name(number: int, count: int) -> str:
        return f"records-{number:05d}-of-{count:05d}.bin"

    def put_shard(self, number: int, count: int, content: bytes, index: bytes, facts: dict[str, Any]) -> None:
        """Records, their table, then the note that makes them count. A shard without a record has no files."""
        path = self.path / self.shard_name(number, count)
        if facts["records"]:
            write_whole(path, content)
            write_whole(path.with_suffix(".jsonl"), index)
        write_whole(self._note(number), json.dumps(facts, ensure_ascii=False).encode())

    def finish(self, card: RecordCard) -> None:
        """Write the card; what only a run in progress needs goes."""
        write_whole(self.path / CARD_NAME, card.model_dump_json(indent=1).encode() + b"\n")
        shutil.rmtree(self.notes)

    def _begin(self) -> None:
        if self.path.exists() and not self.path.is_dir():
            raise UserError(f"{self.path} is a file; expected a folder for the records")
        if self.path.is_dir():
            for left_by_a_kill in self.path.glob(".*.tmp"):
                left_by_a_kill.unlink()
        there = sorted(file.name for file in self.path.iterdir()) if self.path.is_dir() else []
        if strange := next((name for name in there if not _OURS.fullmatch(name)), None):
            raise UserError(f"{self.path} holds other things ({strange}); choose a new or empty folder")
        is_ours = bool(there)
        if is_ours and self._on_existing == "error":
            raise UserError(f"{self.path} has records already; use --on-existing resume or redo")
        if is_ours and self._on_existing == "redo":
            self._clear()
        elif is_ours:
            self._resume()
        if self.card is None:
            self.notes.mkdir(parents=True, exist_ok=True)
            if not (self.notes / PLAN).is_file():
                write_whole(self.notes / PLAN, json.dumps(self.plan, ensure_ascii=False, indent=1).encode())

    def _resume(self) -> None:
        if (self.path / CARD_NAME).is_file():
            card = read_card(self.path)
            self._require_same(_plan_of(card))
            self.card = card
            shutil.rmtree(self.notes, ignore_errors=True)
            return
        with suppress(OSError, ValueError):
            self._require_same(json.loads((self.notes / PLAN).read_text(encoding="utf-8")))

    def _require_same(self, before: dict[str, Any]) -> None:
        for name, ours in self.plan.items():
            if name in before and before[name] != ours:
                raise UserError(
                    f"{self.path} has records that were made with another {SAID[name]} ({_short(before[name])}, now "
                    f"{_short(ours)}); use --on-existing redo to replace them, or another folder"
                )

    def _clear(self) -> None:
        """Remove what we write, and nothing else."""
        for file in (*self.path.glob("records-*-of-*.bin"), *self.path.glob("records-*-of-*.jsonl")):
            file.unlink()
        for name in (CARD_NAME, SKIPPED_NAME):
            (self.path / name).unlink(missing_ok=True)
        shutil.rmtree(self.notes, ignore_errors=True)

    def _note(self, number: int) -> Path:
        return self.notes / f"{number:05d}.json"

    def _unlock(self) -> None:
        with suppress(OSError):
            Path(self._lock.lock_file).unlink()
        self._lock.release()


def _plan_of(card: RecordCard) -> dict[str, Any]:
    """As much of the plan as a finished card tells."""
    return {
        "sizes": card.sizes,
        "frames": card.frames,
        "rates": card.rate_list,
        "clips": card.clips_per_video,
        "seed": card.seed,
        "language": card.language,
        "image_tokenizer": card.image_tokenizer,
        "text_tokenizer": card.text_tokenizer,
        "source": card.source.list_sha256,
    }


def _short(value: Any) -> str:
    if isinstance(value, dict):
        value = value.get("sha256") or value.get("grid") or "other sizes"
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 40 else f"{text[:12]}..."
