"""The text after --generator, with paths that hold ':' and '?'."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cogvideo.errors import UserError
from eval.generators.contract import GeneratorContext
from eval.generators.spec import Spec, make_generator, parse_spec


@pytest.mark.parametrize(
    ("text", "kind", "argument", "options"),
    [
        ("real", "real", "", {}),
        ("  real ", "real", "", {}),
        ("folder:out/videos", "folder", "out/videos", {}),
        ("folder:out?stride=2&start=4", "folder", "out", {"stride": "2", "start": "4"}),
        ("folder:C:\\runs\\videos?stride=2", "folder", "C:\\runs\\videos", {"stride": "2"}),
        ("folder:C:/runs", "folder", "C:/runs", {}),
        ("folder:\\\\server\\share\\x", "folder", "\\\\server\\share\\x", {}),
        ("folder:what?/videos", "folder", "what?/videos", {}),
        ("folder:why?\\videos", "folder", "why?\\videos", {}),
        ("folder:really?yes?", "folder", "really?yes", {}),
        ("folder:really??", "folder", "really?", {}),
        ("diffusers:org/name?steps=50&prompt=a%26b%3Dc", "diffusers", "org/name", {"steps": "50", "prompt": "a&b=c"}),
        ("cogvideo?guidance=", "cogvideo", "", {"guidance": ""}),
        ("folder:视频?match=class", "folder", "视频", {"match": "class"}),
    ],
)
def test_parts(text: str, kind: str, argument: str, options: dict[str, str]) -> None:
    assert parse_spec(text) == Spec(kind, argument, options)


@given(
    kind=st.from_regex(r"[a-z][a-z0-9-]{1,8}", fullmatch=True),
    argument=st.text(st.characters(exclude_categories=["C", "Z"]), max_size=20),
    options=st.dictionaries(
        st.from_regex(r"[a-z][a-z0-9_]{0,5}", fullmatch=True),
        st.text(st.characters(exclude_categories=["C", "Z"]), max_size=8),
        max_size=3,
    ),
)
def test_what_is_written_is_read_back(kind: str, argument: str, options: dict[str, str]) -> None:
    spec = Spec(kind, argument, options)
    if len(kind) > 1:
        assert parse_spec(str(spec)) == spec


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "expected kind[:argument][?key=value]"),
        (":videos", "expected kind[:argument]"),
        ("folder:out?stride", "expected key=value after the '?', got 'stride'"),
        ("folder:out?stride=1&", "expected key=value after the '?', got ''"),
        ("folder:out?stride=1&stride=2", "option 'stride' stands there twice"),
        ("C:\\videos", "this is a path, not a kind; for the videos in it write 'folder:C:\\videos'"),
    ],
)
def test_what_is_no_spec(text: str, expected: str) -> None:
    with pytest.raises(UserError) as error:
        parse_spec(text)
    assert expected in str(error.value)
    assert error.value.exit_code == 2


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("frozn", "unknown generator 'frozn'; did you mean frozen?"),
        ("Real", "unknown generator 'Real'; did you mean real?"),
        ("noise:x", "generator noise takes no argument, got 'x'"),
        ("noise?seed=3", "generator noise has no option 'seed'"),
        ("folder", "generator folder needs the folder of the videos: folder:DIR"),
        ("folder:nowhere-at-all", "no such folder: nowhere-at-all"),
        ("folder:nowhere?strid=2", "generator folder has no option 'strid'; did you mean stride"),
        ("folder:nowhere?match=klass", "unknown match 'klass'; did you mean class"),
    ],
)
def test_what_cannot_be_made(text: str, expected: str) -> None:
    with pytest.raises(UserError) as error:
        make_generator(text, GeneratorContext())
    assert expected in str(error.value)


def test_a_bare_folder_is_told_its_spec(tmp_path, monkeypatch) -> None:
    (tmp_path / "videos").mkdir()
    (tmp_path / "my.videos").mkdir()
    monkeypatch.chdir(tmp_path)
    for name in ("videos", "my.videos", str(tmp_path / "videos")):
        with pytest.raises(UserError) as error:
            make_generator(name, GeneratorContext())
        assert f"for the videos in it write 'folder:{name}'" in str(error.value)
