"""The page of the result: its figures are those of analysis.json, and what cannot be said is said in words."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from human_eval.analysis.analyze import AnalysisSettings, analyze_tables
from human_eval.analysis.findings import Resampling
from human_eval.analysis.tables import StudyTables
from human_eval.result_page import write_page
from human_eval.result_tables import Scale, p_words, scale_round
from human_eval.study.reading import read_study

FAST = AnalysisSettings(Resampling(resamples=200, seed=3))
NAMES = {
    "texture": "Frame texture",
    "motion": "Motion realism",
    "relevance": "Semantic relevance",
    "overall": "Overall",
}


class Page(HTMLParser):
    """Sections by id: words outside the table, and cells by (group, row name); what a picture says is a cell too."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.words: dict[str, str] = {"": ""}
        self.rows: dict[str, dict[tuple[str, str], list[list[str]]]] = {}
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.section, self.group, self.cells, self.into = "", "", [""], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.tags.append((tag, values))
        if tag == "section":
            self.section, self.group = values["id"], ""
            self.words[self.section], self.rows[self.section] = "", {}
        elif tag == "tr":
            self.cells = []
        elif tag in ("td", "th"):
            self.cells.append("")
            self.into = values.get("scope") or "cell"
        elif tag == "svg" and self.into == "cell":
            self.cells[-1] += values.get("aria-label") or ""
            self.into = "svg"

    def handle_endtag(self, tag):
        if tag == "svg" and self.into:
            self.into = "cell"
        elif tag in ("td", "th"):
            if self.into == "rowgroup":
                self.group = self.cells[-1].strip()
            self.into = ""
        elif tag == "tr" and len(self.cells) > 1 and self.section:
            name, *rest = [cell.strip() for cell in self.cells]
            self.rows[self.section].setdefault((self.group, name), []).append(rest)
        elif tag == "section":
            self.section = ""

    def handle_data(self, data):
        if self.into in ("cell", "row", "col", "rowgroup"):
            self.cells[-1] += data
        elif not self.into:
            self.words[self.section] = self.words.get(self.section, "") + data


def n(value: float, decimals: int, sign: bool = False) -> str:
    """Written apart from the page's own way."""
    text = format(value, f"{'+' if sign else ''},.{decimals}f").replace("-", "\N{MINUS SIGN}")
    return re.sub(r"^[+\N{MINUS SIGN}](0(\.0*)?)$", r"\1", text)


def ends(interval: dict, decimals: int, sign: bool = False) -> str:
    low, high = interval["low"], interval["high"]
    if low is None:
        return interval["reason"]
    if sign or low < 0:
        return f"{n(low, decimals, True)} to {n(high, decimals, True)}"
    return f"{n(low, decimals)} – {n(high, decimals)}"


@pytest.fixture(scope="module")
def study(built):
    return read_study(built["cogvideo-2022"])


def tables(study, *, raters=12, items=8, models=3, metrics=True, careless=1, seed=0) -> StudyTables:
    """Ratings on the study's scales, favourites and metrics; the last raters answer blindly."""
    rng = np.random.default_rng(seed)
    ids = [one.id for one in study.models][:models]
    leniency, difficulty = rng.normal(0, 0.4, raters), rng.normal(0, 0.5, items)
    ratings, votes, values = [], [], []
    for r in range(raters):
        for i in range(items):
            for m, model in enumerate(ids):
                for one in study.aspects:
                    low, high = one.scale.low, one.scale.high
                    middle = low + (high - low) * (0.75 - 0.2 * m) + leniency[r] + difficulty[i]
                    score = rng.integers(low, high + 1) if r >= raters - careless else middle + rng.normal(0, 0.6)
                    score = float(np.clip(round(score), low, high))
                    ratings.append((f"r{r:02d}", f"i{i}", model, one.id, score, 1 + (m + r + i) % models))
            turn = (r + i) % models
            votes.append((f"r{r:02d}", f"i{i}", "|".join(ids[turn:] + ids[:turn]), rng.choice([*ids, "none"])))
    for m, model in enumerate(ids):
        clipsim = [0.3 - 0.02 * m + 0.01 * rng.random() for _ in range(items)]
        values += [(model, f"i{i}", "clipsim", one, "higher", None, None) for i, one in enumerate(clipsim)]
        values += [(model, f"i{i}", "flow", rng.random(), "higher", None, None) for i in range(items)]
        values.append((model, "", "fvd", 300.0 + 50 * m, "lower", 280.0 + 50 * m, 325.0 + 50 * m))
    frame = pd.DataFrame
    given = (
        {"metrics": frame(values, columns=["model", "item", "metric", "value", "direction", "low", "high"])}
        if metrics
        else {}
    )
    return StudyTables(
        ratings=frame(ratings, columns=["rater", "item", "model", "aspect", "score", "position"]),
        favourites=frame(votes, columns=["rater", "item", "shown", "choice"]),
        scales={one.id: (float(one.scale.low), float(one.scale.high)) for one in study.aspects},
        models=tuple(ids),
        **given,
    )


