"""`study.yaml`: every decision of a study as one checked record, and its hash.

Texts for raters are given per language (`{en: ..., zh: ...}`); a plain string serves all of them.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from human_eval.designs import incomplete_blocks

SCHEMA_VERSION = 1
LANGUAGES = ("en", "zh")
MOST_SLOTS = 8


def _text(value: Any) -> Any:
    return {"en": value} if isinstance(value, str) else value


def _plain(value: dict[str, str]) -> dict[str, str]:
    for words in value.values():
        if "\0" in words or any("\ud800" <= letter <= "\udfff" for letter in words):
            raise ValueError("holds a NUL or half a surrogate pair; take it out")
    return value


Text = Annotated[dict[str, str], BeforeValidator(_text), Field(min_length=1)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


def said(text: dict[str, str], language: str) -> str:
    """The words in a language, else in English, else in whatever there is; empty for an empty text."""
    return text.get(language) or text.get("en") or next(iter(text.values()), "")


def language_of(text: dict[str, str], language: str) -> str:
    """The language that `said` takes its words from."""
    return language if text.get(language) else "en" if text.get("en") else next(iter(text), language)


class Part(BaseModel):
    """A part of the file: a misspelt name is an error, never silence."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="after")
    def _no_hidden_characters(self) -> Part:
        for name in type(self).model_fields:
            value = getattr(self, name)
            if isinstance(value, dict) and all(isinstance(words, str) for words in value.values()):
                _plain(value)
        return self


class Scale(Part):
    """Whole points from `low` to `high`; `labels` names some of them."""

    low: int = 1
    high: int = 5
    labels: dict[int, Text] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _makes_sense(self) -> Scale:
        if not 2 <= len(self.points) <= 11:
            raise ValueError(f"a scale has 2 to 11 points, {self.low} to {self.high} has {len(self.points)}")
        if wrong := [point for point in self.labels if point not in self.points]:
            raise ValueError(f"label {wrong[0]} is not on the scale {self.low} to {self.high}")
        return self

    @property
    def points(self) -> range:
        return range(self.low, self.high + 1)


class Aspect(Part):
    """One thing that is rated for each video."""

    id: Name
    name: Text
    hint: dict[str, str] = Field(default_factory=dict)
    scale: Scale = Field(default_factory=Scale)


class Favourite(Part):
    """Best of those on the page. `none`: "Cannot say" stands beside them, as large as they are."""

    name: Text
    question: Text
    none: bool = True
    ranking: bool = False


class Pair(Part):
    """Two videos, which is better. `strength`: how much better, 1 to `strength` (0: not asked)."""

    name: Text
    question: Text
    ties: bool = True
    both_bad: bool = False
    strength: Annotated[int, Field(ge=0, le=3)] = 0


class Model(Part):
    """Whose videos are rated. `source`: the run folder or folder of videos that the study was built from."""

    id: Name
    title: str = ""
    source: str = ""
    role: Literal["candidate", "reference"] = "candidate"


class Item(Part):
    """A prompt, shown with the videos that the models made of it. An `extra` one serves practice and checks only."""

    id: Name
    prompt: Text
    label: str = ""
    role: Literal["main", "extra"] = "main"


class Checks(Part):
    """How many extra trials tell whether the rater reads and looks. None of them is analysed as a rating.

    `instructed`: the question itself says what to answer. `trap`: one video shows a scale with the point to choose.
    `gold`: one video is badly damaged. `repeat`: an earlier trial comes again. `tolerance`: how many points a gold
    answer may miss by. A rater who fails `flag_from` of them is flagged, never deleted.
    """

    instructed: Annotated[int, Field(ge=0, le=5)] = 1
    trap: Annotated[int, Field(ge=0, le=5)] = 0
    gold: Annotated[int, Field(ge=0, le=5)] = 1
    repeat: Annotated[int, Field(ge=0, le=5)] = 0
    tolerance: Annotated[int, Field(ge=0, le=5)] = 0
    flag_from: Annotated[int, Field(ge=1)] = 2


class Quota(Part):
    """`raters` complete sessions are wanted. `trials` a rater (0: every item once). `slack` more may be let in."""

    raters: Annotated[int, Field(ge=1, le=100_000)] = 24
    trials: Annotated[int, Field(ge=0, le=1000)] = 0
    slack: Annotated[int, Field(ge=0, le=1000)] = 0


class Limits(Part):
    """Times. A rater who has not been seen for `live_minutes` frees the place; `watch_seconds` is the least a trial
    takes; `minutes` is what the page promises (0: reckoned); `break_every` trials there is a pause (0: none)."""

    live_minutes: Annotated[int, Field(ge=1)] = 45
    watch_seconds: Annotated[float, Field(ge=0, le=60)] = 0
    minutes: Annotated[int, Field(ge=0)] = 0
    break_every: Annotated[int, Field(ge=0)] = 15
    retention_days: Annotated[int, Field(ge=1)] = 90


