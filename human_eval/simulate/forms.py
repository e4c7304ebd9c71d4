"""The forms and videos of a page, read from its HTML as a browser reads them."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser


@dataclass
class Form:
    """A form's address, its hidden fields, and the values that each group of radios offers."""

    action: str
    values: dict[str, str] = field(default_factory=dict)
    radios: dict[str, list[str]] = field(default_factory=dict)
    boxes: list[str] = field(default_factory=list)


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self.videos: list[str] = []
        self.is_inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.forms.append(Form(given.get("action", "")))
            self.is_inside = True
        elif tag == "video":
            self.videos.append(given.get("src", ""))
        elif tag == "input" and self.is_inside and given.get("name"):
            form, name, value = self.forms[-1], given["name"], given.get("value", "")
            kind = given.get("type", "text")
            if kind == "radio":
                form.radios.setdefault(name, []).append(value)
                if "checked" in given:
                    form.values[name] = value
            elif kind == "checkbox":
                form.boxes.append(name)
            else:
                form.values[name] = value

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self.is_inside = False


def read_page(html: str) -> tuple[list[Form], list[str]]:
    """The forms and the addresses of the videos, in the order of the page."""
    reader = _Reader()
    reader.feed(html)
    return reader.forms, reader.videos
