"""What a place on the screen does to favourites and pairs, on the result page."""

from __future__ import annotations

from dataclasses import replace

from eval.notation import number
from human_eval.analysis.findings import Findings
from human_eval.analysis.places import ChoicePlaces, PlaceShare
from human_eval.analysis.resampling import Interval
from human_eval.result_tables import Column, Group, Row, Scale, Section, excludes_zero, listed, several, words_of

PERCENT = Scale(0.0, 100.0, 25.0)


def choice_places_section(found: Findings, favourite: str, pair: str) -> Section | None:
    """Shares of the places against chance; `favourite` and `pair` are the names of the study's questions."""
    asked = [(_title(favourite, one.question), one.position, False) for one in found.favourites.values()]
    asked += [(_title(pair, one.question), one.position, True) for one in found.pairs.values()]
    known = [(title, one, is_pair) for title, one, is_pair in asked if one is not None]
    if not known:
        return None
    groups, told, unknown = [], [], []
    for title, one, is_pair in known:
        groups.append(Group(title, [_row(place, is_pair) for place in one.places]))
        told += [
            f"{_place(place.place, is_pair)} ({title}, {number(100 * place.share, 1)} %)"
            for place in one.places
            if excludes_zero(place.effect_interval)
        ]
        unknown += [title] * any(place.effect is None for place in one.places)
    sentence = "No effect of the place on a choice was found: every interval of the effect holds zero."
    if told:
        sentence = f"{listed(told)}: chosen away from chance."
    elif unknown:
        sentence = f"Whether the place has an effect cannot be said ({listed(unknown)})."
    return Section(
        "choice-position",
        "Effect of the place on choices",
        sentence[0].upper() + sentence[1:],
        "Share of the choices that fell on each place; the upright is chance. "
        f"{_left_out([one for _, one, _ in known])} The effect is the share less chance, with the share of the models "
        "that stood there taken off, so that a good model which stood at one place more often is none.",
        "Place",
        (
            Column("Share", kind="right"),
            Column("95 % interval", "two-way, %", "right"),
            Column("0 to 100 %", "upright: chance", "figure"),
            Column("Chance", kind="right"),
            Column("Effect", "points of %", "right"),
            Column("95 % interval", "of the effect", "right"),
            Column("Choices", kind="right"),
        ),
        groups,
    )


def _row(one: PlaceShare, is_pair: bool) -> Row:
    name = _place(one.place, is_pair)
    value, inside = f"{number(100 * one.share, 1)} %", _hundredfold(one.interval)
    words, chance = words_of(inside, 1), f"{number(100 * one.chance, 1)} %"
    count = f"{one.count:,} of {one.n:,}"
    mark = PERCENT.mark(100 * one.share, inside, f"{name}: {value}, 95 % interval {words}, chance {chance}, {count}")
    cells = (
        value,
        words,
        replace(mark, zero=PERCENT.at(100 * one.chance)),
        chance,
        "not known" if one.effect is None else number(100 * one.effect, 1, sign=True),
        words_of(_hundredfold(one.effect_interval), 1, sign=True),
        count,
    )
    return Row(name, cells, excludes_zero(one.effect_interval))


def _place(place: int, is_pair: bool) -> str:
    return ("First video", "Second video")[place - 1] if is_pair else f"Place {place}"


def _title(name: str, question: str) -> str:
    return f"{name}, {question}" if question else name


def _left_out(found: list[ChoicePlaces]) -> str:
    n = sum(one.left_out for one in found)
    return f"{several(n, 'vote')} that chose no video (ties, cannot say) {'is' if n == 1 else 'are'} left out."


def _hundredfold(interval: Interval) -> Interval:
    if interval.low is None or interval.high is None:
        return interval
    return replace(interval, low=100 * interval.low, high=100 * interval.high)
