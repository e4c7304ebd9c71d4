"""`study.yaml`: read back as written, wrong in one line with its place, hashed by meaning."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from cogvideo.errors import UserError
from human_eval.study.design import Item, Model, Study, breaks_data, canonical, changes, consent_hash, design_hash, said
from human_eval.study.presets import NAMES, from_preset, items_wanted
from human_eval.study.reading import parse_study, read_study, write_study
from human_eval.wording import words


def study(preset: str = "cogvideo-2022", models: int = 3, items: int = 6, **settings: object) -> Study:
    return from_preset(
        preset,
        "kites",
        [Model(id=f"m{k}") for k in range(models)],
        [Item(id=f"i{k}", prompt=f"prompt {k}") for k in range(items)],
        **settings,
    )


@pytest.mark.parametrize("preset", NAMES)
def test_a_written_study_reads_back_the_same(preset: str, tmp_path: Path) -> None:
    made = study(preset)
    write_study(tmp_path / "study.yaml", made)
    again = read_study(tmp_path)
    assert again == made
    assert design_hash(again) == design_hash(made)
    assert [file.name for file in tmp_path.iterdir()] == ["study.yaml"]


def test_the_paper_preset_is_the_papers() -> None:
    paper = study("cogvideo-2022", items=30)
    assert (paper.quota.raters, paper.trials, items_wanted("cogvideo-2022")) == (90, 30, 30)
    assert [(a.id, a.scale.low, a.scale.high) for a in paper.aspects] == [
        ("texture", 1, 5),
        ("motion", 1, 5),
        ("relevance", 1, 5),
        ("overall", 1, 10),
    ]
    assert paper.favourite is not None
    assert len(paper.fields) == 3 * 4 + 1


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("low: 1", "low: 7"), r"line \d+: aspects\[0\]\.scale: a scale has 2 to 11 points, 7 to 5 has 0"),
        (("layout: joint", "layout: jiont"), r"line \d+: layout: Input should be 'joint', 'pair' or 'single'"),
        (("retention_days", "retention_dys"), r"line \d+: limits\.retention_dys: .* did you mean retention_days\?"),
        (("- id: m1", "- id: m0"), r"line \d+: models: 'm0' is there twice"),
        (("- id: m1", "- id: ../m1"), r"line \d+: models\[1\]\.id: String should match pattern"),
        (("raters: 90", "raters: many"), r"line \d+: quota\.raters: Input should be a valid integer"),
        (("raters: 90", "raters: [90"), r"line \d+: not readable as YAML"),
        (("name: kites", "title_of: x"), r"line \d+: (title_of: there is no such setting|name: is missing)"),
        (("trials: 0", "trials: 7"), r"line \d+: quota\.trials: 7 trials a rater, the items give 6 at most"),
        (("per_page: 0", "per_page: 9"), r"line \d+: per_page: "),
        (("layout: joint", "layout: pair"), r"line \d+: layout pair needs a pair section"),
    ],
)
def test_a_broken_file_is_one_line_with_its_place(change: tuple[str, str], expected: str, tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    write_study(path, study())
    text = path.read_text()
    assert change[0] in text
    path.write_text(text.replace(*change, 1))
    with pytest.raises(UserError, match=expected) as caught:
        read_study(tmp_path)
    message = str(caught.value)
    assert "\n" not in message
    line = re.search(r"line (\d+)", message)
    assert line is not None
    assert 1 <= int(line[1]) <= text.count("\n") + 1


def test_the_line_is_the_line_of_the_mistake(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    write_study(path, study())
    lines = path.read_text().splitlines()
    at = next(number for number, line in enumerate(lines, 1) if "live_minutes" in line)
    lines[at - 1] = lines[at - 1].replace("45", "-3")
    with pytest.raises(UserError, match=f"line {at}: limits.live_minutes"):
        parse_study("\n".join(lines))


@pytest.mark.parametrize("text", ["", "[]", "just words", "a: &a [*a]", "\x00", "? {x: y}\n: 1", "{" * 2000])
def test_what_is_no_study_at_all_is_one_line(text: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_study(text)
    assert "\n" not in str(caught.value)


def test_a_newer_schema_is_refused() -> None:
    with pytest.raises(UserError, match="upgrade cogeval"):
        parse_study("schema_version: 99\nname: x")


def test_the_hash_is_of_meaning_and_not_of_layout() -> None:
    made = study()
    text = yaml.safe_dump(made.model_dump(mode="json"), sort_keys=True, allow_unicode=False)
    assert design_hash(parse_study(text)) == design_hash(made)
    assert design_hash(made) != design_hash(study(seed=1))
    assert canonical(made).count("\n") == 0


def test_changes_are_named_and_those_that_break_data_are_known() -> None:
    old, new = study(), study(seed=1, checks={"flag_from": 1})
    found = changes(old.model_dump(mode="json"), new.model_dump(mode="json"))
    assert found == [("checks.flag_from", "2", "1"), ("seed", "0", "1")]
    assert [breaks_data(place) for place, _, _ in found] == [False, True]
    assert breaks_data("aspects[0].scale.high")
    assert not breaks_data("aspects[0].hint.en")
    assert breaks_data("models")
    assert breaks_data("items[3].role")
    assert not breaks_data("quota.raters")


def test_consent_is_hashed_by_its_words_in_a_language() -> None:
    made = study()
    other = study(consent={"pay": {"en": "4.00", "zh": "x"}})
    assert consent_hash(made, "en") != consent_hash(made, "zh")
    assert consent_hash(made, "en") != consent_hash(other, "en")
    assert consent_hash(made, "en") == consent_hash(study(seed=9), "en")


def test_both_languages_have_the_same_words_and_blanks() -> None:
    en, zh = words("en"), words("zh")
    assert en.keys() == zh.keys()
    blank = re.compile(r"\{(\w+)\}")
    assert [name for name in en if sorted(blank.findall(en[name])) != sorted(blank.findall(zh[name]))] == []
    for preset in NAMES:
        made = study(preset)
        texts = [made.title, made.intro, *(a.name for a in made.aspects), *(a.hint for a in made.aspects)]
        assert all(set(text) == {"en", "zh"} for text in texts)
    assert said({"en": "a"}, "zh") == "a"
