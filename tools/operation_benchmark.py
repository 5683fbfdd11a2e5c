"""The benchmark behind D-DARTS' Table 1: what each operation is worth, the weights of its distance between networks.

    python tools/operation_benchmark.py [--operations=A,B,...] [--positions=0,5,...] [--runs=4] [--wiring=published]
                                        [--workdir=runs/operations] [FLAGS OF kdarts train]

A proxy network of three cells, wired like the authors' ResNet18: each cell has four simple_conv_3x3 in a row, from its
input over the nodes 2 to 5, and residual skip connections from the input to node 3 and from node 3 to node 5; cells 1
and 2 are reductions. Each operation in turn stands at each of the 12 positions, one at a time, and the network is
trained. Position p is edge p % 4 of cell p // 4, edges counted from the input. An operation's score at a position is
the best test accuracy of several trainings, each measured after its last epoch; its weight is the median over the
positions. The same run at the same position has the same seed, and so the same batches, for every operation.

In the authors' wiring (--wiring=published) a cell's input is the cell before the previous one. So nothing that cell 1
computes reaches the classifier, and positions 4 to 7 score the unchanged network, but for its initial weights. With
--wiring=chain it is the previous cell, as in a ResNet, and all positions count.

All other flags go to each training. Those of the paper are the defaults, --channels=64 --epochs=10 --batch_size=256,
but for its data set: --dataset=cifar10 --data_dir=DIR. For example, on 2 cores in about an hour:

    python tools/operation_benchmark.py --runs=1 --channels=8 --epochs=5 --batch_size=64

Each finished training is a line in WORKDIR/results.jsonl, so the same command goes on where a killed benchmark was,
and one with more operations, positions or runs adds to it. At the end WORKDIR/scores.json holds median, mean and
population standard deviation over the positions, in percent, and WORKDIR/weights.json the medians, for a distance:

    kdarts distance ResNet18 DO-1-ResNet18 --weights=runs/operations/weights.json
"""

import argparse
import json
import pathlib
import shutil
import statistics
import subprocess
import sys
from dataclasses import dataclass
from datetime import timedelta

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))  # Runs where kdarts is not installed, too.

from kdarts_command import run_kdarts

from kdarts.cli import options
from kdarts.cli.command import exit_code
from kdarts.cli.train import TRAIN
from kdarts.genotypes.distance import OPERATIONS
from kdarts.genotypes.errors import KdartsError, choice
from kdarts.genotypes.files import write_text
from kdarts.genotypes.genotype import Genotype
from kdarts.training.workdir import Workdir, read_json, write_json

CELLS, EDGES = 3, ((2, 0), (3, 2), (4, 3), (5, 4))
SKIPS = ((3, 0), (5, 3))
POSITIONS = CELLS * len(EDGES)
USUAL = "simple_conv_3x3"
PAPER = ["--channels=64", "--epochs=10", "--batch_size=256"]
WIRINGS = ("published", "chain")


@dataclass(frozen=True)
class Training:
    """One training of the benchmark.

    Attributes:
        operation: that is benchmarked.
        position: where it stands, 0 to 11.
        run: number among the trainings of this network, from 0.
    """

    operation: str
    position: int
    run: int

    @property
    def name(self) -> str:
        """Of its folder, while it runs."""
        return f"{self.operation}-position{self.position}-run{self.run}"

    @property
    def seed(self) -> int:
        """The same for every operation, so that they are compared on the same batches."""
        return self.run * POSITIONS + self.position


@dataclass(frozen=True)
class Benchmark:
    """What is asked for.

    Attributes:
        operations, positions, runs: what to train.
        wiring: of the proxy network.
        workdir: its folder.
        words: flags of each training.
    """

    operations: tuple[str, ...]
    positions: tuple[int, ...]
    runs: int
    wiring: str
    workdir: Workdir
    words: tuple[str, ...]

    def trainings(self) -> list[Training]:
        """All trainings, run by run: a first figure for every operation is there as early as can be."""
        return [Training(o, p, r) for r in range(self.runs) for p in self.positions for o in self.operations]

    def remembered(self) -> dict[str, str]:
        """What may not change from one command on a folder to the next."""
        return {**options.remembered(TRAIN.parse(["train", *self.words])), "wiring": self.wiring}


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        raise KdartsError(message)


