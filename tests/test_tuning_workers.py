"""A tuning shared among processes on loopback, one of which is killed; what is measured is a stand-in."""

import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import pytest

from kdarts.training.workdir import write_json

ROOT = pathlib.Path(__file__).parent.parent
TRIALS, PATIENCE = 8, 2.0


def main(folder: pathlib.Path, seconds: float) -> None:
    """What `kdarts tune` does, but for the searches."""
    import keras_tuner

    from kdarts.training import repeats
    from kdarts.tuning.oracle import make_oracle
    from kdarts.tuning.tuning import Progress, TuningTuner, part_of, role, trial_rows

    def figures(number, values, epochs):
        return [repeats.figures(part_of(folder, number, 0), 0)]

    def measure(number, values, epochs):
        time.sleep(seconds)
        accuracy = values["channels"] / 100
        summary = {"held_back_accuracy": accuracy, "wall_seconds": seconds, "params": 10}
        write_json(part_of(folder, number, 0) / "train" / "summary.json", summary)
        return accuracy

    parameters = keras_tuner.HyperParameters()
    parameters.Int("channels", 1, 50)
    progress = Progress(folder, [0], role() == "alone")
    progress.oracle = make_oracle(
        "random", parameters, trials=TRIALS, epochs=1, seed=0, notify=progress, patience=PATIENCE
    )
    finished = folder / "trials.csv"
    TuningTuner(progress.oracle, measure, folder / "oracle", finished.exists).search()
    if role() != "worker":
        finished.write_text(
            "\n".join(f"{row['trial']} {row['accuracy']}" for row in trial_rows(progress.oracle, figures))
        )


class _Process:
    """One of them, by its name: `alone`, or a chief or worker at a port."""

    def __init__(self, name, folder, port=None, seconds=0.5):
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
        if port:
            environment |= {"KERASTUNER_TUNER_ID": name, "KERASTUNER_ORACLE_IP": "127.0.0.1"}
            environment["KERASTUNER_ORACLE_PORT"] = str(port)
        folder.mkdir(exist_ok=True)
        self.log = folder.parent / f"{name}-{time.monotonic_ns()}.log"
        command = [sys.executable, "-u", __file__, str(folder), str(seconds)]
        with self.log.open("w") as file:
            self.process = subprocess.Popen(command, env=environment, stdout=file, stderr=file)

    def said(self) -> str:
        return self.log.read_text()

    def wait_for(self, words: str) -> None:
        limit = time.monotonic() + 120
        while words not in self.said():
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < limit, f"{words!r} was not said: {self.said()}"
            time.sleep(0.05)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def end(self) -> None:
        assert self.process.wait(120) == 0, self.said()


def _port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.mark.slow
def test_no_trial_is_lost_with_a_killed_worker_nor_with_a_killed_chief(tmp_path):
    port, folder = _port(), tmp_path / "shared"
    chief = _Process("chief", folder, port)
    workers = [_Process("one", folder, port), _Process("two", folder, port, seconds=60)]
    chief.wait_for("· two: channels=")
    workers[1].kill()  # In the middle of a trial, which it would not have ended.
    chief.wait_for("· one: 0.")
    chief.kill()
    chief = _Process("chief", folder, port)
    for process in (workers[0], chief):
        process.end()
    alone = _Process("alone", tmp_path / "alone", seconds=0)
    alone.end()
    trials = (folder / "trials.csv").read_text()
    assert trials.count("\n") == TRIALS - 1
    assert trials == (tmp_path / "alone" / "trials.csv").read_text()
    late = _Process("three", folder, port)  # All is done: it leaves, and waits for nobody.
    late.end()


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), float(sys.argv[2]))
