"""The forms and videos of a page, read from its HTML. Only for pages of ours: there no attribute holds a bare `>`."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html import unescape

TAG = re.compile(r"<(form|/form|video|input)\b([^>]*)>")
ATTRIBUTE = re.compile(r'([a-z-]+)(?:="([^"]*)")?')


@dataclass
class Form:
    """A form's address, its filled fields, the values that each group of radios offers, and its tick boxes."""

    action: str
    values: dict[str, str] = field(default_factory=dict)
    radios: dict[str, list[str]] = field(default_factory=dict)
    boxes: list[str] = field(default_factory=list)


def read_page(html: str) -> tuple[list[Form], list[str]]:
    """The forms and the addresses of the videos, in the order of the page."""
    forms: list[Form] = []
    videos: list[str] = []
    is_inside = False
    for tag, attributes in TAG.findall(html):
        if tag == "/form":
            is_inside = False
            continue
        given = {name: unescape(value) for name, value in ATTRIBUTE.findall(attributes)}
        if tag == "form":
            forms.append(Form(given.get("action", "")))
            is_inside = True
        elif tag == "video":
            videos.append(given.get("src", ""))
        elif is_inside and "name" in given:
            _add(forms[-1], given)
    return forms, videos


def _add(form: Form, given: dict[str, str]) -> None:
    name, value, kind = given["name"], given.get("value", ""), given.get("type", "text")
    if kind == "checkbox":
        form.boxes.append(name)
    elif kind == "radio":
        form.radios.setdefault(name, []).append(value)
        if "checked" in given:
            form.values[name] = value
    else:
        form.values[name] = value