class Consent(Part):
    """What a rater agrees to. The version and the hash of the words are kept with each rater."""

    version: Annotated[int, Field(ge=1)] = 1
    who: Text
    see: Text
    pay: Text
    kept: Text
    how_long: Text
    stopping: Text
    checks: Text
    statements: Annotated[list[Text], Field(min_length=1)]


class Codes(Part):
    """What a rater takes back to the panel. Empty codes are made from the study's key. `per_rater` adds a part that
    only this rater has. `return_url` gets the code in place of `{code}`."""

    complete: str = ""
    screened_out: str = ""
    no_consent: str = ""
    per_rater: bool = False
    return_url: str = ""

    @model_validator(mode="after")
    def _leads_somewhere(self) -> Codes:
        if self.return_url and not self.return_url.startswith("https://"):
            raise ValueError("return_url has to start with https://")
        for code in (self.complete, self.screened_out, self.no_consent):
            if code and not re.fullmatch(r"[A-Za-z0-9-]{4,32}", code):
                raise ValueError(f"code {code!r} has to be 4 to 32 letters, digits or hyphens")
        return self


class Media(Part):
    """How videos are made alike. 0 means: taken from the videos. `size` is of the longer side, in pixels."""

    size: Annotated[int, Field(ge=0, le=1920)] = 0
    fps: Annotated[float, Field(ge=0, le=60)] = 0
    seconds: Annotated[float, Field(ge=0, le=60)] = 0
    quality: Annotated[int, Field(ge=0, le=40)] = 16


class Study(Part):
    """The whole file."""

    schema_version: Literal[1] = 1
    name: Name
    title: Text
    intro: Text
    preset: str = ""
    sample: bool = False
    seed: Annotated[int, Field(ge=0)] = 0
    languages: Annotated[list[Literal["en", "zh"]], Field(min_length=1)] = ["en"]
    layout: Literal["joint", "pair", "single"]
    per_page: Annotated[int, Field(ge=0, le=MOST_SLOTS)] = 0
    prompt_shown: bool = True
    aspects: list[Aspect] = Field(default_factory=list)
    favourite: Favourite | None = None
    pair: Pair | None = None
    quota: Quota = Field(default_factory=Quota)
    training: Annotated[int, Field(ge=0, le=10)] = 1
    environment_check: bool = True
    checks: Checks = Field(default_factory=Checks)
    limits: Limits = Field(default_factory=Limits)
    consent: Consent
    codes: Codes = Field(default_factory=Codes)
    media: Media = Field(default_factory=Media)
    models: Annotated[list[Model], Field(min_length=1, max_length=16)]
    items: Annotated[list[Item], Field(min_length=1)]

    @model_validator(mode="after")
    def _holds_together(self) -> Study:
        for what, names in (
            ("models", [model.id for model in self.models]),
            ("items", [item.id for item in self.items]),
            ("aspects", [aspect.id for aspect in self.aspects]),
            ("languages", [str(language) for language in self.languages]),
        ):
            if double := next((name for name in names if names.count(name) > 1), None):
                raise ValueError(f"{what}: {double!r} is there twice")
        self._asks_something()
        if not self.main_items:
            raise ValueError("items: none of them has the role main")
        most = len(self.main_items) * self.passes
        if self.quota.trials > most:
            raise ValueError(f"quota.trials: {self.quota.trials} trials a rater, the items give {most} at most")
        return self

    def _asks_something(self) -> None:
        n = len(self.models)
        if self.layout == "pair":
            if self.pair is None:
                raise ValueError("layout pair needs a pair section with its question")
            if self.aspects or self.favourite:
                raise ValueError("layout pair asks which is better; take out aspects and favourite")
            if n < 2:
                raise ValueError(f"models: layout pair needs at least 2, there is {n}")
        else:
            if self.pair is not None:
                raise ValueError(f"layout {self.layout} has no pair section; take it out")
            if not self.aspects and not self.favourite:
                raise ValueError("aspects: nothing is asked; add an aspect or a favourite")
        if self.layout == "single" and (self.favourite or (self.checks.gold > 0 and not self.aspects)):
            raise ValueError("layout single shows one video; take out favourite")
        if self.layout == "joint":
            if n < 2:
                raise ValueError(f"models: layout joint needs at least 2, there is {n}; use layout single")
            if self.slots > MOST_SLOTS:
                raise ValueError(f"per_page: at most {MOST_SLOTS} videos fit a page, {self.slots} were asked for")
            if self.per_page == 1 or self.per_page > n:
                raise ValueError(f"per_page: {self.per_page} does not fit {n} models")
        if not self.aspects and self.checks.trap:
            raise ValueError("checks.trap needs an aspect to be rated")

    @property
    def slots(self) -> int:
        """Videos on a page."""
        return {"pair": 2, "single": 1}.get(self.layout, self.per_page or len(self.models))

    @property
    def main_items(self) -> list[Item]:
        return [item for item in self.items if item.role == "main"]

    @property
    def spare_items(self) -> list[Item]:
        """Prompts for practice and checks: the extra ones, or main ones if there are none."""
        return [item for item in self.items if item.role == "extra"] or self.main_items

    @property
    def passes(self) -> int:
        """How many times one item can be shown to a rater, each time with other models."""
        n = len(self.models)
        return n if self.slots == 1 else len(incomplete_blocks(n, self.slots))

    @property
    def trials(self) -> int:
        """Analysed trials a rater."""
        return self.quota.trials or len(self.main_items)

    @property
    def all_trials(self) -> int:
        checks = self.checks
        return self.trials + checks.instructed + checks.trap + checks.gold + checks.repeat

    @property
    def fields(self) -> list[str]:
        """Names of everything that a trial asks, in the order of the page."""
        names = [f"v{slot}.{aspect.id}" for slot in range(1, self.slots + 1) for aspect in self.aspects]
        if self.favourite:
            names.append("favourite")
            if self.favourite.ranking:
                names += [f"v{slot}.rank" for slot in range(1, self.slots + 1)]
        if self.pair:
            names.append("choice")
            if self.pair.strength:
                names.append("strength")
        return names

    @property
    def pair_has_strength(self) -> bool:
        return self.pair is not None and self.pair.strength > 0

    def allowed(self, field: str) -> list[str]:
        """The values that a field may take."""
        if field == "favourite":
            assert self.favourite is not None
            return [str(slot) for slot in range(1, self.slots + 1)] + ["none"] * self.favourite.none
        if field == "choice":
            assert self.pair is not None
            return ["1", "2"] + ["tie"] * self.pair.ties + ["bad"] * self.pair.both_bad
        if field == "strength":
            assert self.pair is not None
            return [str(point) for point in range(1, self.pair.strength + 1)]
        aspect_id = field.partition(".")[2]
        if aspect_id == "rank":
            return [str(rank) for rank in range(1, self.slots + 1)]
        aspect = next(aspect for aspect in self.aspects if aspect.id == aspect_id)
        return [str(point) for point in aspect.scale.points]

    @property
    def minutes(self) -> int:
        """What the consent page promises: said by the author, else 6 seconds and 2 a question for each trial."""
        return self.limits.minutes or max(1, round(self.all_trials * (6 + 2 * len(self.fields)) / 60))


