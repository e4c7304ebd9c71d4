"""The finished samples of a run as a table: some of them on the page, all of them in the files.

A board of 500 runs with 2,000 prompts has a million samples. Cells of them all would be gigabytes, so the files are
written from the columns of the document; a test holds them against the cells, byte for byte.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from functools import lru_cache

from eval.notation import number
from reports.board.document import RunEntry
from reports.page import showable
from reports.site.exports import as_bibtex, as_latex, as_markdown, guarded, json_document, plain
from reports.site.site import Site
from reports.site.table import Column, Row, Table, absent, measured, words

SAMPLES_SHOWN = 100
NOT_RUN = "not run"
NO_CLASS = "none"
DECIMALS = 4


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
            [NOT_RUN if value is None else number(value, decimals) for value in self._run.samples.scores[name]]
            for name, decimals in zip(self._names, self._decimals, strict=True)
        ]

    def _csv(self) -> str:
        samples, prompts = self._run.samples, self._site.board.prompts
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow([guarded(column.key) for column in self.shown.columns])
        texts = [
            [_guarded(one) for one in samples.ids],
            [_guarded(prompts[place].prompt) for place in samples.prompts],
            [_guarded(prompts[place].label or NO_CLASS) for place in samples.prompts],
            map(str, samples.seeds),
            *([text if text == NOT_RUN else plain(text) for text in column] for column in self._scores()),
        ]
        writer.writerows(zip(*texts, strict=True))
        return out.getvalue()

    def _json(self) -> str:
        samples, prompts = self._run.samples, self._site.board.prompts
        keys = [_quoted(column.key) for column in self.shown.columns]
        scores = []
        for key, name, column in zip(keys[4:], self._names, self._scores(), strict=True):
            scores.append(
                [
                    f',{key}:{{"text":"{text}","missing":"{text}"}}'
                    if value is None
                    else f',{key}:{{"text":"{text}","value":{value!r}}}'
                    for text, value in zip(column, samples.scores[name], strict=True)
                ]
            )
        rows = [
            f'{{"id":{_unchanged(name)},"cells":{{{keys[0]}:{{"text":{_quoted(name)}}},'
            f'{keys[1]}:{{"text":{_quoted(prompts[place].prompt)}}},'
            f'{keys[2]}:{{"text":{_quoted(prompts[place].label or NO_CLASS)}}},'
            f'{keys[3]}:{{"text":"{seed}"}}{"".join(parts)}}}}}'
            for name, place, seed, *parts in zip(samples.ids, samples.prompts, samples.seeds, *scores, strict=True)
        ]
        return json_document(self.shown, rows)


# The same few thousand ids and prompts stand in every run.
@lru_cache(maxsize=1 << 16)
def _guarded(text: str) -> str:
    return guarded(text)


@lru_cache(maxsize=1 << 16)
def _quoted(text: str) -> str:
    return json.dumps(showable(text), ensure_ascii=False)


@lru_cache(maxsize=1 << 16)
def _unchanged(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
