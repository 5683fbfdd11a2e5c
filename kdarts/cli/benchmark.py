"""`kdarts benchmark`: methods scored by a table of true accuracies, or by what they choose in a space made to fail."""

import concurrent.futures
import functools
import gc
import itertools
import re
import statistics
import threading
import time
from dataclasses import dataclass

from absl import flags

from kdarts.cli import options, search, seeds
from kdarts.cli.command import Command
from kdarts.cli.process import core_shares, start_tensorflow
from kdarts.genotypes.errors import KdartsError, choice, quoted, shortened
from kdarts.genotypes.settings import MOST
from kdarts.search.method import method_names
from kdarts.search.selection import SCORES
from kdarts.supernet.grids import cuboid_names
from kdarts.supernet.spaces import get_space

_OWN = ("table", "methods", "seeds", "jobs", "method", "along", "scores")


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
    text = "CSV with the columns architecture and an accuracy in % for each data set, or, for cells of DARTS' space, "
    text += "genotype and last (after the last epoch); unset: skip connections and noise are counted, as in --space=s4"
    flags.DEFINE_string("table", None, text, flag_values=values)
    text = "with a table of genotypes, validation batches on which each supernet's loss along its cells is measured"
    flags.DEFINE_integer("along", 0, text, 0, MOST, flag_values=values)
    text = "with a table of genotypes, scores without training by which its cells are ranked, or none"
    flags.DEFINE_string("scores", ",".join(SCORES), text, flag_values=values)
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


def parse_scores(text: str) -> list[str]:
    """Parses `--scores`, such as `params,rule` or `none`."""
    names = [] if text.strip() in ("none", "") else [word.strip() for word in text.split(",")]
    for name in names:
        choice("--scores", name, SCORES)
    return list(dict.fromkeys(names))


def run(values: flags.FlagValues) -> None:
    """Runs or continues the searches, and scores their genotypes."""
    from kdarts.training.workdir import Workdir

    truth, numbers, methods = _truth(values), parse_seeds(values.seeds), contestants(values.methods)
    scores = parse_scores(values.scores)
    common = seeds.given(values, [name for name in values if name not in seeds.OWN | set(_OWN)])
    common = ["search", *([] if values["space"].present else [f"--space={truth.space}"]), *common]
    if not values["validate_every"].present:
        common.append("--validate_every=0")
    start_tensorflow()
    for one in methods:
        _check([*common, *one.words], truth)
    workdir = Workdir(values.workdir)
    # The same folder takes more methods, seeds or processes.
    remembered = {name: value for name, value in options.remembered(values).items() if name not in _OWN}
    workdir.begin(remembered, options.usual(values))
    _run_all(common, methods, numbers, values.jobs, workdir, truth)
    if hasattr(truth, "zero_cost"):
        data = functools.lru_cache(1)(lambda seed: search.halves(search.SEARCH.parse([*common, f"--seed={seed}"])))
        for seed, one in itertools.product(numbers, methods) if values.along else ():
            folder = workdir / "searches" / one.folder / str(seed)
            _measure_along([*common, *one.words], folder, seed, truth, values.along, data)
        _rank_untrained([*common, *methods[0].words], workdir, truth, scores)
    _write(methods, numbers, workdir, truth)


def _truth(values: flags.FlagValues):
    """What the searches are scored by."""
    from kdarts.tuning.cells import CellTable, Counts
    from kdarts.tuning.scores import AccuracyTable, columns

    if values.table is not None:
        kind = CellTable if "genotype" in columns(values.table) else AccuracyTable
        truth = kind.load(values.table)
    else:
        space = get_space(values.space) if values.space not in (None, *cuboid_names()) else None
        truth = None if space is None or space.stages else Counts(space)
        if truth is None or not truth.names:
            needed = "columns architecture and one a data set, or genotype and last"
            raise KdartsError(
                f"--table: needs the CSV of true accuracies, with {needed}; only --space=s4 and the like "
                "(s2, s3: noise and skip connections are counted there) needs none"
            )
    for name in ("along", "scores"):
        if values[name].present and not isinstance(truth, CellTable):
            raise KdartsError(f"--{name}: is about a table of genotypes")
    return truth


def _check(words: list[str], truth) -> None:
    """Refuses a search with wrong flags, or with a result that cannot be scored."""
    values = search.SEARCH.parse(words)
    method = options.chosen_method(values)
    search.check(values, method)
    if method.sharing != "shared":
        raise KdartsError(f"{method.name}: its cells differ, and a table knows one at a time; add +sharing=shared")
    space = None if method.on_grid else get_space(method.space)
    try:
        truth.check(space, values.nodes or (space.nodes if space else 0))
    except KdartsError as error:
        raise KdartsError(f"{method.name} in --space={method.space}: {error}") from None


