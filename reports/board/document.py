"""`board.json`: all that the leaderboard knows, as one checked and versioned record. The site is a function of it.

Ids are names of pages and never change: a model's comes from its title, a run's from its bytes, a table's from its
fingerprint. `reports/board/stored.py` reads, checks and writes it.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from eval.published import PublishedRow
from eval.records import Result

BOARD_VERSION = 1
Id = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,95}$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Day = Annotated[str, Field(pattern=r"^(\d{4}-\d{2}-\d{2})?$")]
State = Literal["complete", "partial", "unfinished"]
Label = Literal["measured here", "self-reported"]


class Part(BaseModel):
    """A part of the document. A field that it does not know is damage, not a whim."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class FileFacts(Part):
    """A file that numbers came from: its name inside the run or study, length and hash."""

    name: str
    bytes: int
    sha256: Sha256


class Card(Part):
    """What is known of a model beside its numbers. Empty text, or None, is "not stated"."""

    type: str = ""
    parameters: str = ""
    open_weights: bool | None = None
    licence: str = ""
    checkpoint_sha256: str = ""
    link: str = ""
    paper: str = ""
    training_data: str = ""
    overlap: str = ""
    funding: str = ""
    bibtex: str = ""
    not_allowed: dict[str, str] = Field(default_factory=dict)


class ModelEntry(Part):
    """A model. `keys` are the generator specifications that are this model; `aliases` its former ids."""

    id: Id
    title: str
    keys: list[str] = Field(default_factory=list)
    aliases: list[Id] = Field(default_factory=list)
    card: Card = Field(default_factory=Card)


class Influence(Part):
    """How much samples move one metric of a run, in the order of its samples; `real` by clip with its unit."""

    fake: list[float]
    real: list[float] = Field(default_factory=list)
    real_groups: list[int] = Field(default_factory=list)
    real_sha256: str = ""


class Samples(Part):
    """Finished samples in columns. `prompts` are places in the board's list. A score is None where there is none."""

    ids: list[str] = Field(default_factory=list)
    prompts: list[int] = Field(default_factory=list)
    seeds: list[int] = Field(default_factory=list)
    scores: dict[str, list[float | None]] = Field(default_factory=dict)
    rejected: list[tuple[str, str, str]] = Field(default_factory=list)


class Clip(Part):
    """A video of a run as the pages show it: names in the site's media folder, size, frames and rate."""

    poster: str
    sprite: str
    clip: str
    width: int
    height: int
    frames: int
    fps: float


class RunEntry(Part):
    """One run. `result` is None for a run that has not ended; `label` says who vouches for it, `by` who made it."""

    id: Id
    model: Id
    table: Id
    folder: str
    label: Label = "measured here"
    by: str = ""
    date: Day = ""
    state: State
    planned: int
    result: Result | None = None
    protocol: dict[str, Any] | None = None
    samples: Samples = Field(default_factory=Samples)
    influence: dict[str, Influence] = Field(default_factory=dict)
    clips: dict[str, Clip] = Field(default_factory=dict)
    inputs: list[FileFacts] = Field(default_factory=list)
    notes: list[str] = Field(default_factory=list)


class MetricColumn(Part):
    """A metric of a table. Every value under it has this fingerprint."""

    id: str
    metric: str
    label: str
    direction: Literal["lower", "higher"]
    decimals: Annotated[int, Field(ge=0, le=12)]
    fingerprint: str


class PairRecord(Part):
    """First minus second run. `p` is two-sided and of this pair alone; `note` says why there is no difference."""

    first: Id
    second: Id
    difference: float | None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    n: int = 0
    is_paired: bool = False
    note: str = ""


class RankRecord(Part):
    """Places that a run may have; `fingerprint` is that of the value that is ranked."""

    run: Id
    fingerprint: str
    low: int
    high: int


class Ranking(Part):
    """One metric of one fingerprint. `unranked`: run -> why. `pairs` may be left out where there are very many."""

    metric: str
    fingerprint: str
    ranks: list[RankRecord]
    unranked: dict[str, str] = Field(default_factory=dict)
    pairs: list[PairRecord] = Field(default_factory=list)
    method: str = ""


class PromptEntry(Part):
    """A sample of a benchmark and its text. `page` is its page's name, or "" where it has none."""

    benchmark: str
    sample: str
    prompt: str
    caption: str = ""
    label: str = ""
    page: str = ""


class PrintedRecord(Part):
    """A printed number beside a metric of a table: place in `papers`, and what differs from the table's setting."""

    row: int
    differing: list[str]