def parse(arguments: list[str]) -> Benchmark:
    """What the command line asks for; raises `KdartsError` or `flags.Error` where it makes no sense."""
    parser = _Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("--operations", default=",".join(OPERATIONS), help="with commas between; default: all 12")
    parser.add_argument("--positions", default=",".join(map(str, range(POSITIONS))), help="default: all 12")
    parser.add_argument("--runs", type=int, default=4, help="trainings of each network, of which the best counts")
    parser.add_argument("--wiring", default="published", help="published or chain")
    parser.add_argument("--workdir", type=pathlib.Path, default=pathlib.Path("runs/operations"))
    chosen, rest = parser.parse_known_args(arguments)
    given = TRAIN.parse(["train", *(word for word in rest if word != "--")])
    for flag in ("genotype", "cells", "seed"):
        if given[flag].present:
            raise KdartsError(f"--{flag}: the benchmark sets it by itself, see operation_benchmark.py --help")
    if chosen.runs < 1:
        raise KdartsError(f"--runs={chosen.runs}: allowed is 1 and more")
    operations = [choice("operation", name.strip(), OPERATIONS) for name in chosen.operations.split(",")]
    positions = [choice("position", text.strip(), range(POSITIONS)) for text in chosen.positions.split(",")]
    for flag, values in (("operations", operations), ("positions", positions)):
        if len(set(values)) < len(values):
            raise KdartsError(f"--{flag}={getattr(chosen, flag)}: one is there twice")
    choice("wiring", chosen.wiring, WIRINGS)
    words = (*PAPER, *(word for word in rest if word != "--"))
    workdir = Workdir(chosen.workdir)
    return Benchmark(tuple(operations), tuple(map(int, positions)), chosen.runs, chosen.wiring, workdir, words)


def proxy(operation: str, position: int, wiring: str) -> Genotype:
    """The proxy network with an operation at a position, 0 to 11."""
    start = 0 if wiring == "published" else 1
    cells = []
    for cell in range(CELLS):
        here = [operation if position == len(EDGES) * cell + k else USUAL for k in range(len(EDGES))]
        edges = [(name, to, source or start) for name, (to, source) in zip(here, EDGES, strict=True)]
        cells.append((*edges, *(("skip_connect", to, source or start) for to, source in SKIPS)))
    return Genotype(cells, [(2, 3, 4, 5)] * CELLS, reductions=(1, 2), sequence=range(CELLS))


def read_results(path: pathlib.Path) -> dict[Training, dict]:
    """The finished trainings of a folder, each with `test_accuracy` and `wall_seconds`.

    Raises:
        KdartsError: if the file is damaged.
    """
    results = {}
    lines = path.read_text("utf-8", errors="replace").splitlines() if path.exists() else []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            training = Training(row["operation"], row["position"], row["run"])
            results[training] = {
                "test_accuracy": float(row["test_accuracy"]),
                "wall_seconds": float(row["wall_seconds"]),
            }
        except (ValueError, KeyError, TypeError):
            raise KdartsError(f"{path}: line {number} is no result of a training") from None
    return results


def write_results(path: pathlib.Path, results: dict[Training, dict]) -> None:
    """Writes what `read_results` reads, whole or not at all."""
    rows = [{"operation": t.operation, "position": t.position, "run": t.run, **r} for t, r in results.items()]
    write_text(path, "".join(json.dumps(row) + "\n" for row in rows))


