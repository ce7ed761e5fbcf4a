"""A run that is killed at random moments, or whose disk is full, ends with the bits of an uninterrupted run."""

from __future__ import annotations

import itertools

from killed_runs import FORMATS, KilledRuns

from paddle_flashmask.integrations.paddlenlp.tasks import TASKS


def test_killed_runs_continue_with_the_same_bits(task_config, tmp_path, request):
    """`make killed-runs` is the long form."""
    count = request.config.getoption("--killed-runs", default=4)
    runs = KilledRuns(tmp_path, seed=count)
    cases = list(itertools.product(TASKS, FORMATS))
    runs.random.shuffle(cases)
    for number, (task, form) in zip(range(count), itertools.cycle(cases), strict=False):
        runs.check(f"{task}-{form}", {**task_config(task), **FORMATS[form]})
        print(
            f"{number + 1} runs, {runs.kills} kills, {runs.limits} full disks, {runs.continued} continued", flush=True
        )
    assert runs.kills + runs.limits >= count / 2