class TableEntry(Part):
    """Runs of one fingerprint, the only thing that is ever put in order. `runs` are the current ones, best first."""

    id: Id
    benchmark: str
    benchmark_title: str
    protocol: str
    fingerprint: str
    is_embedded: bool
    facts: dict[str, str] = Field(default_factory=dict)
    metrics: list[MetricColumn] = Field(default_factory=list)
    runs: list[Id] = Field(default_factory=list)
    older: list[Id] = Field(default_factory=list)
    rankings: list[Ranking] = Field(default_factory=list)
    printed: dict[str, list[PrintedRecord]] = Field(default_factory=dict)
    differs: dict[str, list[str]] = Field(default_factory=dict)


class Votes(Part):
    """Raw answers in rows; raters are numbered, so that no pseudonym of the study is published."""

    columns: list[str]
    rows: list[list[str | int | float | None]]


class StudyEntry(Part):
    """A human study. `models`: its own name -> ours. `analysis` is analysis.json without names of raters."""

    id: Id
    title: str
    table: str = ""
    is_simulated: bool = False
    models: dict[str, str]
    titles: dict[str, str] = Field(default_factory=dict)
    items: dict[str, str] = Field(default_factory=dict)
    scales: dict[str, tuple[float, float]] = Field(default_factory=dict)
    names: dict[str, str] = Field(default_factory=dict)
    consent: list[tuple[str, str]] = Field(default_factory=list)
    design: list[tuple[str, str]] = Field(default_factory=list)
    analysis: dict[str, Any]
    votes: dict[str, Votes] = Field(default_factory=dict)
    inputs: list[FileFacts] = Field(default_factory=list)


class Coefficient(Part):
    """A correlation with its interval. `by` model: one point a model; clip: one point a video."""

    by: Literal["model", "clip"]
    kind: Literal["spearman", "kendall"]
    value: float | None
    low: float | None = None
    high: float | None = None
    n: int = 0
    note: str = ""


class AgreementEntry(Part):
    """A metric of a table against people of one study. `points`: run -> (metric, human). Accuracy is over pairs."""

    table: Id
    study: Id
    aspect: str
    metric: str
    direction: Literal["lower", "higher"]
    coefficients: list[Coefficient]
    accuracy: float | None
    pairs: int
    points: dict[str, tuple[float, float]] = Field(default_factory=dict)


class Change(Part):
    """One thing that moved. `kind`: added, removed, moved, study, fixed. `link` is a page of the site, or ""."""

    kind: Literal["first", "added", "removed", "moved", "replaced", "study", "fixed"]
    text: str
    link: str = ""


class Publish(Part):
    """One version of the board. `values`: model|table|metric -> printed value and interval, for the next comparison."""

    number: int
    date: Day
    reason: str = ""
    changes: list[Change] = Field(default_factory=list)
    ranks: dict[str, tuple[int, int]] = Field(default_factory=dict)


class Tombstone(Part):
    """A row that was taken out: what it was, why, and in which publish. `keys` as those of a model."""

    id: Id
    kind: Literal["model", "run"]
    title: str
    keys: list[str] = Field(default_factory=list)
    reason: str
    date: Day = ""
    publish: int


class Board(Part):
    """The whole document."""

    schema_version: Annotated[int, Field(ge=BOARD_VERSION, le=BOARD_VERSION)] = BOARD_VERSION
    title: str = "Text-to-video leaderboard"
    about: str = ""
    address: str = ""
    data_licence: str = ""
    sample: str = ""
    seed: int = 0
    models: list[ModelEntry] = Field(default_factory=list)
    runs: list[RunEntry] = Field(default_factory=list)
    tables: list[TableEntry] = Field(default_factory=list)
    prompts: list[PromptEntry] = Field(default_factory=list)
    papers: list[PublishedRow] = Field(default_factory=list)
    studies: list[StudyEntry] = Field(default_factory=list)
    agreement: list[AgreementEntry] = Field(default_factory=list)
    tombstones: list[Tombstone] = Field(default_factory=list)
    redirects: dict[str, str] = Field(default_factory=dict)
    publishes: list[Publish] = Field(default_factory=list)
    media: dict[str, FileFacts] = Field(default_factory=dict)

    def model(self, name: str) -> ModelEntry:
        return next(one for one in self.models if one.id == name)

    def run(self, name: str) -> RunEntry:
        return next(one for one in self.runs if one.id == name)

    def table(self, name: str) -> TableEntry:
        return next(one for one in self.tables if one.id == name)
