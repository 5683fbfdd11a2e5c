"""`kdarts benchmark`: methods scored by a table of true accuracies."""

import concurrent.futures
import os
import re
import statistics
import threading
import time
from dataclasses import dataclass

from absl import flags

from kdarts.cli import options, search, seeds
from kdarts.cli.command import Command
from kdarts.cli.process import start_tensorflow
from kdarts.genotypes.errors import KdartsError, quoted, shortened
from kdarts.search.method import method_names
from kdarts.supernet.spaces import get_space

_OWN = ("table", "methods", "seeds", "jobs", "method")
_SPACE = "nasbench201"


@dataclass(frozen=True)
class Contestant:
    """A method with other choices on some axes.

    Attributes:
        label: its text in `--methods`, such as `darts+order=second`.
        words: its part of the command of a search.
    """

    label: str
    words: tuple[str, ...]

    @property
    def folder(self) -> str:
        """Its label as the name of a folder."""
        return re.sub(r"[^\w+=.,-]", "_", self.label)


def define(values: flags.FlagValues) -> None:
    """Declares the flags of one search, which are the same for all, and those of the benchmark."""
    search.define_one(values)
    text = "CSV with the columns architecture and an accuracy in % for each data set"
    flags.DEFINE_string("table", None, text, flag_values=values)
    text = "methods, separated by commas; +AXIS=VALUE behind one is another choice, as in darts+order=second"
    flags.DEFINE_string("methods", "darts,beta_darts", text, flag_values=values)
    flags.DEFINE_string("seeds", "0-2", "seeds of each method's searches, such as 0,1,2 or 10-14", flag_values=values)
    options.positive("jobs", 1, "searches at a time, which share the processor's cores among them", values, 1000)
    flags.DEFINE_string("workdir", "runs/benchmark", "folder of the benchmark", flag_values=values)


def contestants(text: str) -> list[Contestant]:
    """Parses `--methods`. A part between commas that does not begin with a method belongs to the value before it."""
    pieces = []
    for piece in text.split(","):
        if piece.strip().split("+")[0] in method_names() or not pieces:
            pieces.append(piece.strip())
        else:
            pieces[-1] += f",{piece}"
    found = []
    for piece in pieces:
        name, *choices = piece.split("+")
        if name not in method_names():
            raise KdartsError(f"--methods: unknown method {quoted(name)}; allowed: {', '.join(method_names())}")
        for other in choices:
            axis, equals, _ = other.partition("=")
            if axis not in options.names() or not equals:
                raise KdartsError(f"--methods: {quoted(piece)} has {quoted(other)} in place of AXIS=VALUE; see --help")
        found.append(Contestant(piece, (f"--method={name}", *(f"--{other}" for other in choices))))
    if len({one.folder for one in found}) < len(found):
        raise KdartsError(f"--methods={shortened(text)}: names one twice")
    return found


def parse_seeds(text: str) -> list[int]:
    """Parses `--seeds`, such as `0,1,2` or `10-14`."""
    numbers = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,9})(?:-(\d{1,9}))?\s*", part)
        if not match or int(match[2] or match[1]) - int(match[1]) not in range(1000):
            raise KdartsError(f"--seeds={shortened(text)}: needs numbers from 0, such as 0,1,2 or 10-14")
        numbers += range(int(match[1]), int(match[2] or match[1]) + 1)
    if len(set(numbers)) < len(numbers):
        raise KdartsError(f"--seeds={shortened(text)}: names one twice")
    return numbers


def run(values: flags.FlagValues) -> None:
    """Runs or continues the searches, and scores their genotypes."""
    from kdarts.training.workdir import Workdir
    from kdarts.tuning.scores import AccuracyTable

    if values.table is None:
        raise KdartsError("--table: needs the CSV of true accuracies, with columns architecture and one a data set")
    table, numbers, methods = AccuracyTable.load(values.table), parse_seeds(values.seeds), contestants(values.methods)
    common = seeds.given(values, [name for name in values if name not in seeds.OWN | set(_OWN)])
    common = ["search", *([] if values["space"].present else [f"--space={_SPACE}"]), *common]
    if not values["validate_every"].present:
        common.append("--validate_every=0")
    start_tensorflow()
    for one in methods:
        _check([*common, *one.words], table)
    workdir = Workdir(values.workdir)
    # The same folder takes more methods, seeds or processes.
    remembered = {name: value for name, value in options.remembered(values).items() if name not in _OWN}
    workdir.begin(remembered, options.usual(values))
    _run_all(common, methods, numbers, values.jobs, workdir, table)
    _write(methods, numbers, workdir, table)