def shown(study, data: StudyTables, folder: Path) -> tuple[Page, dict]:
    result = analyze_tables(data, FAST)
    kept = study.model_copy(update={"models": [one for one in study.models if one.id in data.models]})
    text = write_page(kept, result, folder / "analysis.html").read_text(encoding="utf-8")
    return Page(text), json.loads(json.dumps(result.to_json()))


@pytest.fixture(scope="module")
def full(study, tmp_path_factory) -> tuple[Page, dict]:
    return shown(study, tables(study), tmp_path_factory.mktemp("page"))


@pytest.mark.parametrize("which", ["analysed", "everybody"])
def test_opinions_and_shares_are_those_of_the_json(full, which):
    page, found = full
    suffix = "" if which == "analysed" else "-everybody"
    for aspect, one in found[which]["aspects"].items():
        rows = page.rows[f"aspect-{aspect}{suffix}"]
        assert len(rows) - 1 == len(one["opinions"]) == 3
        for opinion in one["opinions"]:
            (cells,) = rows["", opinion["model"]]
            value, inside = n(opinion["mean"], 2), ends(opinion["interval"], 2)
            assert cells[:2] == [value, inside]
            assert cells[2] == f"{opinion['model']}: {value}, 95 % interval {inside}, n = {opinion['n']}"
            assert cells[3:] == [ends(opinion["naive"], 2), f"{opinion['n']:,}"]
    (favourites,) = found[which]["favourites"].values()
    for share in favourites["shares"]:
        name = "cannot say" if share["option"] == "none" else share["option"]
        (cells,) = page.rows[f"favourite{suffix}"]["", name]
        times = {end: None if v is None else 100 * v for end, v in share["interval"].items() if end in ("low", "high")}
        assert cells[:2] == [f"{n(100 * share['share'], 1)} %", ends(times, 1)]
        assert cells[3:] == [ends({"low": 100 * share["wilson"][0], "high": 100 * share["wilson"][1]}, 1),
                             f"{share['count']} of {share['n']}"]  # fmt: skip


def test_how_far_naive_intervals_fall_short(full):
    page, found = full
    ratios = []
    for aspect, one in found["analysed"]["aspects"].items():
        for opinion in one["opinions"]:
            (cells,) = page.rows["naive"][NAMES[aspect], opinion["model"]]
            ratio = opinion["interval"]["se"] / opinion["naive"]["se"]
            ratios.append(ratio)
            assert ratio == pytest.approx(one["naive_too_narrow"][opinion["model"]])
            assert cells[:2] == [ends(opinion["interval"], 2), ends(opinion["naive"], 2)]
            assert cells[3:] == [f"{ratio:.1f}", f"{opinion['n']}", f"{opinion['n'] / ratio**2:.0f}"]
    words = f"would give intervals {min(ratios):.1f} to {max(ratios):.1f} times too narrow"
    assert words in page.words["naive"]


def test_tests_are_those_of_the_json(full):
    page, found = full
    for aspect, one in found["analysed"]["aspects"].items():
        assert len(one["differences"]) == len(one["pair_tests"]) == 3
        for gap, test in zip(one["differences"], one["pair_tests"], strict=True):
            (cells,) = page.rows["tests"][NAMES[aspect], f"{gap['first']} − {gap['second']}"]
            assert cells[:2] == [n(gap["difference"], 2, True), ends(gap["interval"], 2, True)]
            is_told = not gap["interval"]["low"] <= 0 <= gap["interval"]["high"]
            better = gap["first"] if gap["difference"] > 0 else gap["second"]
            assert cells[3] == (f"{better} is higher" if is_told else "No difference found")
            p = [test[name] for name in ("wilcoxon_p_holm", "wilcoxon_p_bh", "t_p_holm")]
            assert cells[4:7] == ["< 0.001" if one < 0.001 else f"{one:.3f}" for one in p]
            assert cells[7:] == [n(test["dz"], 2, True), str(test["raters"])]
        assert f"χ² = {one['friedman']['chi2']:.1f}" in page.words["tests"]