def train_all(benchmark: Benchmark) -> int:
    """Runs the trainings that are not finished, one after another.

    Returns:
        0, or the exit code of the first that failed; it has said why.
    """
    path = benchmark.workdir / "results.jsonl"
    results, trainings = read_results(path), benchmark.trainings()
    missing = [training for training in trainings if training not in results]
    print(f"{len(trainings)} trainings, {len(trainings) - len(missing)} finished before", flush=True)
    for number, training in enumerate(missing):
        seconds = [result["wall_seconds"] for result in results.values()]
        left = timedelta(seconds=round(statistics.mean(seconds) * (len(missing) - number))) if seconds else None
        note = f" · about {left} left" if left else ""
        where = len(trainings) - len(missing) + number + 1
        label = f"{training.operation} at position {training.position}, run {training.run}"
        print(f"{where} of {len(trainings)}: {label}{note}", flush=True)
        if code := train(training, benchmark):
            if code == 2 and not results:
                _leave(training, benchmark)
            if code != 2:  # A mistake has its one line already.
                said = f"{training.name} ended with {code}; the same command goes on"
                print(f"operation_benchmark: {said}", file=sys.stderr)
            return 2 if code == 2 else 1
        summary = read_json(benchmark.workdir / training.name / "summary.json")
        results[training] = {name: summary[name] for name in ("test_accuracy", "wall_seconds")}
        write_results(path, results)
        # Hundreds of networks would fill the disk; the record is what counts.
        shutil.rmtree(benchmark.workdir / training.name)
        (benchmark.workdir / f"{training.name}.json").unlink()
    return 0


def _leave(training: Training, benchmark: Benchmark) -> None:
    """Gives up a folder whose very first training was refused, so that the corrected command may have it."""
    shutil.rmtree(benchmark.workdir / training.name, ignore_errors=True)
    (benchmark.workdir / f"{training.name}.json").unlink()
    benchmark.workdir.release()


def train(training: Training, benchmark: Benchmark) -> int:
    """Runs one training, or goes on with it, in a process of its own.

    Returns:
        Its exit code; 0 leaves `summary.json` in its folder.
    """
    genotype = benchmark.workdir / f"{training.name}.json"
    proxy(training.operation, training.position, benchmark.wiring).save(genotype)
    own = [f"--genotype={genotype}", f"--seed={training.seed}", f"--workdir={benchmark.workdir / training.name}"]
    return run_kdarts(["train", *benchmark.words, *own], stdout=subprocess.DEVNULL)


def scores(results: dict[Training, dict], benchmark: Benchmark) -> dict[str, dict[str, float]]:
    """Median, mean and population standard deviation over the positions of the best of all runs, in percent.

    Args:
        results: of all trainings of `benchmark`; others are left out.
        benchmark: what is asked for.

    Returns:
        `{"median": {operation: percent}, "mean": ..., "std": ...}`.
    """
    best = {
        operation: [
            100 * max(results[Training(operation, position, run)]["test_accuracy"] for run in range(benchmark.runs))
            for position in benchmark.positions
        ]
        for operation in benchmark.operations
    }
    rules = {"median": statistics.median, "mean": statistics.mean, "std": statistics.pstdev}
    return {name: {operation: rule(scores) for operation, scores in best.items()} for name, rule in rules.items()}


def table(found: dict[str, dict[str, float]]) -> list[str]:
    """The lines of Table 1: score, the median, with the standard deviation; and the mean."""
    lines = [f"{'operation':18}  {'score in %':>13}  {'mean':>6}"]
    for operation, median in found["median"].items():
        score = f"{median:.2f} ± {found['std'][operation]:.2f}"
        lines.append(f"{operation:18}  {score:>13}  {found['mean'][operation]:6.2f}")
    return lines


def run(arguments: list[str]) -> int:
    """Runs the benchmark; returns 0, or the code of a training that ended badly."""
    benchmark = parse(arguments)
    benchmark.workdir.begin(benchmark.remembered())
    if code := train_all(benchmark):
        return code
    found = scores(read_results(benchmark.workdir / "results.jsonl"), benchmark)
    write_json(benchmark.workdir / "scores.json", found)
    write_json(benchmark.workdir / "weights.json", found["median"])
    print("\n" + "\n".join(table(found)))
    print(f"\nWritten: {benchmark.workdir / 'weights.json'}")
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Runs the benchmark.

    Args:
        arguments: without the program's name; None: those of this process.

    Returns:
        As of `exit_code`, and 1 if a training was killed.
    """
    return exit_code("operation_benchmark", lambda: run(list(sys.argv[1:] if arguments is None else arguments)))


if __name__ == "__main__":
    sys.exit(main())