def _measure_along(words: list[str], folder, seed: int, table, count: int, data) -> None:
    """Measures the loss of a finished search's supernet along all cells of a table, unless that is known.

    `data` is a function from the seed to the `search.halves`.
    """
    import keras

    from kdarts.search.along import losses_along
    from kdarts.training.workdir import Workdir
    from kdarts.tuning.cells import known, note

    file, names = folder / "along.csv", ("loss", "batches")
    losses = {text: found for text, found in known(file, names).items() if found[1] == count}
    left = [place for place, text in enumerate(table.texts) if text not in losses]
    if not left:
        return
    values = search.SEARCH.parse([*words, f"--seed={seed}", f"--workdir={folder / 'search'}"])
    start, method = search.chosen_start(values, options.chosen_method(values))
    halves = data(seed)
    found, _ = search.search_in(Workdir(folder / "search"), values, method, halves, start)  # Restored: it is finished.
    batches = _held_back(halves, method).take(count)
    measured = losses_along(found, [table.genotypes[place] for place in left], batches)
    losses |= {table.texts[place]: (loss, count) for place, loss in zip(left, measured, strict=True)}
    note(file, names, losses)
    del found
    keras.utils.clear_session()
    gc.collect()


def _held_back(data, method):
    """The batches of α's images in order, of `data` of `search.halves`."""
    from kdarts.data.pipeline import eval_dataset

    return eval_dataset(data.valid, method.batch_size, data.mean, data.std)


def _rank_untrained(words: list[str], workdir, table, names: list[str]) -> None:
    """Gives a table the scores without training of its cells, in networks of the sizes of a search."""
    from kdarts.search import zero_cost
    from kdarts.tuning.cells import known, note

    values = search.SEARCH.parse(words)
    method = options.chosen_method(values)
    read = functools.cache(lambda: _sizes_and_images(values, method))
    for name in names:
        columns = zero_cost.FIGURES[name]
        place = workdir / f"scores_{name}_{method.channels}x{method.cells}.csv"
        rows = known(place, columns)
        left = [n for n, text in enumerate(table.texts) if text not in rows]
        for number, n in enumerate(left, 1):
            rows[table.texts[n]] = [*zero_cost.figures(table.genotypes[n], name, *read()).values()]
            if number % 10 == 0 or number == len(left):
                note(place, columns, rows)
                gc.collect()
        pool = [dict(zip(columns, rows[text], strict=True)) for text in table.texts]
        table.zero_cost[name] = zero_cost.compared(name, pool)


def _sizes_and_images(values, method) -> tuple:
    """What networks of the sizes of a search have in common, and a batch of its images."""
    from kdarts.search.zero_cost import Sizes

    data = search.halves(values)
    shape, frame = tuple(data.train.image_shape), options.frame(values, get_space(method.space))
    images, _ = next(iter(_held_back(data, method)))
    return Sizes(shape, data.train.num_classes, method.channels, method.cells, values.stem, frame), images


def _run_all(common, methods, numbers, jobs, workdir, truth) -> None:
    """Runs all searches that are not finished, `jobs` at a time."""
    from kdarts.training.repeats import search_is_whole

    tasks = [(one, seed, workdir / "searches" / one.folder / str(seed)) for seed in numbers for one in methods]
    left = [task for task in tasks if not search_is_whole(task[2] / "search")]
    if len(left) < len(tasks):
        print(f"{len(tasks) - len(left)} of {len(tasks)} searches were finished before", flush=True)
    began, done, lock = time.monotonic(), [], threading.Lock()

    def work(one, seed, folder):
        seeds.Commands([*common, *one.words], [], quiet=True).search(seed, folder / "search")
        found = truth.score(folder / "search")
        with lock:
            done.append(one)
            ahead = (time.monotonic() - began) / len(done) * (len(left) - len(done))
            print(
                f"{len(done)} of {len(left)} · {one.label}, seed {seed}: {truth.told(found)}"
                f" in {found['wall_seconds']:.0f} s · {int(ahead // 60)}:{int(ahead % 60):02} left",
                flush=True,
            )

    with concurrent.futures.ThreadPoolExecutor(jobs, initializer=core_shares(jobs)) as pool:
        futures = [pool.submit(work, *task) for task in left]
        try:
            for future in concurrent.futures.as_completed(futures):
                future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _write(methods, numbers, workdir, truth) -> None:
    """Writes `searches.csv`, `results.csv`, `results.md` and `curves.png`, and prints the table."""
    from kdarts.genotypes.files import write_text
    from kdarts.training.workdir import write_table
    from kdarts.views.curves import draw_benchmark

    searches, results, courses = [], {}, {}
    for one in methods:
        folders = [workdir / "searches" / one.folder / str(seed) / "search" for seed in numbers]
        rows = [truth.score(folder) for folder in folders]
        searches += [{"method": one.label, "seed": seed, **row} for seed, row in zip(numbers, rows, strict=True)]
        results[one.label] = truth.together(rows)
        epochs = zip(*(truth.course(folder) for folder in folders), strict=False)
        courses[one.label] = [tuple(map(statistics.fmean, zip(*points, strict=True))) for points in epochs]
    write_table(workdir / "searches.csv", searches)
    write_table(workdir / "results.csv", [{"method": label, **row} for label, row in results.items()])
    text = truth.markdown(results)
    write_text(workdir / "results.md", text)
    draw_benchmark(courses, workdir / "curves.png", **truth.scale())
    print(f"\n{text}\n{workdir / 'results.md'}, {workdir / 'curves.png'}")


BENCHMARK = Command(
    "methods, scored by true accuracies, or in a space made to fail",
    define,
    run,
    example="kdarts benchmark --table=accuracy.csv --dataset=cifar10 --data_dir=DIR --methods=darts,gdas --seeds=0-4",
)
