"""Draw docs/images/terminal.svg, the README's picture, from what a command really prints.

python docs/make_picture.py            # the embedded `cogeval ucf101`, about a minute
python docs/make_picture.py list       # any other command
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

WIDTH = 118
INK, PAPER, GREY = (231, 234, 236), (18, 21, 24), (181, 190, 197)
RED, GREEN, YELLOW, CYAN = (242, 145, 127), (111, 199, 155), (227, 173, 87), (108, 195, 220)
THEME = TerminalTheme(PAPER, INK, [PAPER, RED, GREEN, YELLOW, CYAN, GREY, CYAN, INK])
FONTS = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"


def draw(arguments: list[str]) -> str:
    """The command's standard output as one SVG that asks for nothing from outside."""
    colours = {"FORCE_COLOR": "1", "COLORTERM": "truecolor", "TERM": "xterm-256color", "COLUMNS": str(WIDTH)}
    with tempfile.TemporaryDirectory() as folder:
        answer = subprocess.run(
            [sys.executable, "-m", "cogeval", *arguments],
            cwd=folder,
            env=os.environ | colours,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        ).stdout
    with Path(os.devnull).open("w") as nowhere:
        console = Console(record=True, width=WIDTH, file=nowhere, force_terminal=True, color_system="truecolor")
        console.print(Text.assemble(("$ ", "dim"), (" ".join(["cogeval", *arguments]), "bold")), "")
        console.print(Text.from_ansi(answer))
        svg = console.export_svg(title="", theme=THEME, unique_id="cogeval")
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    return svg.replace("Fira Code, monospace", FONTS)


if __name__ == "__main__":
    picture = Path(__file__).parent / "images" / "terminal.svg"
    picture.write_text(draw(sys.argv[1:] or ["ucf101"]), encoding="utf-8")
    sys.stdout.write(f"{picture}\n")
