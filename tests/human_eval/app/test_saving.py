"""Double clicks, replays, two windows, the back button, skipping ahead: one row each, nothing lost, nothing twice."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import select

from human_eval.simulate.client import Client
from human_eval.simulate.forms import read_page
from human_eval.store.schema import answer, check_result, enrolment, submission, trial


def test_a_whole_session_ends_with_a_code_and_every_answer_is_there(site) -> None:
    async def journey() -> str:
        client, reply = await site.enter("p-1")
        while reply.path != "/done":
            reply = await site.answer(client)
        again = await client.get("/")
        assert again.path == "/done"
        return again.text

    text = asyncio.run(journey())
    study = site.running.study
    assert site.running.code("complete") in text
    assert site.count(trial) == study.training + study.all_trials
    assert site.count(answer) == (study.training + study.all_trials) * len(study.fields)
    assert site.rows(select(enrolment.c.state)) == [("complete",)]
    assert site.count(check_result) == 2


@pytest.mark.parametrize("times", [1, 2, 10])
def test_the_same_post_again_is_one_row_and_the_same_answer(site, times: int) -> None:
    async def journey() -> list:
        client, _ = await site.enter()
        _, form = await site.open_page(client)
        values = site.fill(form)
        return await asyncio.gather(
            *(client.post(form.action, values, accept="application/json") for _ in range(times))
        )

    replies = asyncio.run(journey())
    assert {reply.status for reply in replies} == {200}
    assert len({reply.body for reply in replies}) == 1
    assert site.count(answer) == len(site.running.study.fields)
    assert site.count(submission) == 1


def test_two_windows_have_one_winner_and_the_other_sees_what_was_saved(site) -> None:
    async def journey() -> None:
        client, _ = await site.enter()
        _, one = await site.open_page(client)
        _, two = await site.open_page(client)
        assert one.values["page"] != two.values["page"]
        assert (await client.post(one.action, site.fill(one, 0, finish=False))).status == 200
        lost = await client.post(two.action, site.fill(two, 1, finish=False))
        assert lost.status == 409
        assert "answered elsewhere" in lost.text
        told = await client.post(two.action, site.fill(two, 1, finish=False), accept="application/json")
        assert told.status == 409
        assert told.json["answers"] == {name: values[0] for name, values in one.radios.items()}
        assert site.count(answer) == len(site.running.study.fields)
        # The other window may still win, but only by saying so.
        form = read_page(lost.text)[0][0]
        assert (await client.post(form.action, form.values)).status == 200
        assert site.count(answer) == 2 * len(site.running.study.fields)

    asyncio.run(journey())


def test_two_windows_that_agree_are_no_conflict(site) -> None:
    async def journey() -> None:
        client, _ = await site.enter()
        _, one = await site.open_page(client)
        _, two = await site.open_page(client)
        for form in (one, two):
            reply = await client.post(form.action, site.fill(form, finish=False), accept="application/json")
            assert reply.status == 200
        assert site.count(answer) == len(site.running.study.fields)

    asyncio.run(journey())


def test_the_back_button_stores_a_revision_and_keeps_the_place(site) -> None:
    async def journey() -> None:
        client, _ = await site.enter()
        forms = []
        for _ in range(4):
            site.clock.move(9000)
            _, form = await site.open_page(client)
            forms.append(form)
            await client.post(form.action, site.fill(form))
        before = site.place(client).token
        # The very page from the browser's memory, with other answers.
        assert (await client.post(forms[1].action, site.fill(forms[1], 2))).status == 200
        # And fetched anew, after three others.
        reply = await client.get(forms[2].action)
        anew = next(form for form in read_page(reply.text)[0] if form.action == forms[2].action)
        assert anew.values[site.running.study.fields[0]] == "1"
        assert (await client.post(anew.action, site.fill(anew, 2))).status == 200
        assert site.place(client).token == before
        rows = site.rows(select(trial.c.position, trial.c.revision).order_by(trial.c.position))
        assert [row.revision for row in rows[:5]] == [1, 2, 2, 1, 0]

    asyncio.run(journey())


def test_saves_of_one_page_that_arrive_out_of_order_do_not_go_back(site) -> None:
    async def journey() -> None:
        client, _ = await site.enter()
        _, form = await site.open_page(client)
        name = site.running.study.fields[0]
        base = {key: form.values[key] for key in ("form", "page", "base")}
        for seq, value in ((1, "4"), (3, "5"), (2, "2"), (4, "4"), (3, "5")):
            reply = await client.post(form.action, base | {"seq": str(seq), name: value}, accept="application/json")
            assert reply.status == 200
        assert reply.json["answers"] == {name: "4"}
        values = [row.value for row in site.rows(select(answer.c.value).order_by(answer.c.revision))]
        assert values == ["4", "5", "4"]

    asyncio.run(journey())


def test_skipping_ahead_leads_to_ones_own_place_and_stores_nothing(site) -> None:
    async def journey() -> None:
        client, _ = await site.enter()
        other, _ = await site.enter()
        _, form = await site.open_page(client)
        ordinal = site.place(client).ordinal
        ahead = site.running.trial_token(ordinal, 6)
        raw = Client(site.app, follows=False)
        raw.cookies = dict(client.cookies)
        reply = await raw.get(f"/t/{ahead}")
        assert (reply.status, reply.header("location")) == (303, form.action)
        reply = await raw.post(f"/t/{ahead}", site.fill(form))
        assert (reply.status, reply.header("location")) == (303, form.action)
        assert (await raw.post(f"/t/{ahead}", site.fill(form), accept="application/json")).status == 403
        for token in (site.running.trial_token(site.place(other).ordinal, 1), "0" * 32, "x"):
            assert (await raw.get(f"/t/{token}")).status == 403
            assert (await raw.post(f"/t/{token}", site.fill(form))).status == 403
        assert site.count(answer) == 0

    asyncio.run(journey())


@pytest.mark.parametrize(
    "bad", [{"v1.texture": "6"}, {"v1.texture": "0"}, {"favourite": "9"}, {"v1.texture": "=1+1"}, {"page": ""}]
)
def test_answers_that_the_page_does_not_offer_are_refused(site, bad: dict[str, str]) -> None:
    async def journey() -> None:
        client, _ = await site.enter()
        _, form = await site.open_page(client)
        assert (await client.post(form.action, site.fill(form) | bad)).status == 400
        assert site.count(answer) == 0

    asyncio.run(journey())


def test_next_with_something_missing_says_what_and_keeps_the_rest(site) -> None:
    async def journey() -> None:
        client, _ = await site.enter()
        _, form = await site.open_page(client)
        values = {name: value for name, value in site.fill(form).items() if name not in ("favourite", "v2.motion")}
        reply = await client.post(form.action, values)
        assert reply.status == 422
        assert "Video 2: Motion realism, Favourite" in reply.text
        assert "<title>Error:" in reply.text
        assert site.count(answer) == len(site.running.study.fields) - 2
        form = next(one for one in read_page(reply.text)[0] if one.action == form.action)
        assert form.values["v1.texture"] == "1"
        reply = await client.post(form.action, form.values | {"favourite": "1", "v2.motion": "1", "finish": "1"})
        assert reply.path == "/practice"

    asyncio.run(journey())


def test_a_page_cannot_be_answered_before_it_can_be_watched(make_site, study_folder) -> None:
    site = make_site(study_folder, change=lambda text: text.replace("watch_seconds: 0.0", "watch_seconds: 5.0"))

    async def journey() -> None:
        client, _ = await site.enter()
        _, form = await site.open_page(client)
        site.clock.move(4000)
        reply = await client.post(form.action, site.fill(form))
        assert reply.status == 422
        assert "at least 5 seconds" in reply.text
        site.clock.move(1500)
        assert (await client.post(form.action, site.fill(form))).path == "/practice"

    asyncio.run(journey())


def test_a_resume_link_opens_the_same_page_on_another_device(site) -> None:
    async def journey() -> None:
        client, _ = await site.enter("p-9")
        await site.answer(client)
        link = site.tickets.resume_link(site.place(client).ordinal)
        other = Client(site.app)
        assert (await other.get(link)).path == (await client.get("/now")).path
        assert (await Client(site.app).get(link + "x")).status == 404
        # The same identity on a new device is the same rater as well.
        _, reply = await site.enter("p-9")
        assert reply.path == (await client.get("/now")).path
        assert site.count(enrolment) == 1

    asyncio.run(journey())