def test_agreement_is_that_of_the_json(full):
    page, found = full
    for aspect, one in found["analysed"]["aspects"].items():
        rows = {name: cells[0] for (group, name), cells in page.rows["agreement"].items() if group == NAMES[aspect]}
        agreed = one["agreement"]
        assert len(agreed["alpha"]) == 4
        for kind, alpha in agreed["alpha"].items():
            assert rows[f"Krippendorff's alpha, {kind}"][:2] == [n(alpha["value"], 2), ends(alpha["interval"], 2)]
        for label, name in (("ICC(A,1), one rater", "ICC(A,1)"), ("ICC(A,k), mean of 11", "ICC(A,k)")):
            icc = agreed["icc"]["coefficients"][name]
            assert rows[label][:2] == [n(icc["value"], 2), ends(icc["interval"], 2)]
        assert rows["Fleiss' kappa"][:2] == [n(agreed["fleiss_kappa"], 2), ends(agreed["fleiss_interval"], 2)]
        assert rows["Randolph's kappa"][:2] == [n(agreed["randolph_kappa"], 2), "no interval"]


def test_the_place_and_other_models_of_raters_are_those_of_the_json(full):
    page, found = full
    for aspect, one in found["analysed"]["aspects"].items():
        position, fitted = one["position"], one["mixed_model"]
        for place, effect in position["effect_by_position"].items():
            (cells,) = page.rows["position"][NAMES[aspect], f"Place {place}"]
            interval = position["interval_by_position"][place]
            assert cells[:3] == [n(position["mean_by_position"][place], 2), n(effect, 3, True), ends(interval, 3, True)]
        for opinion in one["opinions"]:
            (cells,) = page.rows["models"][NAMES[aspect], opinion["model"]]
            assert cells[:2] == [n(opinion["mean"], 2), n(one["rater_model"]["quality_by_model"][opinion["model"]], 2)]
            if opinion["model"] != fitted["reference"]:
                assert cells[2] == n(fitted["fixed"][opinion["model"]], 2, True)
                assert cells[3] == ends(fitted["intervals"][opinion["model"]], 2, True)


def test_metrics_are_those_of_the_json(full):
    page, found = full
    for aspect, one in found["analysed"]["metrics"].items():
        assert [metric["metric"] for metric in one["metrics"]] == ["clipsim", "flow", "fvd"]
        for metric in one["metrics"]:
            name = f"{metric['metric']}, {metric['direction']} is better"
            rows = {cells[0]: cells for cells in page.rows["metrics"][NAMES[aspect], name]}
            for level, each in (("model", metric["by_model"]), ("video", metric["by_item"])):
                for kind, one_of in each.items():
                    if not one_of["n"]:
                        continue
                    cells = rows[f"{kind.capitalize()} by {level}"]
                    clustered = one_of["clustered"]
                    interval = clustered if clustered and clustered["low"] is not None else one_of["interval"]
                    assert cells[1:3] == [n(one_of["value"], 2, True), ends(interval, 2, True)]
                    assert cells[5] == f"{one_of['n']} {level}s"
        for gap in one["differences"]:
            assert n(gap["difference"], 2, True) in page.words["metrics"]
    assert "with 3 models a coefficient by model says little" in page.words["metrics"]


def plots_of(page: Page) -> list[list[tuple[str, dict[str, str | None]]]]:
    """The tags of each figure of metrics, in order."""
    starts = [at for at, (tag, values) in enumerate(page.tags) if tag == "figure"]
    ends_at = [*starts[1:], next(at for at in range(starts[-1], len(page.tags)) if page.tags[at][0] == "table")]
    return [page.tags[start:end] for start, end in zip(starts, ends_at, strict=True)]


def linear(values: list[float], places: list[float]) -> np.ndarray:
    """What is left when places are fitted as a line of values: nothing, if they are drawn on one axis."""
    slope, start = np.polyfit(values, places, 1)
    return np.asarray(places) - (slope * np.asarray(values) + start)


