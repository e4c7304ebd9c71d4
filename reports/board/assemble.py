"""Runs and studies into a board, and rows out of it: every change is a publish with its reasons, or nothing changes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cogvideo.errors import UserError
from eval.records import Result
from reports.board.agreement import agreements
from reports.board.cards import CardFile
from reports.board.changes import publish
from reports.board.document import Board, ModelEntry, PromptEntry, RunEntry, TableEntry, Tombstone
from reports.board.names import prompt_page, short, slug
from reports.board.people import read_study
from reports.board.places import public_key, public_spec, without_places
from reports.board.runs import FoundRun, Vouched, in_columns, influence_in_order, read_run
from reports.board.stored import check_board
from reports.board.tables import derive_tables, protocol_of, table_id

PROMPTS_SHOWN = 30


def add_runs(board: Board, given: Sequence[Vouched], cards: CardFile | None = None) -> list[tuple[str, Path]]:
    """Read runs into the board, in place; (id, folder) of each that is on it now. A run that is there stays as it is.

    Raises UserError for a folder that cannot be read, and for one that was removed before.
    """
    if cards is not None:
        _use_cards(board, cards)
    found = [(one, read_run(one.path)) for one in given]
    titles: dict[str, set[str]] = {}
    for _, run in found:
        titles.setdefault(_title(run), set()).add(run.generator.spec)
    on_board = {run.id for run in board.runs}
    places = {(p.benchmark, p.sample, p.prompt): place for place, p in enumerate(board.prompts)}
    ids = []
    for vouched, run in found:
        _refuse_removed(board, run)
        model = _model_of(board, run, is_shared=len(titles[_title(run)]) > 1)
        name = f"{model.id}-{run.key}"
        ids.append((name, run.path))
        if name in on_board:
            continue
        on_board.add(name)
        by = vouched.by or (cards.measured_by if cards and vouched.label == "measured here" else "")
        board.runs.append(_entry(board, name, model.id, run, vouched, by, places))
        _need_table(board, run)
    return ids


def _title(run: FoundRun) -> str:
    return run.generator.title or public_spec(run.generator.spec)


def _entry(
    board: Board,
    name: str,
    model: str,
    run: FoundRun,
    vouched: Vouched,
    by: str,
    places: dict[tuple[str, str, str], int],
) -> RunEntry:
    captions = {one.id: one.caption for one in run.manifest.planned} if run.manifest else {}
    here: dict[str, int] = {}
    for line in run.samples.values():
        key = (run.benchmark, line.id, line.prompt)
        if key not in places:
            places[key] = len(board.prompts)
            caption = captions.get(line.id, "")
            board.prompts.append(
                PromptEntry(
                    benchmark=run.benchmark,
                    sample=line.id,
                    prompt=line.prompt,
                    caption="" if caption == line.prompt else caption,
                    label=line.label,
                )
            )
        here[line.id] = places[key]
    samples = in_columns(run, here)
    samples.rejected = without_places(samples.rejected)
    return RunEntry(
        id=name,
        model=model,
        table=table_id(run.benchmark, run.protocol_name, run.fingerprint),
        folder=run.path.resolve().name,
        label=vouched.label,
        by=by,
        date=run.date,
        state=run.state,
        planned=run.planned,
        result=_published(run.result) if run.result else None,
        protocol=without_places(run.manifest.protocol) if run.manifest else None,
        samples=samples,
        influence=influence_in_order(run, samples.ids),
        inputs=run.inputs,
        notes=without_places(run.notes),
    )


def _published(result: Result) -> Result:
    """The result without the places of the machine that it was measured on."""
    told = without_places(result.model_dump())
    told["generator"]["spec"] = public_spec(result.generator.spec)
    return Result.model_validate(told)


def _need_table(board: Board, run: FoundRun) -> None:
    name = table_id(run.benchmark, run.protocol_name, run.fingerprint)
    if any(table.id == name for table in board.tables):
        return
    protocol = run.protocol
    board.tables.append(
        TableEntry(
            id=name,
            benchmark=run.benchmark,
            benchmark_title=(run.result.benchmark_title if run.result else "") or run.benchmark,
            protocol=run.protocol_name,
            fingerprint=run.fingerprint,
            is_embedded=bool(protocol and protocol.embedded),
        )
    )


def _use_cards(board: Board, cards: CardFile) -> None:
    for field in ("title", "about", "address", "data_licence"):
        if value := getattr(cards, field):
            setattr(board, field, value)
    for name, given in cards.models.items():
        keys = [public_key(spec) for spec in given.generators]
        model = next((one for one in board.models if one.id == name or _known(one.keys) & set(keys)), None)
        if model is None:
            model = ModelEntry(id=name, title=given.title or name)
            board.models.append(model)
        if model.id != name:
            _rename(board, model, name)
        model.title = given.title or model.title
        model.keys = list(dict.fromkeys([*model.keys, *keys]))
        model.aliases = list(dict.fromkeys([*model.aliases, *given.aliases]))
        model.card = given.card
        for alias in given.aliases:
            board.redirects[f"model/{alias}"] = f"model/{name}"


def _rename(board: Board, model: ModelEntry, name: str) -> None:
    """A model under another id; its old page, and those of its runs, lead to the new ones."""
    board.redirects[f"model/{model.id}"] = f"model/{name}"
    for run in board.runs:
        if run.model == model.id:
            run.model = name
    for old, new in board.redirects.items():
        if new == f"model/{model.id}":
            board.redirects[old] = f"model/{name}"
    model.aliases = list(dict.fromkeys([*model.aliases, model.id]))
    model.id = name


def _model_of(board: Board, run: FoundRun, *, is_shared: bool) -> ModelEntry:
    """The model that a run belongs to: by its specification, else a new one that is called as its title."""
    spec, key, title = run.generator.spec, public_key(run.generator.spec), _title(run)
    for model in board.models:
        if key in _known(model.keys):
            return model
    name = slug(title, "model")
    taken = {one.id for one in board.models} | {one.id for one in board.tombstones if one.kind == "model"}
    if is_shared or name in taken:
        name = f"{name}-{short(spec, 4)}"
    model = ModelEntry(id=name, title=title, keys=[key])
    board.models.append(model)
    return model


def _known(keys: Sequence[str]) -> set[str]:
    """Keys as they are written now: boards of before have whole paths in them."""
    return {public_key(key) for key in keys}


def _refuse_removed(board: Board, run: FoundRun) -> None:
    key = public_key(run.generator.spec)
    for stone in board.tombstones:
        if key in _known(stone.keys) or (stone.kind == "run" and stone.id.endswith(f"-{run.key}")):
            raise UserError(
                f"{run.path}: {stone.kind} {stone.id} was removed in publish {stone.publish} ({stone.reason});"
                " a removed row does not come back by itself: leave the run out"
            )


def add_studies(board: Board, folders: Sequence[Path]) -> None:
    """Read studies into the board, in place of those of the same id."""
    for folder in folders:
        study = read_study(folder)
        board.studies = [one for one in board.studies if one.id != study.id] + [study]


def derive(board: Board, *, prompts: int = PROMPTS_SHOWN) -> None:
    """Everything that follows from runs and studies, in place; then the document is checked."""
    derive_tables(board)
    used = {run.model for run in board.runs}
    carded = {model.id for model in board.models if model.card.model_dump(exclude_defaults=True)}
    board.models = sorted((m for m in board.models if m.id in used | carded), key=lambda m: m.id)
    runs = {run.id: run for run in board.runs}
    for table in board.tables:
        table.facts = _facts(table, [runs[name] for name in table.runs])
        table.is_embedded = table.is_embedded or any((p := protocol_of(runs[n])) and p.embedded for n in table.runs)
    for study in board.studies:
        folders = set(study.models.values())
        held = {t.id: sum(runs[name].folder in folders for name in t.runs) for t in board.tables}
        best = max(held, key=lambda name: held[name], default="")
        study.table = best if best and held[best] else ""
    choose_prompts(board, prompts)
    board.agreement = agreements(board)
    embedded = bool(board.tables) and all(table.is_embedded for table in board.tables)
    board.sample = "Embedded data" if embedded else ""
    check_board(board, "the board")


def _facts(table: TableEntry, runs: Sequence[RunEntry]) -> dict[str, str]:
    """What is the same for the whole table: n, frames and size, networks, split."""
    results = [run.result for run in runs if run.result]
    if not results:
        return {}
    first = results[0]
    numbers = {m.n_fake for r in results for m in r.metrics if m.id == table.metrics[0].id} if table.metrics else set()
    clip = first.clip
    size = clip.get("size")
    frames = f"{clip['frames']} frames" if clip.get("frames") else ""
    shape = f" at {size[1]} × {size[0]}" if isinstance(size, list | tuple) and len(size) == 2 else ""
    facts = {
        "Clips per model": f"{min(numbers):,}" if len(numbers) == 1 else ", ".join(f"{n:,}" for n in sorted(numbers))
    }
    facts["Frames, size"] = frames + shape
    if table.metrics and (metric := next((m for m in first.metrics if m.id == table.metrics[0].id), None)) is not None:
        weights = metric.weights
        facts["Network"] = f"{weights.name} {weights.sha256[:8]}" if weights else ""
    facts["Data"] = " ".join(word for word in (first.data.title or first.data.name, first.data.split) if word)
    return {name: value for name, value in facts.items() if value}


def choose_prompts(board: Board, wanted: int) -> None:
    """Which prompts get a page: those that people rated, then by SHA-256 of seed and id; chosen ones stay chosen.

    Only prompts that every current run of their table has.
    """
    runs = {run.id: run for run in board.runs}
    for table in board.tables:
        current = [runs[name] for name in table.runs if runs[name].samples.ids]
        if not current:
            continue
        shared = set(current[0].samples.prompts).intersection(*(run.samples.prompts for run in current[1:]))
        rated = {item for study in board.studies if study.table == table.id for item in study.items}
        taken = sum(bool(board.prompts[place].page) for place in shared)

        def lot(place: int, rated: set[str] = rated) -> tuple[bool, str]:
            prompt = board.prompts[place]
            return prompt.sample not in rated, short(f"{board.seed}/{prompt.sample}/{prompt.prompt}", 64)

        for place in sorted(shared, key=lot):
            prompt = board.prompts[place]
            if taken < wanted and not prompt.page:
                prompt.page = prompt_page(prompt.benchmark, prompt.sample, prompt.prompt)
                taken += 1


def remove(board: Board, name: str, reason: str) -> None:
    """Take a model or a run out and leave a tombstone. Raises UserError for an unknown id or no reason."""
    if not reason.strip():
        raise UserError("a removal needs a reason; give --reason TEXT, it stays on the history page")
    number = (board.publishes[-1].number if board.publishes else 0) + 1
    model = next((one for one in board.models if one.id == name), None)
    run = next((one for one in board.runs if one.id == name), None)
    if model is None and run is None:
        from difflib import get_close_matches

        known = [*(one.id for one in board.models), *(one.id for one in board.runs)]
        near = " or ".join(get_close_matches(name, known, n=2))
        raise UserError(
            f"no model or run {name!r} on this board; {f'did you mean {near}' if near else 'data.html lists their ids'}"
        )
    gone = [one for one in board.runs if one.id == name or one.model == name]
    if model is not None:
        stone = Tombstone(id=model.id, kind="model", title=model.title, keys=model.keys, reason=reason, publish=number)
        board.tombstones.append(stone)
        board.models = [one for one in board.models if one.id != name]
    for one in gone:
        title = f"{board.model(one.model).title if model is None else model.title}, {one.date or one.folder}"
        board.tombstones.append(Tombstone(id=one.id, kind="run", title=title, reason=reason, publish=number))
    board.runs = [one for one in board.runs if one not in gone]


def finish(
    board: Board, before: Board | None, *, prompts: int = PROMPTS_SHOWN, date: str = "", reason: str = ""
) -> bool:
    """Derive, compare with the board before, and write down a publish. Returns whether anything changed."""
    derive(board, prompts=prompts)
    return publish(board, before, date=date, reason=reason)
