"""Numbers that papers printed (`published.yaml`), each with its setting, source, confidence and disputes. No torch.

They are shown beside ours; they are ranked with ours only where every part of the setting is stated and the same.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from cogvideo.errors import UserError
from eval.protocol import MetricSpec, Protocol
from eval.records import MetricResult, Result

PUBLISHED_FILE = Path(__file__).with_name("published.yaml")
NAMES_AT_HOME = {"fvd": "FVD", "inception-score": "IS", "fid": "FID", "clipsim": "CLIPSIM"}
NAMES_ELSEWHERE = {("inception-score", "i3d"): "IS (I3D)", ("fid", "c3d"): "FID (C3D fc7 features)"}
DETECTORS_AT_HOME = {"fvd": "i3d", "inception-score": "c3d", "fid": "inception", "clipsim": "clip"}
DATASET_NAMES = {"msrvtt": "msr-vtt"}
DISPUTED_DATASETS = {"ucf101": "UCF", "kinetics600": "K600", "msr-vtt": "MSR-VTT"}
LOWER_IS_BETTER = ("FVD", "FID")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PublishedRow(_Strict):
    """One printed number. What a paper did not state is None; `disputes` are the contradictions that touch it.

    `reference` "reconstructed": against real clips that were passed through the model's image tokenizer.
    `source_text` is the source in words; `source` its key in the file. `std` is as printed, whatever it is of.
    """

    model: str
    year: int | None = None
    dataset: str
    metric: str
    value: int | float
    std: int | float | None = None
    setting: str
    class_conditional: bool | None = None
    resolution: int | str | None = None
    reference: Literal["real", "reconstructed"] = "real"
    frames: int | None = None
    samples: int | str | None = None
    note: str = ""
    source: str
    confidence: Literal["high", "medium", "low"]
    source_text: str = ""
    disputes: tuple[str, ...] = ()

    @field_validator("value")
    @classmethod
    def _is_finite(cls, value: float) -> float:
        if not abs(value) < float("inf"):
            raise ValueError("a printed number is finite")
        return value

    @property
    def name(self) -> str:
        """`TATS (2022)`."""
        return f"{self.model} ({self.year})" if self.year else self.model

    @property
    def split(self) -> str:
        """The videos that the setting names, "train" or "train+test"; "" where it names none."""
        found = re.search(r"trained on UCF-101 (train\+test|train)\b", self.setting)
        return found[1] if found else ""

    @property
    def direction(self) -> Literal["lower", "higher"]:
        return "lower" if self.metric.startswith(LOWER_IS_BETTER) else "higher"

    @property
    def facts(self) -> str:
        """The stated setting in one line: `trained on UCF-101 train, 128 px, 16 frames, 10000 x 4 samples`."""
        words = [self.setting]
        if self.resolution is not None:
            is_size = str(self.resolution).replace("x", "").isdigit()
            words.append(f"{self.resolution} px" if is_size else f"{self.resolution} resolution")
        if self.frames is not None:
            words.append(f"{self.frames} frames")
        if self.samples is not None:
            text = f"{self.samples:,}" if isinstance(self.samples, int) else self.samples
            words.append(f"{text} samples")
        if self.reference == "reconstructed":
            words.append("against reconstructed real clips")
        if self.class_conditional is not None and "conditional" not in self.setting:
            words.append("class-conditional" if self.class_conditional else "unconditional")
        return ", ".join(words)


class _Book(_Strict):
    sources: dict[str, str]
    results: tuple[PublishedRow, ...]
    disputes: tuple[str, ...] = Field(default=())
    recalled_not_read: tuple[str, ...] = Field(default=())


def load_published(path: Path = PUBLISHED_FILE) -> tuple[PublishedRow, ...]:
    """All rows of a file, with sources spelt out and disputes attached. Raises UserError naming the first bad entry.

    What was recalled and not read (`recalled_not_read`) is in no row.
    """
    try:
        # The C loader, where libyaml is there, reads the same text eight times as fast.
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        book = _Book.model_validate(yaml.load(path.read_text(encoding="utf-8"), Loader=loader))  # noqa: S506
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"cannot read published numbers from {path}: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "top level"
        raise UserError(f"{path}: {where}: {first['msg']}; see docs/comparing.md for the fields of a row") from None
    found = []
    for row in book.results:
        if row.source not in book.sources:
            raise UserError(f"{path}: {row.name}, {row.metric}: source {row.source!r} is not under `sources`")
        attached = tuple(text for text in book.disputes if _is_disputed(row, text))
        found.append(row.model_copy(update={"source_text": book.sources[row.source], "disputes": attached}))
    return tuple(found)


@cache
def _carried() -> tuple[PublishedRow, ...]:
    return load_published()


def rows(dataset: str = "", metric: str = "") -> list[PublishedRow]:
    """Printed numbers of a data set (`ucf101`, `kinetics600`, `msr-vtt`) and metric (`FVD`, `IS`, ...), file order.

    An empty argument takes everything. Upper and lower case are one.
    """
    dataset = DATASET_NAMES.get(dataset.lower(), dataset.lower())
    return [
        row
        for row in _carried()
        if (not dataset or row.dataset == dataset) and (not metric or row.metric.lower() == metric.lower())
    ]


def rows_for(result: Result, metric: MetricResult) -> list[PublishedRow]:
    """The printed numbers to show beside a metric of a run: CogVideo's first, then by year, newest first."""
    name = printed_name(metric)
    found = rows(dataset_of(result), name) if name else []
    return sorted(
        found, key=lambda row: (row.model != "CogVideo", not row.model.startswith("CogVideo"), -(row.year or 0))
    )