def _check(words: list[str], table) -> None:
    """Refuses a search with wrong flags, or with a result that the table does not have."""
    values = search.SEARCH.parse(words)
    method = options.chosen_method(values)
    search.check(values, method)
    if method.sharing != "shared":
        raise KdartsError(f"{method.name}: its cells differ, and a table knows one at a time; add +sharing=shared")
    space = None if method.on_grid else get_space(method.space)
    if space is None or not space.stages:
        raise KdartsError(f"--space={method.space}: a table knows cells of one input; take --space={_SPACE}")
    table.check_space(space.operations, values.nodes or space.nodes)


def _run_all(common, methods, numbers, jobs, workdir, table) -> None:
    """Runs all searches that are not finished, `jobs` at a time."""
    from kdarts.training.repeats import search_is_whole
    from kdarts.tuning.scores import score

    tasks = [(one, seed, workdir / "searches" / one.folder / str(seed)) for seed in numbers for one in methods]
    left = [task for task in tasks if not search_is_whole(task[2] / "search")]
    if len(left) < len(tasks):
        print(f"{len(tasks) - len(left)} of {len(tasks)} searches were finished before", flush=True)
    began, done, lock = time.monotonic(), [], threading.Lock()
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    places = list(range(jobs))

    def share_cores():
        # For this thread, and so for the processes that it starts.
        with lock:
            place = places.pop()
        if jobs > 1 and len(cores) >= jobs:
            os.sched_setaffinity(0, cores[place::jobs])

    def work(one, seed, folder):
        seeds.Commands([*common, *one.words], [], quiet=True).search(seed, folder / "search")
        found = score(folder / "search", table)
        with lock:
            done.append(one)
            ahead = (time.monotonic() - began) / len(done) * (len(left) - len(done))
            accuracies = " / ".join(f"{found[name]:.2f}" for name in table.names)
            print(
                f"{len(done)} of {len(left)} · {one.label}, seed {seed}: {accuracies} in {found['wall_seconds']:.0f} s"
                f" · {int(ahead // 60)}:{int(ahead % 60):02} left",
                flush=True,
            )

    with concurrent.futures.ThreadPoolExecutor(jobs, initializer=share_cores) as pool:
        futures = [pool.submit(work, *task) for task in left]
        try:
            for future in concurrent.futures.as_completed(futures):
                future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _write(methods, numbers, workdir, table) -> None:
    """Writes `searches.csv`, `results.csv`, `results.md` and `curves.png`, and prints the table."""
    from kdarts.genotypes.files import write_text
    from kdarts.training.workdir import write_table
    from kdarts.tuning.scores import course, markdown, score, together
    from kdarts.views.curves import draw_benchmark

    searches, results, courses = [], {}, {}
    for one in methods:
        folders = [workdir / "searches" / one.folder / str(seed) / "search" for seed in numbers]
        rows = [score(folder, table) for folder in folders]
        searches += [{"method": one.label, "seed": seed, **row} for seed, row in zip(numbers, rows, strict=True)]
        results[one.label] = together(rows, table.names)
        epochs = list(zip(*(course(folder, table) for folder in folders), strict=False))
        keys = ("seconds", table.names[0])
        courses[one.label] = [tuple(statistics.fmean(row[key] for row in epoch) for key in keys) for epoch in epochs]
    write_table(workdir / "searches.csv", searches)
    write_table(workdir / "results.csv", [{"method": label, **row} for label, row in results.items()])
    text = markdown(results, table)
    write_text(workdir / "results.md", text)
    draw_benchmark(courses, workdir / "curves.png", table.best[0], table.mean[0], f"{table.names[0]} (%)")
    print(f"\n{text}\n{workdir / 'results.md'}, {workdir / 'curves.png'}")


BENCHMARK = Command(
    "methods, scored by a table of true accuracies",
    define,
    run,
    example="kdarts benchmark --table=accuracy.csv --dataset=cifar10 --data_dir=DIR --methods=darts,gdas --seeds=0-4",
)
