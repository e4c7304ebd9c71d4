"""The page of a sensitivity run: every number and sentence of the record, and nothing from elsewhere."""

from __future__ import annotations

import re

import pytest

from eval.records import DataFacts
from eval.responses import CorruptionFacts, Curve, LeftOut, MetricResponse, Point, Sensitivity
from reports.sensitivity_page import lead, render


def point(i, change, half=1.0):
    return Point(strength=i, label=f"{i} %", value=10 + change, change=change, low=change - half, high=change + half)


@pytest.fixture
def record():
    freeze = Curve(corruption="freeze", points=[point(10, 3.0), point(90, 20.0)])
    blur = Curve(corruption="blur", points=[point(1, 0.2), point(9, 40.0)])
    undefined = Curve(corruption="freeze", points=[Point(strength=10, label="10 %", value=None, note="refused <here>")])
    shared = {"decimals": 1, "clean": 10.0, "n_fake": 96, "fingerprint": "f"}
    return Sensitivity(
        title="Sensitivity on <shapes>",
        protocol_name="sensitivity-shapes",
        protocol={"title": "T", "clip": {"frames": 16, "size": [64, 48]}},
        is_embedded=True,
        fingerprint="12345678",
        seed=3,
        data=DataFacts(name="shapes", list_sha256="abc", n_items=4, n_reference=5),
        n_clips=96,
        n_reference=320,
        n_sources=80,
        corruptions=[
            CorruptionFacts(name="freeze", title="Freeze", summary="stands", breaks="time", labels=["10 %", "90 %"]),
            CorruptionFacts(name="blur", title="Blur", summary="blurred", breaks="picture", labels=["1 %", "9 %"]),
        ],
        metrics=[
            MetricResponse(id="fvd/x", metric="fvd", label="FVD", direction="lower", curves=[freeze, blur], **shared),
            MetricResponse(id="fid/x", metric="fid", label="FID", direction="lower", curves=[undefined], **shared),
        ],
        left_out=[LeftOut(id="kvd/x", reason="weights are not here")],
        notes=["Drawn clips."],
    )


def test_everything_is_on_it(record):
    page = render(record, "run-1")
    text = " ".join(re.sub(r"<[^>]*>", " ", page.split("<main")[1]).split())
    for words in (
        "Sensitivity on &lt;shapes&gt;",
        "At full strength every corruption of time is punished by FVD; none is by FID.",
        "punishes freeze from 10 %",
        "punished from 9 %, 100 %",
        "punished from 10 %, 50 %",
        "+20.0",
        "+19.0 to +21.0",
        "refused &lt;here&gt;",
        "Drawn clips.",
        "kvd/x weights are not here",
        "16 frames, 48 × 64",
        "cogeval sensitivity --protocol sensitivity-shapes --seed 3 --samples 96 --real-samples 320",
    ):
        assert words in text, words
    assert "Embedded data" in page


def test_no_line_ends_between_a_number_and_its_per_cent_sign(record):
    """Captions are narrow: a plain space there put the sign on a line of its own."""
    body = render(record, "run-1").split("<main")[1]
    shown = [text for text in re.findall(r">([^<]*)<", body.replace("&nbsp;", "\N{NO-BREAK SPACE}")) if "%" in text]
    assert any("punished from 9\N{NO-BREAK SPACE}%, 100\N{NO-BREAK SPACE}%" in text for text in shown)
    assert not [text for text in shown if re.search(r"\d %", text)]


def test_figures_say_what_they_show(record):
    page = render(record, "run-1")
    labels = re.findall(r'role="img" aria-label="([^"]*)"', page)
    assert "FVD under freeze: punished from 10 %. Change of the value at 10 %: +3.0, 90 %: +20.0." in labels
    assert len(labels) == 3


def test_marks_lie_where_the_numbers_are(record):
    page = render(record, "run-1")
    discs = [float(y) for y in re.findall(r'<circle class="disc" cx="[\d.]+%" cy="([\d.]+)"', page)]
    # One scale a metric: 41 levels, the end of the longest interval, are 30 pixels above the middle of 38.
    assert discs == pytest.approx([38 - 30 * change / 41 for change in (3, 20, 0.2, 40)], abs=0.06)


def test_nothing_is_loaded_and_the_bytes_repeat(record):
    page = render(record, "run-1")
    assert page == render(record, "run-1")
    assert not re.findall(r'(?:src|href)="(?!#|data:,|sensitivity\.json)[^"]*"', page)
    assert "default-src &#39;none&#39;" in page


def test_the_first_sentence_names_what_it_is_about(record):
    """Also where no metric sees everything: then it used to begin with "some are by"."""
    blind = record.model_copy(update={"metrics": record.metrics[1:]})
    assert lead(blind) == "At full strength no corruption of time is punished by FID."
    assert lead(record.model_copy(update={"metrics": []})) == "No metric has a value."
