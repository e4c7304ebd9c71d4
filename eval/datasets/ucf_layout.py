"""UCF-101's layout on disk, with any list of classes: `Class/v_Class_gNN_cMM.avi` and official split lists.

The class always comes from the folder or the list line. Only the flat form (`unrar e`) has no other source than the
file name, and there names are compared without regard to case.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from cogvideo.errors import MissingPrerequisite, UserError
from eval.datasets.items import DataSet, Item
from eval.datasets.text_lines import read_lines
from eval.datasets.video_files import FoundVideo, folder_listing, require_folder, scan_videos, stem_of, why_broken
from eval.registry import did_you_mean

LISTS_FOLDER = "ucfTrainTestlist"
_LIST_LINE = re.compile(r"(?P<folder>[^/]+)/(?P<file>[^/]+\.[A-Za-z0-9]+?)(?:\s+(?P<label>\S+))?")
_CLASS_LINE = re.compile(r"(?P<number>\d+)\s+(?P<name>\S.*)")
_STEM = re.compile(r"v_(?P<name>.+)_g(?P<group>\d+)_c\d+", re.IGNORECASE)


class ListLine(NamedTuple):
    """One clip as a split list names it. `label` is the official class name, `id` is `Class/file.avi`."""

    id: str
    label: str
    group: str
    split: str
    where: str


def read_layout(
    root: Path,
    *,
    name: str = "ucf101",
    split: int = 1,
    classes: Sequence[str] | None = None,
    lists: Path | None = None,
    captions: Mapping[str, Mapping[str, str]] | None = None,
    language: str = "en",
) -> DataSet:
    """A folder in UCF-101's layout under one of its official splits.

    `root` holds the class folders or the flat files, or is the folder above them. `lists` (a `ucfTrainTestlist`)
    is searched inside and beside `root` unless given. `classes` are the classes in official order; None takes
    `classInd.txt`'s. `captions` is {language: {class: phrase}}; an item's caption is in `language`, else its class.

    Items come in the order of the train list, then of the test list; groups are `Class/gNN`. Raises UserError for a
    folder of another kind and for a wrong line of a list; MissingPrerequisite where there are no lists.
    """
    require_folder(root)
    folder = _find_lists(root, lists, name)
    known = _read_classes(folder, classes)
    listed = _read_split(folder, split, known)
    videos, form, found = _find_videos(root, known, name)
    return _match(name, root, videos, form, found, listed, known, captions or {}, language, split)


def lists_near(root: Path) -> Path | None:
    """The folder of split lists inside or beside `root`, if there is one."""
    inside = (root / LISTS_FOLDER, *sorted(root.glob(f"*/{LISTS_FOLDER}")))
    beside = (root.parent / LISTS_FOLDER, *sorted(root.parent.glob(f"UCF101TrainTestSplits*/{LISTS_FOLDER}")))
    found = next((folder for folder in (*inside, *beside) if folder.is_dir()), None)
    return root if found is None and (root / "classInd.txt").is_file() else found


def class_of_stem(stem: str) -> str:
    """The class in a name such as v_YoYo_g01_c02, in lower case; "" for other names."""
    match = _STEM.fullmatch(stem)
    return match["name"].casefold() if match else ""


def _find_lists(root: Path, lists: Path | None, name: str) -> Path:
    if lists is not None:
        require_folder(lists)
        inner = lists / LISTS_FOLDER
        return inner if inner.is_dir() else lists
    found = lists_near(root)
    if found is not None:
        return found
    if not any(_STEM.fullmatch(video.stem) for video in scan_videos(root, depth=2, with_bytes=False)):
        raise _not_this_layout(root, name)
    raise MissingPrerequisite(
        f"{name} needs its split lists: expected {LISTS_FOLDER}/ (classInd.txt, trainlist01.txt, ...) in {root} or "
        "beside it, found none; unpack UCF101TrainTestSplits-RecognitionTask.zip there, or give --lists FOLDER"
    )


def _read_classes(folder: Path, expected: Sequence[str] | None) -> tuple[str, ...]:
    path = folder / "classInd.txt"
    if not path.is_file():
        if expected is None:
            raise UserError(f"expected the list of classes at {path}, found no such file")
        return tuple(expected)
    names: list[str] = []
    for number, line in enumerate(read_lines(path), 1):
        if not line:
            continue
        match = _CLASS_LINE.fullmatch(line)
        if match is None:
            raise UserError(f"{path} line {number}: expected 'NUMBER CLASS' such as '1 ApplyEyeMakeup', got {line!r}")
        if int(match["number"]) != len(names) + 1:
            raise UserError(f"{path} line {number}: expected class number {len(names) + 1}, got {match['number']}")
        class_name = match["name"].strip()
        if expected is not None and class_name not in expected:
            hint = did_you_mean(class_name, list(expected)) if len(expected) < 500 else ""
            raise UserError(f"{path} line {number}: unknown class {class_name!r}{_short(hint)}")
        if class_name in names:
            raise UserError(f"{path} line {number}: class {class_name!r} is listed twice")
        names.append(class_name)
    if not names:
        raise UserError(f"{path} names no class")
    if expected is not None and tuple(names) != tuple(expected):
        raise UserError(_order_differs(path, names, expected))
    return tuple(names)


def _order_differs(path: Path, names: Sequence[str], expected: Sequence[str]) -> str:
    if len(names) != len(expected):
        return f"{path}: expected {len(expected)} classes, got {len(names)}"
    index = next(i for i, (ours, theirs) in enumerate(zip(names, expected, strict=True)) if ours != theirs)
    return f"{path}: expected class {index + 1} to be {expected[index]!r}, got {names[index]!r} (another order)"


def _short(hint: str) -> str:
    """A hint that would list a hundred classes says nothing; near names do."""
    return hint if hint.startswith("; did you mean") else ""


def _read_split(folder: Path, split: int, classes: Sequence[str]) -> list[ListLine]:
    numbers = {name: index for index, name in enumerate(classes, 1)}
    listed: list[ListLine] = []
    seen: dict[str, ListLine] = {}
    groups: dict[str, str] = {}
    for kind in ("train", "test"):
        path = folder / f"{kind}list{split:02d}.txt"
        if not path.is_file():
            have = sorted(p.name for p in folder.glob("trainlist*.txt"))
            raise UserError(f"expected the list of split {split} at {path}, found {', '.join(have) or 'no list'} there")
        for number, text in enumerate(read_lines(path), 1):
            if not text:
                continue
            line = _parse(text, f"{path} line {number}", kind, numbers)
            if line.id in seen:
                raise UserError(f"{line.where}: {line.id} was already listed in {seen[line.id].where}")
            if groups.setdefault(line.group, kind) != kind:
                raise UserError(f"{line.where}: group {line.group} is on both sides of the split (cut from one video)")
            seen[line.id] = line
            listed.append(line)
    if not listed:
        raise UserError(f"the lists of split {split} in {folder} name no clip")
    return listed


def _parse(text: str, where: str, split: str, numbers: Mapping[str, int]) -> ListLine:
    match = _LIST_LINE.fullmatch(text.replace("\\", "/"))
    form = "Class/file.avi LABEL" if split == "train" else "Class/file.avi"
    if match is None or (split == "train" and match["label"] is None):
        raise UserError(f"{where}: expected '{form}', got {text!r}")
    label = match["folder"]
    if label not in numbers:
        raise UserError(f"{where}: unknown class {label!r}{_short(did_you_mean(label, list(numbers)))}")
    if match["label"] is not None and match["label"] != str(numbers[label]):
        raise UserError(
            f"{where}: expected label {numbers[label]} for class {label} (labels count from 1), got {match['label']!r}"
        )
    clip_id = f"{label}/{match['file']}"
    cut = _STEM.fullmatch(stem_of(clip_id))
    group = f"{label}/g{int(cut['group']):02d}" if cut else clip_id
    return ListLine(clip_id, label, group, split, where)


def _find_videos(root: Path, classes: Sequence[str], name: str) -> tuple[Path, str, list[FoundVideo]]:
    """The folder that holds the videos (root or one of its folders), its form, and what is in it."""
    known = {c.casefold() for c in classes}
    best: tuple[int, Path, str, list[FoundVideo]] | None = None
    for place in (root, *sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))):
        if place.name.casefold() in known:
            continue
        found = scan_videos(place, depth=1)
        in_folders = sum(video.folder.casefold() in known for video in found if video.folder)
        flat = sum(not video.folder and class_of_stem(video.stem) in known for video in found)
        n_ours = max(in_folders, flat)
        if n_ours and (best is None or n_ours > best[0]):
            best = (n_ours, place, "folders" if in_folders >= flat else "flat", found)
    if best is None:
        raise _not_this_layout(root, name)
    return best[1:]


def _not_this_layout(root: Path, name: str) -> UserError:
    return UserError(
        f"{root} is not {name}: expected class folders with v_<Class>_gNN_cMM.avi files (or these files side by side); "
        f"saw {folder_listing(root)}"
    )


def _match(
    name: str,
    root: Path,
    videos: Path,
    form: str,
    found: Iterable[FoundVideo],
    listed: Sequence[ListLine],
    classes: tuple[str, ...],
    captions: Mapping[str, Mapping[str, str]],
    language: str,
    split: int,
) -> DataSet:
    by_key: dict[tuple[str, str], list[FoundVideo]] = {}
    extra: list[str] = []
    by_name = {c.casefold(): c for c in classes}
    for video in found:
        owner = video.folder if form == "folders" else class_of_stem(video.stem)
        label = by_name.get(owner.casefold(), "") if (form == "folders") == bool(video.folder) else ""
        if label:
            by_key.setdefault((label, video.stem.casefold()), []).append(video)
        else:
            extra.append(video.relative)

    phrases = captions.get(language, {})
    items: list[Item] = []
    missing: list[str] = []
    broken: list[tuple[str, str]] = []
    other_suffix = 0
    for line in listed:
        here = by_key.pop((line.label, stem_of(line.id).casefold()), None)
        if here is None:
            missing.append(line.id)
            continue
        # The released container first; a converted copy counts only where the original is not there.
        suffix = line.id[line.id.rindex(".") :].lower()
        if len(here) > 1:
            here.sort(key=lambda video: (not video.relative.lower().endswith(suffix), video.relative))
            extra += [video.relative for video in here[1:]]
        reason = why_broken(here[0].n_bytes)
        if reason:
            broken.append((line.id, reason))
            continue
        other_suffix += not here[0].relative.lower().endswith(suffix)
        caption = phrases.get(line.label, line.label)
        items.append(Item(line.id, Path(here[0].path), line.label, caption, line.group, line.split))
    extra += [video.relative for left in by_key.values() for video in left]

    notes = [f"split {split} of the official lists", f"{form} form in {videos.name}"]
    if other_suffix:
        notes.append(f"{other_suffix:,} files were converted from the released container: scores change with the codec")
    return DataSet(
        name=name,
        root=root,
        items=tuple(items),
        classes=classes,
        captions={tongue: dict(of) for tongue, of in captions.items()},
        missing=tuple(missing),
        extra=tuple(sorted(extra)),
        broken=tuple(broken),
        notes=tuple(notes),
        official_counts={kind: sum(line.split == kind for line in listed) for kind in ("train", "test")},
    )
