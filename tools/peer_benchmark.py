"""Times a step of kdarts against PyTorch's, or one kdarts step against another, step by step in turn.

Both programs run as processes of their own on the same cores, with batches of the same shape; after a warm-up each
takes one step, then the other, and so on, so that a change in the machine's speed meets both. Prints one JSON line with
the ratio of the median times and of the peak memory.

    python tools/peer_benchmark.py --batch_size=16
    python tools/peer_benchmark.py --train=DARTS_V2 --channels_last --public=darts --python=torch/bin/python
    python tools/peer_benchmark.py --flags=--order=second --against=--order=first

What is timed is DARTS' first-order step, or with --train the step that `kdarts train` takes with a network, drop-path
0.2. PyTorch computes the plain statement of both in `tools/torch_darts.py`, or with --public the public DARTS code
itself: `Network` and `Architect` of the search, `NetworkCIFAR` of the training. That code is of PyTorch 0.3 and GPUs;
`tools/torch_peer.py` says which names are replaced so that it runs on a CPU. Its `utils.py` needs torchvision. If the
two sides differ in their number of weights, nothing is timed.

With --against both sides are `kdarts bench`, with the flags of --flags and with those of --against.
"""

import argparse
import contextlib
import importlib.metadata
import json
import os
import pathlib
import shlex
import statistics
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))  # Runs where kdarts is not installed, too.

from kdarts_command import ROOT

from kdarts.cli.bench import BENCH
from kdarts.cli.command import exit_code
from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.genotype import Genotype
from kdarts.supernet.spaces import get_space


class Program:
    """A process that takes one step for each line it is sent, and answers with the milliseconds.

    Args:
        name: What messages and results call it.
        arguments: Its command line.

    Attributes:
        about: The line that it printed when it was ready: `params`, its number of weights, and more.
    """

    def __init__(self, name: str, arguments: list[str]):
        self.name = name
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.process = subprocess.Popen(arguments, **pipes, text=True, env={**os.environ, "PYTHONPATH": path})

    def __enter__(self):
        self.about = self._answer()
        return self

    def __exit__(self, *_):
        with self.process:  # Waits for it.
            self.process.kill()

    def _answer(self):
        line = self.process.stdout.readline()
        try:
            return json.loads(line)
        except ValueError:
            self.process.kill()
            raise KdartsError(f"{self.name} ended early, for the reason above, or printed what is no step") from None

    def step(self) -> float:
        """Takes one step; returns its milliseconds."""
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write("\n")
            self.process.stdin.flush()
        return self._answer()

    def finish(self) -> float:
        """Lets the process end; returns its peak memory in 10^6 bytes."""
        self.process.stdin.close()
        return self._answer()["peak_memory_mb"]


def alternate(first: Program, other: Program, rounds: int) -> dict:
    """Lets two programs that are ready take their steps in turn; returns what they came to, and the ratios."""
    taken = [(first.step(), other.step()) for _ in range(rounds)]
    times = [statistics.median(column) for column in zip(*taken, strict=True)]
    memory = first.finish(), other.finish()
    ratios = [a / b for a, b in taken]
    return {
        **{f"{p.name}_ms": ms for p, ms in zip((first, other), times, strict=True)},
        "ratio": times[0] / times[1],
        "ratio_min": min(ratios),
        "ratio_max": max(ratios),
        **{f"{p.name}_mb": mb for p, mb in zip((first, other), memory, strict=True)},
        "memory_ratio": memory[0] / memory[1],
        **{f"{p.name}_params": p.about["params"] for p in (first, other)},
    }


def check_same(first: Program, other: Program) -> None:
    """Raises `KdartsError` if two programs do not train the same number of weights."""
    counts = [f"{program.about['params']:,} in {program.name}" for program in (first, other)]
    if first.about["params"] != other.about["params"]:
        raise KdartsError(f"the networks differ, so their times say nothing: {' and '.join(counts)} weights")


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        raise KdartsError(message)


