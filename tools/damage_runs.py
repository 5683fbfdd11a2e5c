"""Damages files of finished and of interrupted runs, gives the same command again, and looks what comes of it.

    python tools/damage_runs.py --workdir=/tmp/damages --damages=200

A damage is the loss of the second half of any file of a workdir, or a byte that changes in one that is not JSON (JSON
has no checksums). The command must then come to the result of the whole run (`tiny_runs.difference`), or be refused by
one line that names the file; a command that reads the file (`kdarts info`, `kdarts evaluate`) must print what it
printed before, or be refused likewise.

Everything happens in this process, without graphs (`run_functions_eagerly`), to save a thousand starts.
"""

import argparse
import contextlib
import io
import pathlib
import random
import shutil
import sys
import traceback
from collections import Counter
from collections.abc import Callable

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import tiny_runs

from kdarts.genotypes.errors import KdartsError

OUTCOMES = ("named, and made again", "made again", "refused, named", "of no influence")
"""What may come of a damage; anything else is a fault."""


def call(words: list[str], run: Callable[[], None] | None = None) -> tuple[int | None, str, str]:
    """Runs `kdarts WORDS`, or `run`, here: its exit code, None after a traceback; what it said, and its errors."""
    import keras

    from kdarts.cli.command import exit_code
    from kdarts.cli.main import main

    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(words) if run is None else exit_code("kdarts", run)
        except Exception:
            code = None
            traceback.print_exc()
    keras.backend.clear_session(free_memory=False)  # To collect the garbage each time would take half a second.
    return code, out.getvalue(), err.getvalue()


@contextlib.contextmanager
def eagerly():
    """Within it, TensorFlow computes without graphs, and with the threads of every command."""
    from kdarts.cli.process import start_tensorflow

    start_tensorflow()
    import tensorflow as tf

    from kdarts.training.distribution import configure_threads

    with contextlib.suppress(KdartsError):  # Set before.
        configure_threads()
    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(before)


@contextlib.contextmanager
def interrupted(saves: int):
    """Within it, a run is interrupted once it has saved so many checkpoints."""
    from kdarts.training.checkpoint import Checkpoint

    save, left = Checkpoint._save, [saves]

    def save_and_count(self):
        save(self)
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt

    Checkpoint._save = save_and_count
    try:
        yield
    finally:
        Checkpoint._save = save


def damage(path: pathlib.Path, draw: random.Random) -> str:
    """Damages a file, not empty; returns how."""
    content = bytearray(path.read_bytes())
    if path.suffix != ".json" and draw.random() < 0.5:
        place = draw.randrange(len(content))
        content[place] ^= draw.randrange(1, 256)
        path.write_bytes(content)
        return f"byte {place} of {len(content)}"
    path.write_bytes(content[: len(content) // 2])
    return f"half of {len(content)} bytes"


class Runs:
    """Finished and interrupted runs in a folder, to be copied and damaged."""

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        tiny_runs.START.save(folder / "start.json")

    def words(self, name: str, workdir: pathlib.Path) -> list[str]:
        """The command of a run in a folder."""
        sizes = ["--batch_size=32", "--checkpoint_every=2"]
        return [*tiny_runs.words_of(name, self.folder / "start.json", workdir)[:-1], *sizes, f"--workdir={workdir}"]

    def make(self, name: str, draw: random.Random) -> None:
        """Makes the whole run and an interrupted one."""
        whole, half = self.folder / f"{name}-whole", self.folder / f"{name}-half"
        for workdir in (whole, half):
            shutil.rmtree(workdir, ignore_errors=True)
        found = [call(self.words(name, whole))]
        with interrupted(draw.randint(3, 4)):  # Each kind of run saves 4 times or more.
            found.append(call(self.words(name, half)))
        if [code for code, _, _ in found] != [0, 130]:
            raise RuntimeError(f"{name}: {found}")

    def damaged(self, name: str, kind: str, draw: random.Random) -> tuple[str, str]:
        """Damages a copy of a run and gives a command; returns what was done and the outcome."""
        whole, workdir = self.folder / f"{name}-whole", self.folder / f"{name}-damaged"
        shutil.rmtree(workdir, ignore_errors=True)
        shutil.copytree(self.folder / f"{name}-{kind}", workdir)
        words, files = self.words(name, workdir), [f for f in workdir.rglob("*") if f.is_file() and f.stat().st_size]
        reads = kind == "whole" and draw.random() < 0.3
        if reads:
            words = tiny_runs.reading(words)
            before = call(words)[1]
            named = {"model.keras", "summary.json"} if words[0] == "evaluate" else {"genotype.json"}
            files = [file for file in files if file.parent == workdir and file.name in named]
        kind_of_file = draw.choice(sorted({file.suffix for file in files}))
        file = draw.choice(sorted(file for file in files if file.suffix == kind_of_file))
        done = f"{name} ({kind}), {file.relative_to(workdir)}: {damage(file, draw)}; kdarts {words[0]}"
        code, out, err = call(words)
        errors = [line for line in err.splitlines() if line.startswith("kdarts: ")]
        if code == 2 and len(errors) == 1 and _names(errors[0], file):
            return done, OUTCOMES[2]
        if code == 0 and reads:
            return done, OUTCOMES[3] if out == before else f"printed {out!r}, not {before!r}"
        if code != 0:
            return done, f"exit code {code}: {err[-1500:]}"
        differs = tiny_runs.difference(whole, workdir)
        if differs:
            return done, f"came to something else: {differs}"
        return done, OUTCOMES[0] if any(_names(line, file) for line in out.splitlines()) else OUTCOMES[1]


def _names(line: str, file: pathlib.Path) -> bool:
    """Whether a line names a file: by its path, by its folder and its name, or by the checkpoint that it is part of."""
    parts = str(file.parent), file.name.partition(".")[0] if file.name.startswith("ckpt-") else file.name
    return f"{file.parent}:" in line or all(part in line for part in parts)


def parse(arguments: list[str]) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(prog="damage_runs", description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", type=pathlib.Path, required=True, help="folder for the runs")
    parser.add_argument("--damages", type=int, default=200, help="default: 200")
    parser.add_argument("--runs", default=",".join(tiny_runs.SEARCHES | tiny_runs.TRAININGS), help="names, with commas")
    parser.add_argument("--seed", type=int, default=0, help="of the damages")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Damages.

    Args:
        arguments: without the program's name; None: those of this process.

    Returns:
        0 if every damage had one of the `OUTCOMES`, else 1.
    """
    chosen = parse(list(sys.argv[1:] if arguments is None else arguments))
    names, draw = chosen.runs.split(","), random.Random(chosen.seed)
    runs, outcomes = Runs(chosen.workdir), Counter()
    with eagerly():
        for name in names:
            runs.make(name, draw)
        for number in range(chosen.damages):
            done, outcome = runs.damaged(names[number % len(names)], draw.choice(["whole", "half"]), draw)
            outcomes[outcome if outcome in OUTCOMES else "FAULT"] += 1
            print(f"{number + 1:3d} {done}: {outcome}", flush=True)
    print("\n| what came of it | damages |\n| --- | --- |")
    for outcome, count in outcomes.items():
        print(f"| {outcome} | {count} |")
    return int(outcomes["FAULT"] > 0)


if __name__ == "__main__":
    sys.exit(main())