def blanks(study: Study) -> list[str]:
    """Parts of the consent text where the author has still to put something in place of <words>."""
    return [
        f"consent.{name}.{language}"
        for name, value in study.consent
        if isinstance(value, dict)
        for language, words in value.items()
        if language in study.languages and re.search(r"<[^<>]+>", words)
    ]


def canonical(study: Study) -> str:
    """The design as one line of JSON: the same text for the same decisions, whatever the file looks like."""
    return json.dumps(study.model_dump(mode="json"), ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def design_hash(study: Study) -> str:
    """sha256 of the whole design, as hex."""
    return hashlib.sha256(canonical(study).encode()).hexdigest()


def consent_hash(study: Study, language: str) -> str:
    """sha256 of the words that a rater agreed to, as hex."""
    words = {name: said(value, language) for name, value in study.consent if isinstance(value, dict)}
    words["statements"] = "\n".join(said(text, language) for text in study.consent.statements)
    words["version"] = str(study.consent.version)
    return hashlib.sha256(json.dumps(words, ensure_ascii=False, sort_keys=True).encode()).hexdigest()


def changes(old: Any, new: Any, where: str = "") -> list[tuple[str, str, str]]:
    """What differs between two designs in JSON: (place, old value, new value)."""
    if isinstance(old, dict) and isinstance(new, dict):
        found = []
        for key in sorted({*old, *new}):
            found += changes(old.get(key), new.get(key), f"{where}.{key}".lstrip("."))
        return found
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return [
            found for at, (a, b) in enumerate(zip(old, new, strict=True)) for found in changes(a, b, f"{where}[{at}]")
        ]
    if old == new:
        return []
    return [(where, json.dumps(old, ensure_ascii=False), json.dumps(new, ensure_ascii=False))]


# A change here would give the answers that are already there another meaning.
STRUCTURE = ("layout", "per_page", "models", "items", "aspects", "favourite", "pair", "seed", "media", "quota.trials")


def breaks_data(place: str) -> bool:
    """Whether a change at this place cannot be recorded as a deviation, because old answers would change meaning."""
    is_wording = re.search(r"\.(?:name|hint|question|labels|title|prompt|source)(?:$|\.)", place)
    return not is_wording and any(re.match(re.escape(part) + r"(?:$|[.\[])", place) for part in STRUCTURE)