def parse(arguments: list[str]) -> argparse.Namespace:
    """Returns what the command line asks for; raises `KdartsError` where it makes no sense."""
    shape = argparse.RawDescriptionHelpFormatter
    parser = _Parser(description=__doc__, formatter_class=shape, allow_abbrev=False)
    cores = len(os.sched_getaffinity(0))
    parser.add_argument("--train", metavar="GENOTYPE", help="time the training of this network, not a search")
    parser.add_argument("--auxiliary", action="store_true", help="train with the auxiliary classifier")
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--cells", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=8, help="steps of each side, after two that are not timed")
    parser.add_argument("--threads", type=int, default=cores, help="cores that both sides may use; default: all")
    parser.add_argument("--python", default=sys.executable, help="interpreter that has PyTorch; default: this one")
    parser.add_argument("--public", metavar="PATH", help="folder of the public DARTS code, which contains cnn/")
    parser.add_argument("--channels_last", action="store_true", help="let PyTorch use its channels_last layout")
    parser.add_argument("--flags", type=shlex.split, help="with --against: flags of `kdarts bench`, in one word")
    parser.add_argument(
        "--against", type=shlex.split, metavar="FLAGS", help="time kdarts with these flags in PyTorch's place"
    )
    options = parser.parse_args(arguments)
    for name in ("batch_size", "channels", "cells", "rounds", "threads"):
        if getattr(options, name) < 1:
            raise KdartsError(f"--{name}={getattr(options, name)}: allowed is 1 and more")
    if options.threads > cores:
        raise KdartsError(f"--threads={options.threads}: allowed is 1 to {cores}, the cores of this process")
    if options.auxiliary and options.train is None:
        raise KdartsError("--auxiliary: a search has no auxiliary classifier; it needs --train")
    if options.against is None and options.flags is not None:
        raise KdartsError("--flags: PyTorch has no such flags; it needs --against, flags to compare with")
    about_torch = {"--public": options.public, "--channels_last": options.channels_last}
    about_torch["--python"] = options.python != sys.executable
    for name in (name for name, given in about_torch.items() if given and options.against is not None):
        raise KdartsError(f"{name}: is about PyTorch, and with --against both sides are kdarts")
    if options.public is not None and not pathlib.Path(options.public, "cnn", "model_search.py").is_file():
        raise KdartsError(f"--public={options.public}: needs the folder of the public code, with cnn/model_search.py")
    return options


def found_cells(options: argparse.Namespace) -> dict:
    """Returns the two cells of `--train` as PyTorch's side reads them; raises `KdartsError` for others than DARTS'."""
    genotype = Genotype.load(options.train)
    if (genotype.sequence, genotype.stages, genotype.reductions) != (None, None, None):
        raise KdartsError(
            f"--train={options.train}: PyTorch's side needs one normal and one reduction cell, as in DARTS"
        )
    known = get_space("darts").operations
    for name in (name for name in genotype.operations if name not in known):
        raise KdartsError(f"--train={options.train}: PyTorch's side has no {name}; allowed: {', '.join(known)}")
    for cell in genotype.cells if options.public is not None else ():
        ends = [to for _, to, _ in cell]
        if sorted(ends) != [node for node in range(2, 2 + len(ends) // 2) for _ in range(2)]:
            raise KdartsError(f"--train={options.train}: the public code needs two edges to each node")
    kinds = zip(("normal", "reduce"), genotype.cells, genotype.concats, strict=True)
    return {key: value for kind, *parts in kinds for key, value in zip((kind, f"{kind}_concat"), parts, strict=True)}


def programs(options: argparse.Namespace) -> list[tuple[str, list[str]]]:
    """Returns the name and the command line of both sides."""
    sizes = [f"--{name}={getattr(options, name)}" for name in ("batch_size", "channels", "cells")]
    training = ["--drop_path=0.2", *["--auxiliary"] * options.auxiliary] if options.train is not None else []
    ours = [sys.executable, "-m", "kdarts", "bench", "--paced", *sizes, *training]
    ours += [] if options.train is None else [f"--train={options.train}"]
    if options.against is not None:
        given = {"flags": options.flags or [], "against": options.against}
        for words in given.values():
            BENCH.parse(["bench", *words])
        return [(name, [*ours, *words]) for name, words in given.items()]
    peer = [options.python, str(ROOT / "tools" / "torch_peer.py"), *sizes, *training, f"--threads={options.threads}"]
    peer += ["--channels_last"] * options.channels_last
    peer += [] if options.public is None else [f"--public={options.public}"]
    peer += [] if options.train is None else [f"--genotype={json.dumps(found_cells(options))}"]
    return [("kdarts", ours), ("pytorch", peer)]


def run(arguments: list[str]) -> None:
    """Runs both sides in turn and prints the result."""
    options = parse(arguments)
    commands = programs(options)
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.threads])  # Both sides inherit it.
    what = {"what": "search" if options.train is None else "train", "genotype": options.train}
    names = ["auxiliary", "batch_size", "channels", "cells", "rounds", "threads"]
    if options.against is None:
        what["public"] = options.public is not None
    names += ["channels_last"] if options.against is None else ["flags", "against"]
    with Program(*commands[0]) as first, Program(*commands[1]) as other:
        if options.against is None:
            check_same(first, other)
            what["torch"] = other.about["torch"]
        result = alternate(first, other, options.rounds)
    versions = {"tensorflow": importlib.metadata.version("tensorflow")}
    print(json.dumps({**what, **{name: getattr(options, name) for name in names}, **result, **versions}))


def main(arguments: list[str] | None = None) -> int:
    """Runs the benchmark with the arguments given, or those of this process, and returns its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    return exit_code("peer_benchmark", lambda: run(words), goes_on=False)


if __name__ == "__main__":
    sys.exit(main())