def dataset_of(result: Result) -> str:
    """The name of the run's benchmark in `published.yaml`; prompts count as MSR-VTT only if the data say so."""
    if result.benchmark == "prompts":
        found = re.search(r"msr[-_ ]?vtt", f"{result.data.name} {result.data.title}", re.IGNORECASE)
        return "msr-vtt" if found else "prompts"
    return result.benchmark


def printed_name(metric: MetricResult) -> str:
    """What papers call the metric: `FVD`, `IS`, `IS (I3D)`, ...; "" for metrics that none of the rows has."""
    network = (metric.weights.name if metric.weights else "").partition("-")[0]
    if (metric.metric, network) in NAMES_ELSEWHERE:
        return NAMES_ELSEWHERE[metric.metric, network]
    expected = DETECTORS_AT_HOME.get(metric.metric, "")
    # The embedded frame network stands in for Inception; its rows are shown beside, and never match.
    if network not in ("", expected, "frame"):
        return ""
    return NAMES_AT_HOME.get(metric.metric, "")


def matches(row: PublishedRow, protocol: Protocol, spec: MetricSpec | None = None) -> tuple[bool, list[str]]:
    """Whether a printed number was measured as the protocol measures, and everything that differs or is not stated.

    Strict: what a paper did not state counts as different, so most rows are shown and not ranked. `spec` is the
    metric of the protocol that the row is held against (its own sample count may differ from the protocol's).
    """
    differing: list[str] = []
    if protocol.embedded:
        differing.append("data: embedded data set and networks, which no paper used")
    elif not protocol.published:
        differing.append("protocol: no paper printed numbers under it")
    differing += [f"protocol changed here: {change}" for change in protocol.changes]
    if row.dataset != protocol.benchmark:
        differing.append(f"data set: {row.dataset}, here {protocol.benchmark}")
    reference = "reconstructed" if protocol.is_reconstructed else "real"
    if row.reference != reference:
        differing.append(f"reference: {row.reference} clips, here {reference} ones")
    differing += _differing_split(row, protocol)
    differing += _differing_resolution(row, protocol)
    if row.frames is None:
        differing.append(f"frames: not stated, here {protocol.clip.frames}")
    elif row.frames != protocol.clip.frames:
        differing.append(f"frames: {row.frames}, here {protocol.clip.frames}")
    wanted = (spec.n_fake if spec and spec.n_fake is not None else protocol.n_fake) or 0
    here = f"{wanted:,}" if wanted else "as many as there are prompts"
    if row.samples is None:
        differing.append(f"samples: not stated, here {here}")
    elif row.samples != wanted:
        shown = f"{row.samples:,}" if isinstance(row.samples, int) else row.samples
        differing.append(f"samples: {shown}, here {here}")
    return not differing, differing


def _differing_split(row: PublishedRow, protocol: Protocol) -> list[str]:
    if row.dataset == "ucf101":
        if not row.split:
            return [f"split: not stated ({row.setting}), here {protocol.split}"]
        return [] if row.split == protocol.split else [f"split: {row.split}, here {protocol.split}"]
    return [f"split: not stated ({row.setting}), here {protocol.split}"]


def _differing_resolution(row: PublishedRow, protocol: Protocol) -> list[str]:
    size = protocol.clip.size
    here = f"{size[1]} x {size[0]} px" if size else "as generated"
    if row.resolution is None:
        return [f"resolution: not stated, here {here}"]
    if size is not None and size[0] == size[1] and row.resolution == size[0]:
        return []
    return [f"resolution: {row.resolution} px, here {here}"]


def _is_disputed(row: PublishedRow, text: str) -> bool:
    """A dispute belongs to a row if it names the model and the data set and prints the row's number or its spread."""
    named = [mark for mark in DISPUTED_DATASETS.values() if mark in text]
    if named and DISPUTED_DATASETS.get(row.dataset, row.dataset) not in named:
        return False
    base = re.sub(r"\s*\(.*\)$", "", row.model)
    names = {base, base.removesuffix("T2V")}
    if not any(re.search(rf"(?<![\w.-]){re.escape(name)}(?![\w-])", text) for name in names):
        return False
    printed = [match[0] for match in re.finditer(r"(?<![\w.])\d+(?:\.\d+)?", text)]
    return any(
        _is_same_number(value, number) for value in (row.value, row.std) if value is not None for number in printed
    )


def _is_same_number(value: float, printed: str) -> bool:
    """Equal to the digits that are printed."""
    decimals = len(printed.partition(".")[2])
    return abs(value - float(printed)) < 0.5 * 10.0**-decimals + 1e-9


def printed_value(row: PublishedRow) -> str:
    """The value with the digits that the file has, and a thousands comma."""
    return f"{row.value:,}"


def as_json(row: PublishedRow) -> dict[str, Any]:
    return row.model_dump(mode="json")
