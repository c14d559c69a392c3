"""Metrics of several processes, told together by one."""

import os
import subprocess
import sys
from pathlib import Path

from dispatcher.metrics import MULTIPROCESS_VARIABLE, prepare_folder

WORKER = """
import os
from dispatcher.metrics import Metrics
from dispatcher.model import Answered
metrics = Metrics()
metrics.attempted(Answered(200, (), b"", False, 0.1, None), "done", 0.1)
metrics.recorded(1)
metrics.shards_owned(128)
metrics.due(3, oldest_age=float(os.environ["AGE"]))
"""

SCRAPE = """
import sys
from dispatcher.metrics import Metrics, process_died
for pid in sys.argv[1:]:
    process_died(int(pid))
print(Metrics().render().decode())
"""


def run(code: str, folder: Path, *arguments: str, age: float = 0) -> tuple[int, str]:
    """Run code in a process that shares its numbers in `folder`; returns its id and what it printed."""
    environ = os.environ | {MULTIPROCESS_VARIABLE: str(folder), "AGE": str(age)}
    process = subprocess.Popen([sys.executable, "-c", code, *arguments], env=environ, stdout=subprocess.PIPE, text=True)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    return process.pid, printed


def test_one_process_tells_of_all(tmp_path: Path) -> None:
    """Counters and what is owned add up, ages take the largest; of the dead only what they counted stays."""
    prepare_folder(tmp_path)
    first, _ = run(WORKER, tmp_path, age=5)
    run(WORKER, tmp_path, age=9)

    _, together = run(SCRAPE, tmp_path)
    _, without_first = run(SCRAPE, tmp_path, str(first))

    assert 'dispatcher_attempts_total{outcome="answered_2xx",verdict="done"} 2.0' in together
    assert "dispatcher_shards_owned 256.0" in together
    assert "dispatcher_oldest_due_age_seconds 9.0" in together
    assert "dispatcher_database_up 1.0" in together
    assert 'dispatcher_attempts_total{outcome="answered_2xx",verdict="done"} 2.0' in without_first
    assert "dispatcher_shards_owned 128.0" in without_first


def test_an_earlier_run_is_forgotten(tmp_path: Path) -> None:
    """A fresh start begins at zero."""
    run(WORKER, tmp_path)

    prepare_folder(tmp_path)

    assert list(tmp_path.iterdir()) == []
