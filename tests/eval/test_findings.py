"""What `cogeval list metrics` says was measured: of metrics that exist, and what the command says again."""

from __future__ import annotations

import json
import shlex

import pytest

import cogeval
from eval.findings import findings, responses_of
from eval.registry import metrics
from eval.responses import Sensitivity, in_words


def test_of_metrics_that_exist():
    table = findings()
    assert set(table["responses"]) <= set(metrics.names())
    assert responses_of("fvd").endswith(f"({table['n']} clips of embedded data, `{table['command']}`)")
    assert responses_of("kid") == "", "what was not tried is not said"


@pytest.mark.slow
def test_the_command_says_it_again(capsys, tmp_path):
    table = findings()
    arguments = shlex.split(table["command"])[1:]
    assert cogeval.main([*arguments, "--json", "--quiet", "--out", str(tmp_path)]) == 0
    record = Sensitivity.model_validate(json.loads(capsys.readouterr().out)["sensitivity"])
    assert record.n_clips == table["n"]
    assert {metric.metric: in_words(metric, record.corruptions) for metric in record.metrics} == table["responses"]