def test_the_points_of_the_figures_are_those_of_the_json(full):
    """Each figure's places are a line of the numbers in the json, on both axes, intervals with them."""
    page, found = full
    drawn = iter(plots_of(page))
    for aspect, one in found["analysed"]["metrics"].items():
        opinions = {opinion["model"]: opinion for opinion in found["analysed"]["aspects"][aspect]["opinions"]}
        assert [points["metric"] for points in one["points"]] == ["clipsim", "flow", "fvd"]
        for points in one["points"]:
            for each in (points["models"], points["items"]):
                if not each:
                    assert points["metric"] == "fvd"
                    continue
                tags = next(drawn)
                dots = [
                    v for tag, v in tags if tag == "svg" and "x" in v and (v.get("class") or "").startswith("point")
                ]
                assert len(dots) == len(each)
                x = [float(dot["x"].rstrip("%")) for dot in dots]
                y = [float(dot["y"]) for dot in dots]
                lines = [v for tag, v in tags if tag == "line" and v.get("class") == "thin"]
                for point in each:
                    if point["value_low"] is not None:
                        line = lines.pop(0)
                        x += [float(line[end].rstrip("%")) for end in ("x1", "x2")]
                        assert {line["y1"], line["y2"]} <= {dot["y"] for dot in dots}
                    if point["human_low"] is not None:
                        line = lines.pop(0)
                        y += [float(line[end]) for end in ("y1", "y2")]
                assert lines == []
                known = [p for p in each if p["value_low"] is not None]
                values = [p["value"] for p in each] + [p[end] for p in known for end in ("value_low", "value_high")]
                known = [p for p in each if p["human_low"] is not None]
                humans = [p["human"] for p in each] + [p[end] for p in known for end in ("human_low", "human_high")]
                assert np.abs(linear(values, x)).max() < 0.02
                assert np.abs(linear(humans, y)).max() < 0.05
                assert np.polyfit(humans, y, 1)[0] < 0 < np.polyfit(values, x, 1)[0]
            for point in points["models"]:
                opinion = opinions[point["model"]]
                inside = opinion["interval"]
                assert (point["human"], point["n"]) == (opinion["mean"], opinion["n"])
                assert (point["human_low"], point["human_high"]) == (inside["low"], inside["high"])
                (cells,) = page.rows["metric-values"][
                    f"{points['metric']}, {points['direction']} is better", point["model"]
                ]
                assert float(cells[0]) == pytest.approx(point["value"], abs=0.06)
    assert next(drawn, None) is None


def test_figures_say_in_words_what_they_show(full):
    page, found = full
    labels = [tags[1:] for tags in plots_of(page)]
    words = [next(v["aria-label"] for tag, v in tags if tag == "svg" and v.get("role") == "img") for tags in labels]
    points = found["analysed"]["metrics"]["texture"]["points"][2]["models"]
    assert (points[0]["value_low"], points[0]["value_high"]) == (280.0, 325.0)
    text = next(one for one in words if one.startswith("Frame texture against fvd, lower is better, 3 models"))
    for point in points:
        assert f"{point['model']}: {point['value']:.1f}, interval {point['value_low']:.1f}" in text
        assert f"mean score {n(point['human'], 2)}" in text
    # Shapes tell the models apart without colour.
    marks = {v["class"] for tag, v in page.tags if tag == "svg" and (v.get("class") or "").startswith("point")}
    assert marks == {"point mark-1", "point mark-2", "point mark-3"}


def test_the_place_of_choices_is_that_of_the_json(full):
    page, found = full
    (favourites,) = found["analysed"]["favourites"].values()
    rows = {name: cells for (_, name), (cells,) in page.rows["choice-position"].items() if name.startswith("Place ")}
    assert len(rows) == len(favourites["position"]["places"]) == 3
    for one in favourites["position"]["places"]:
        cells = rows[f"Place {one['place']}"]
        times = {end: 100 * one["interval"][end] for end in ("low", "high")}
        effect = {end: 100 * one["effect_interval"][end] for end in ("low", "high")}
        assert cells[:2] == [f"{n(100 * one['share'], 1)} %", ends(times, 1)]
        assert cells[3:] == ["33.3 %", n(100 * one["effect"], 1, True), ends(effect, 1, True),
                             f"{one['count']} of {one['n']}"]  # fmt: skip
    left = favourites["position"]["left_out"]
    assert f"{left} votes that chose no video" in page.words["choice-position"]


def test_models_go_by_their_titles(study, tmp_path):
    """Two of one title are told apart by their id; the files' ids stand at the end of the page."""
    titles = ("Zebra <Net>", "The same", "The same")
    models = [one.model_copy(update={"title": title}) for one, title in zip(study.models, titles, strict=True)]
    page, _ = shown(study.model_copy(update={"models": models}), tables(study), tmp_path)
    first, second, third = (one.id for one in models)
    for section in ("aspect-motion", "favourite", "naive", "models", "screening", "metric-values"):
        assert {name for _, name in page.rows[section]} >= {
            "Zebra <Net>",
            f"The same ({second})",
            f"The same ({third})",
        }, section
    assert f"Zebra <Net> − The same ({second})" in {name for _, name in page.rows["tests"]}
    assert f"is {first} in the files" in page.words["how"]


