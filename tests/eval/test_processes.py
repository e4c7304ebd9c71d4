"""What processes tell each other: in order, waiting for all; one that fails or falls silent ends all. With threads."""

import json
import os
import threading
import time
from types import SimpleNamespace

import pytest
from torch.distributed import HashStore

import cogeval
from cogvideo.cores import available_cores
from cogvideo.errors import MissingPrerequisite, UserError
from eval import processes as subject
from eval.commands.benchmarks import choose_device, choose_workers
from eval.processes import EndedByAnotherError, Joined, Processes, joined, share, without_torchrun


def together(work, size=3, **settings):
    """What each of `size` processes returned or raised, by rank."""
    store, found = HashStore(), [None] * size

    def run(rank):
        one = Joined(store, rank, size, **settings)
        try:
            found[rank] = work(one)
        except (UserError, EndedByAnotherError) as error:
            found[rank] = error
        one.leave(seconds=0)

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return found


def test_everyone_gets_what_everyone_said_in_order_of_rank():
    def work(one):
        time.sleep(0.05 * (one.size - one.rank))
        return [one.gather(f"{one.rank}.{turn}") for turn in range(2)]

    assert together(work) == [[["0.0", "1.0", "2.0"], ["0.1", "1.1", "2.1"]]] * 3


def test_nobody_goes_on_before_all_are_there():
    arrived = []

    def work(one):
        time.sleep(0.1 * one.rank)
        arrived.append(one.rank)
        one.gather()
        return len(arrived)

    assert together(work) == [3, 3, 3]


def test_the_first_to_fail_speaks_and_the_others_end_with_its_code():
    def work(one):
        if one.rank == 1:
            assert one.report(3)
            raise MissingPrerequisite("no weights")
        one.gather()

    first, second, third = together(work)
    assert str(second) == "no weights"
    for other in (first, third):
        assert isinstance(other, EndedByAnotherError)
        assert other.exit_code == 3


def test_of_two_that_fail_one_speaks():
    spoke = together(lambda one: one.report(2))
    assert sorted(spoke) == [False, False, True]


def test_a_silent_process_is_missed_and_a_busy_one_is_not(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(subject, "time", SimpleNamespace(monotonic=lambda: clock[0], sleep=time.sleep))
    store = HashStore()
    first, gone, busy = (Joined(store, rank, 3) for rank in range(3))
    gone.leave(seconds=0)  # its machine is gone: no beat any more
    for seconds in (11, 111, 222, 312):
        first.check()
        clock[0] = seconds
        store.add(f"{subject.PREFIX}/beat/2", 1)
    with pytest.raises(UserError, match="process 1 of 3 has not answered for 300 s"):
        first.check()
    first.leave(seconds=0)
    busy.leave(seconds=0)


def test_another_plan_is_refused_where_it_is_seen():
    found = together(lambda one: one.same("a plan", ["clips", one.rank == 2]))
    assert found[:2] == [None, None]
    assert "process 2 of 3 sees a plan that differs" in str(found[2])


def test_alone_there_is_nobody_to_wait_for(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with joined() as one:
        assert (one.rank, one.size, one.is_first, one.is_alone) == (0, 1, True, True)
        assert one.gather("x") == ["x"]
        one.check()
        one.same("a plan", [1])


def test_shares_are_disjoint_and_whole():
    class Some(Processes):
        def __init__(self, rank):
            self.rank, self.size = rank, 3

    parts = [share(range(8), Some(rank)) for rank in range(3)]
    assert sorted(item for part in parts for item in part) == list(range(8))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_half_an_environment_is_one_line(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "two")
    with pytest.raises(UserError, match="WORLD_SIZE is 'two'; expected a whole number"), joined():
        pass
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError, match=r"2 processes, but RANK, MASTER_ADDR, MASTER_PORT is not set"), joined():
        pass


def test_errors_inside_the_block_are_told_to_the_others(monkeypatch):
    store = HashStore()
    monkeypatch.setattr(subject, "_store", lambda: store)
    monkeypatch.setattr(subject, "_outlast_torchrun", lambda: None)
    monkeypatch.setattr(Joined.leave, "__defaults__", (0.1,))
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(UserError, match="it is broken"), joined():
        raise UserError("it is broken")
    assert json.loads(store.get(subject.FAILED)) == {"rank": 1, "code": 2}
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(EndedByAnotherError) as ended, joined():
        raise UserError("it is broken here too")
    assert ended.value.exit_code == 2


def test_a_program_of_its_own_does_not_take_itself_for_one_of_ours():
    given = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_PORT": "1", "TORCHELASTIC_RUN_ID": "x", "PATH": "/bin", "A": "1"}
    assert without_torchrun(given) == {"PATH": "/bin", "A": "1"}


def test_cores_are_shared_on_one_machine(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    for several, expected in (("1", 8), ("3", 2), ("64", 1)):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", several)
        assert available_cores() == expected
        assert choose_workers(None)[0] == expected


def test_a_gpu_for_each_process(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert choose_device("auto")[0] == choose_device("cuda")[0] == "cuda:1"
    assert choose_device("cpu")[0] == "cpu"
    with pytest.raises(UserError, match="would give all processes one GPU"):
        choose_device("cuda:0")
    monkeypatch.setenv("LOCAL_RANK", "2")
    for name in ("auto", "cuda"):
        with pytest.raises(MissingPrerequisite, match="process 2 of this machine has no GPU of its own"):
            choose_device(name)


def test_one_of_many_leaves_speech_and_other_commands_to_the_first(monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    assert cogeval.main(["ucf101", "--no-such-flag"]) == 2
    assert cogeval.main(["list", "protocols"]) == 0
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "")
    monkeypatch.setenv("RANK", "0")
    assert cogeval.main(["ucf101", "--no-such-flag"]) == 2
    assert cogeval.main(["list", "protocols"]) == 0
    said = capsys.readouterr()
    assert said.err.count("error: ") == 1
    assert "ucf101-shapes-128" in said.out
