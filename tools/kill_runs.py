"""Kills runs at random moments, lets each go on with the same command, and holds the results against whole runs.

    python tools/kill_runs.py --workdir=/tmp/kills --kills=30

Each kill is a SIGKILL to a process of its own: at a random moment between its first file and its end, or, each third
one, while a checkpoint is being written. The same command then runs to its end. Its results must be, bit by bit, those
of the uninterrupted run: α, weights, optimizers, history and genotypes (`tiny_runs.difference`).

The processes are forked from one that has imported TensorFlow and done nothing with it, which saves each its start.
"""

import argparse
import os
import pathlib
import random
import shutil
import signal
import sys
import time
from dataclasses import dataclass

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import tiny_runs

_MOST = 600
"""Seconds after which a run hangs."""


@dataclass
class Kill:
    """What came of a kill: when, whether a checkpoint was half written then, where the run went on, what differs."""

    name: str
    seconds: float
    writing: bool
    place: str
    difference: str | None


def start(words: list[str], output: pathlib.Path) -> int:
    """Starts `kdarts WORDS` in a process of its own, which writes what it says to a file; returns its id."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        with output.open("w") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
        from kdarts.cli.main import main

        code = main(words)
        sys.stdout.flush()
    finally:
        os._exit(code)


def ended(child: int, most: float = 0.0) -> int | None:
    """The exit code of a process once it has ended, or None if it has not after `most` seconds."""
    limit = time.monotonic() + most
    while True:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= limit:
            return None
        time.sleep(0.01)


def finish(words: list[str], output: pathlib.Path) -> str:
    """Runs a command to its end; returns what it printed, raises `RuntimeError` if it failed."""
    code = ended(start(words, output), _MOST)
    if code != 0:
        raise RuntimeError(f"kdarts {' '.join(words)}: exit code {code}: {output.read_text()[-2000:]}")
    return output.read_text()


def unfinished(workdir: pathlib.Path) -> list[pathlib.Path]:
    """Checkpoints that are being written, or were when their process died."""
    folders = [folder / name for folder in (workdir, *workdir.glob("stages/*")) for name in ("backup", "path_backup")]
    return [
        folder / name for folder in folders if folder.is_dir() for name in os.listdir(folder) if name.endswith("_temp")
    ]


def kill(words: list[str], workdir: pathlib.Path, after: float, writes: int) -> tuple[float, bool] | None:
    """Starts a command and kills it.

    Args:
        words: the command.
        workdir: its folder.
        after: seconds from its first file to the kill, if `writes` is 0.
        writes: the number of the checkpoint during whose writing it is killed; 0: whichever.

    Returns:
        The seconds from its first file to the kill, and whether a checkpoint was half written; None if it ended before.
    """
    child, began, seen, before = start(words, workdir.with_suffix(".out")), None, 0, []
    while True:
        if ended(child) is not None:
            return None
        now = time.monotonic()
        if began is None:
            began = now if (workdir / "flags.flags").exists() else None
            time.sleep(0.002)
            continue
        if writes:
            found = unfinished(workdir)
            seen += bool(found) and found != before
            before = found
            if seen == writes:
                break
        elif now - began >= after:
            break
        time.sleep(0.0 if writes else 0.002)
    os.kill(child, signal.SIGKILL)
    ended(child, _MOST)
    return time.monotonic() - began, bool(unfinished(workdir))


def kill_one(name: str, folder: pathlib.Path, number: int, length: float, draw: random.Random) -> Kill:
    """Kills a run once, lets it go on, and compares."""
    workdir = folder / f"{name}-{number:02d}"
    words = [*tiny_runs.words_of(name, folder / "start.json", workdir), "--checkpoint_every=2"]
    writes = draw.randint(1, 8) if number % 3 == 2 else 0
    while True:
        shutil.rmtree(workdir, ignore_errors=True)
        outcome = kill(words, workdir, draw.uniform(0, length), writes)
        if outcome is not None:
            break
        length, writes = 0.8 * length, max(0, writes - 2)
    said = finish(words, workdir.with_suffix(".out"))
    place = next((line for line in said.splitlines() if "going on after" in line), "from the start")
    return Kill(name, *outcome, place, tiny_runs.difference(folder / name, workdir))


def parse(arguments: list[str]) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(prog="kill_runs", description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", type=pathlib.Path, required=True, help="folder for the runs, new or left by this")
    parser.add_argument("--kills", type=int, default=30, help="shared among the runs (default: 30)")
    parser.add_argument("--runs", default=",".join(tiny_runs.SEARCHES), help="names, with commas")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Kills.

    Args:
        arguments: without the program's name; None: those of this process.

    Returns:
        0 if every run came to the same, else 1.
    """
    chosen = parse(list(sys.argv[1:] if arguments is None else arguments))
    names, draw, kills, lengths = chosen.runs.split(","), random.Random(chosen.seed), [], {}
    import tensorflow  # noqa: F401

    import kdarts  # noqa: F401

    chosen.workdir.mkdir(parents=True, exist_ok=True)
    tiny_runs.START.save(chosen.workdir / "start.json")
    if set(names) & tiny_runs.STREAMED.keys():
        from kdarts.data import sources

        sources.IN_MEMORY = 0  # Pictures are read for each batch, few as they are.
        if not (chosen.workdir / "pictures").exists():
            tiny_runs.write_pictures(chosen.workdir / "pictures")
    for number in range(chosen.kills):
        name = names[number % len(names)]
        if name not in lengths:
            words = tiny_runs.words_of(name, chosen.workdir / "start.json", chosen.workdir / name)
            shutil.rmtree(chosen.workdir / name, ignore_errors=True)
            finish(words, chosen.workdir / f"{name}.out")
            first, last = ((chosen.workdir / name / file).stat().st_mtime for file in ("flags.flags", "summary.json"))
            lengths[name] = last - first
        found = kill_one(name, chosen.workdir, number // len(names), lengths[name], draw)
        kills.append(found)
        print(
            f"{number + 1:3d} {name}: killed after {found.seconds:.2f} s{' while writing' if found.writing else ''}; "
            f"{found.place}; {found.difference or 'the same'}",
            flush=True,
        )
    print("\n| run | kills | while a checkpoint was written | the same |\n| --- | --- | --- | --- |")
    for name in names:
        own = [found for found in kills if found.name == name]
        same = sum(found.difference is None for found in own)
        print(f"| {name} | {len(own)} | {sum(found.writing for found in own)} | {same} |")
    return int(any(found.difference for found in kills))


if __name__ == "__main__":
    sys.exit(main())
