"""The finished samples of a run as a table: some of them on the page, all of them in the files.

A board of 500 runs with 2,000 prompts has a million samples. Cells of them all would be gigabytes, so the files are
written from the columns of the document; a test holds them against the cells, byte for byte.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from eval.notation import number
from reports.board.document import PromptEntry, RunEntry, Samples
from reports.page import showable
from reports.site.exports import as_bibtex, as_latex, as_markdown, guarded, json_document, plain
from reports.site.site import Site
from reports.site.table import Column, Row, Table, absent, measured, words

SAMPLES_SHOWN = 100
NOT_RUN = "not run"
NO_CLASS = "none"
DECIMALS = 4
# Under this a number has neither sign nor thousands, and plain formatting prints the same.
FEW_DIGITS = 999


class SampleTable:
    """`shown` are the rows of the page: all where there are few, else the lowest and the highest by the first score."""

    def __init__(self, site: Site, run: RunEntry) -> None:
        self._site, self._run = site, run
        self._names = sorted(run.samples.scores)
        known = {column.id: column for column in site.tables[run.table].metrics}
        self._decimals = [known[name].decimals if name in known else DECIMALS for name in self._names]
        columns = [
            Column("sample", "Sample"),
            Column("prompt", "Prompt"),
            Column("label", "Class"),
            Column("seed", "Seed", "", "number"),
        ]
        columns += [Column(name, known[name].label if name in known else name, "", "number") for name in self._names]
        places = self._chosen()
        self.n = len(run.samples.ids)
        self.shown = Table(
            f"samples-{run.id}",
            f"Run {run.id}, samples",
            columns,
            [self._row(place) for place in places],
            cite=site.cites([run.model]),
        )

    def _chosen(self) -> Sequence[int]:
        samples = self._run.samples
        if len(samples.ids) <= SAMPLES_SHOWN:
            return range(len(samples.ids))
        if not self._names:
            return range(SAMPLES_SHOWN)
        scores = samples.scores[self._names[0]]
        ranked = sorted(
            range(len(scores)), key=lambda place: (scores[place] is None, scores[place] or 0.0, samples.ids[place])
        )
        half = SAMPLES_SHOWN // 2
        return [*ranked[:half], *ranked[-half:]]

    def _row(self, place: int) -> Row:
        samples = self._run.samples
        prompt = self._site.board.prompts[samples.prompts[place]]
        cells = {
            "sample": words(samples.ids[place], href=f"../prompt/{prompt.page}.html" if prompt.page else ""),
            "prompt": words(prompt.prompt),
            "label": words(prompt.label or NO_CLASS),
            "seed": words(samples.seeds[place]),
        }
        for name, decimals in zip(self._names, self._decimals, strict=True):
            value = samples.scores[name][place]
            cells[name] = measured(value, decimals) if value is not None else absent(NOT_RUN)
        return Row(samples.ids[place], cells)

    def texts(self) -> dict[str, str]:
        """The files: CSV and JSON of all samples, LaTeX and Markdown of those on the page."""
        return {
            "csv": self._csv(),
            "json": self._json(),
            "tex": as_latex(self.shown),
            "md": as_markdown(self.shown),
            "bib": as_bibtex(self.shown.cite),
        }

    def _scores(self) -> list[list[str]]:
        """The printed digits of every score, by metric."""
        return [
            _printed(self._run.samples.scores[name], decimals)
            for name, decimals in zip(self._names, self._decimals, strict=True)
        ]

    def _asked(self) -> Asked:
        """What runs of the same prompts share, made once for all of them."""
        samples, site = self._run.samples, self._site
        key = ("samples", tuple(samples.ids), tuple(samples.prompts))
        return site.once(key, lambda: Asked.of(samples, site.board.prompts))

    def _csv(self) -> str:
        head = _csv_line(guarded(column.key) for column in self.shown.columns)
        scores = [[text if text == NOT_RUN else plain(text) for text in column] for column in self._scores()]
        rows = map(",".join, zip(self._asked().csv, map(str, self._run.samples.seeds), *scores, strict=True))
        return "\n".join([head, *rows]) + "\n"

    def _json(self) -> str:
        samples = self._run.samples
        scores = [
            [
                f',{key}:{{"text":"{text}","missing":"{text}"}}'
                if value is None
                else f',{key}:{{"text":"{text}","value":{value!r}}}'
                for text, value in zip(texts, samples.scores[name], strict=True)
            ]
            for key, name, texts in zip(map(_quoted, self._names), self._names, self._scores(), strict=True)
        ]
        rows = [
            f'{asked}"seed":{{"text":"{seed}"}}{"".join(parts)}}}}}'
            for asked, seed, *parts in zip(self._asked().json, samples.seeds, *scores, strict=True)
        ]
        return json_document(self.shown, rows)


@dataclass(frozen=True)
class Asked:
    """Ids, prompts and classes of samples: the beginning of each row of CSV and of JSON."""

    csv: list[str]
    json: list[str]

    @classmethod
    def of(cls, samples: Samples, prompts: Sequence[PromptEntry]) -> Asked:
        asked = [prompts[place] for place in samples.prompts]
        words_ = [(name, one.prompt, one.label or NO_CLASS) for name, one in zip(samples.ids, asked, strict=True)]
        rows = [
            f'{{"id":{json.dumps(name, ensure_ascii=False)},"cells":{{"sample":{{"text":{_quoted(name)}}},'
            f'"prompt":{{"text":{_quoted(text)}}},"label":{{"text":{_quoted(label)}}},'
            for name, text, label in words_
        ]
        return cls([_csv_line(map(guarded, row)) for row in words_], rows)


def _csv_line(texts: Iterable[str]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="").writerow(texts)
    return out.getvalue()


def _quoted(text: str) -> str:
    return json.dumps(showable(text), ensure_ascii=False)


def _printed(values: Sequence[float | None], decimals: int) -> list[str]:
    """Every value as `number` prints it."""
    known = [value for value in values if value is not None]
    if len(known) == len(values) and known and min(known) > 0 and max(known) < FEW_DIGITS:
        return [*map(f"{{:.{decimals}f}}".format, known)]
    return [NOT_RUN if value is None else number(value, decimals) for value in values]