def test_what_screening_removed(full):
    page, found = full
    assert list(found["excluded"]) == ["r11"]
    ((_, (cells,)),) = [(key, rows) for key, rows in page.rows["left-out"].items() if key[1] == "r11"]
    screened = found["screening"]["raters"]["r11"]
    assert cells[0] == ", ".join(found["excluded"]["r11"])
    assert cells[1] == n(screened["variance"], 2)
    assert cells[4] == n(screened["correlation"], 2)
    moved = []
    for aspect, one in found["analysed"]["aspects"].items():
        for opinion, other in zip(one["opinions"], found["everybody"]["aspects"][aspect]["opinions"], strict=True):
            (cells,) = page.rows["screening"][NAMES[aspect], opinion["model"]]
            moved.append(abs(opinion["mean"] - other["mean"]))
            assert cells[:4] == [n(opinion["mean"], 2), ends(opinion["interval"], 2),
                                 n(other["mean"], 2), ends(other["interval"], 2)]  # fmt: skip
            assert cells[5] == f"{other['n'] - opinion['n']} of {other['n']}"
    assert f"it moved a mean by {max(moved):.2f} at most" in page.words["screening"]


def test_the_page_is_whole_by_itself(full):
    page, _ = full
    assert not [tag for tag, _ in page.tags if tag in ("script", "link", "img", "iframe")]
    places = [values["href"] for tag, values in page.tags if tag == "a"]
    ids = {values["id"] for _, values in page.tags if values.get("id")}
    assert {place[1:] for place in places if place.startswith("#")} == ids
    assert [place for place in places if not place.startswith("#")] == ["analysis.json"]
    assert all(values.get("aria-label") for tag, values in page.tags if tag == "svg" and values.get("role") == "img")


def test_a_study_without_metrics_says_so(study, tmp_path):
    page, found = shown(study, tables(study, metrics=False, careless=0), tmp_path)
    assert found["analysed"]["metrics"] == {}
    assert "no automatic metrics" in page.words["metrics"]
    assert "Nobody: all 12 raters passed" in page.words["screening"]
    assert "left-out" not in page.words


def test_one_rater_gives_a_page_that_says_so(study, tmp_path):
    page, _ = shown(study, tables(study, raters=1, careless=0), tmp_path)
    assert "One rater only: agreement needs two." in page.words["agreement"]
    assert "Too few raters or prompts" in page.words["naive"]
    assert page.rows["aspect-motion"]["", study.models[0].id][0][1] == "it needs at least two raters"
    assert page.words["aspect-motion"].count("No difference found") == 1


def test_one_model_gives_a_page_that_says_so(study, tmp_path):
    page, _ = shown(study, tables(study, models=1, careless=0), tmp_path)
    assert "One model only: there is nothing to compare." in page.words["tests"]
    assert f"{study.models[0].id} alone:" in page.words["aspect-motion"]
    assert "higher than the others" not in page.words["aspect-motion"]


def test_one_prompt_gives_a_page(study, tmp_path):
    page, found = shown(study, tables(study, items=1, careless=0, metrics=False), tmp_path)
    opinion = found["analysed"]["aspects"]["motion"]["opinions"][0]
    assert page.rows["aspect-motion"]["", opinion["model"]][0][1] == ends(opinion["interval"], 2)


def test_small_p_values_and_scales():
    assert [p_words(p) for p in (0.0004, 0.001, 0.0416, 1.0, None, float("nan"))] == [
        "< 0.001",
        "0.001",
        "0.042",
        "1.000",
        "no test",
        "no test",
    ]
    assert Scale(1, 5, 1).ticks()[0][1] == "1"
    for values in ([0.0, 0.0], [-0.013, 0.02], [3.2, 3.9, None], [float("nan")], [250.0, 1900.0]):
        for symmetric in (False, True):
            scale = scale_round(values, is_symmetric=symmetric)
            known = [v for v in values if v is not None and np.isfinite(v)]
            assert all(scale.low <= v <= scale.high for v in known)
            assert not symmetric or scale.low == -scale.high
            assert len({words for _, words in scale.ticks()}) == len(scale.ticks())
