"""Measures how long each operation of a search takes on this machine, for latencies in milliseconds.

    python tools/latency_table.py [--to=latencies.json] [--dtype=float32] [--threads=1] [FLAGS OF kdarts search]

All other flags say which search: its space, data set, channels, cells and so on give the operations and the sizes that
a network of it may have. Each of them, stem and adapters of cells included, is a LiteRT file of its own, as it stands
in a trained network, and takes one image. In several rounds, each in an order of its own, the quickest of many calls
counts, as whatever else the machine does only makes a call longer; of the rounds the median, less that of a file that
does next to nothing. For example, and then the search:

    python tools/latency_table.py --to=latencies.json --dtype=int8 --space=mobile --dataset=cifar10 --data_dir=DIR
    kdarts search --space=mobile --dataset=cifar10 --data_dir=DIR --max_latency_ms=1 --latency_table=latencies.json

What a network takes is then estimated as the sum over its operations, without its classifier. Operations that could run
side by side are added up all the same. For a chain of choices random whole networks are measured, too: the table says
by how much the sums were off once a factor and an offset were fitted on half of them, and how well they rank.
"""

import argparse
import json
import pathlib
import platform
import sys
import tempfile
import time
import warnings
from importlib.metadata import version

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))  # Runs where kdarts is not installed, too.

from kdarts.cli import options
from kdarts.cli import search as search_command
from kdarts.cli.command import exit_code, naming_flags
from kdarts.cli.process import hushed, start_tensorflow
from kdarts.genotypes.errors import KdartsError

LEAST_IMAGES = 1000
"""Enough of a data set to know its images' size and its classes."""

WARM_UP, CALIBRATED = 10, 8
"""Calls before the first that counts, and random images that int8 ranges are taken from."""

DTYPES = ("float32", "int8")


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        raise KdartsError(message)


def parse(arguments: list[str]):
    """The own options and the flags; raises `KdartsError` or `flags.Error` where they make no sense."""
    parser = _Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("--to", type=pathlib.Path, default=pathlib.Path("latencies.json"), help="the table")
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help="of the files")
    parser.add_argument("--threads", type=int, default=1, help="of LiteRT")
    parser.add_argument("--rounds", type=int, default=5, help="of which the median counts")
    parser.add_argument("--runs", type=int, default=20, help="calls in each round, of which the quickest counts")
    parser.add_argument("--validate", type=int, default=20, help="random whole networks of a chain of choices; 0: none")
    chosen, rest = parser.parse_known_args(arguments)
    for name, least in (("threads", 1), ("rounds", 1), ("runs", 1), ("validate", 0)):
        if getattr(chosen, name) < least:
            raise KdartsError(f"--{name}={getattr(chosen, name)}: allowed is {least} and more")
    values = search_command.SEARCH.parse(["search", *(word for word in rest if word != "--")])
    values.limit = values.limit or LEAST_IMAGES
    return chosen, values


def wanted(supernet) -> dict[tuple, object]:
    """What a network of a supernet may hold: by the keys of the table what adds it to a functional model.

    Raises `KdartsError` for a HyperCuboid of Keras layers, of which a table has no rows.
    """
    from kdarts.ops.cost import Latencies, computes_nothing
    from kdarts.ops.layers import apply_operation
    from kdarts.ops.operations import get_operation
    from kdarts.supernet.cost import candidate_costs

    found = {}
    if supernet.grid:
        if not supernet.placed:
            raise KdartsError("this HyperCuboid's layers have no table of latencies")
        for chain in supernet.chains.values():
            for part, (height, width, channels) in chain.placed:
                key = part.operation.name, channels, part.filters, part.stride, height, width
                found[key] = lambda x, part=part: part.evaluation_form(x, "op")
        return found

    class Asked(Latencies):
        def of(self, operation, channels, filters, stride, size):
            if not computes_nothing(operation, stride):
                key = operation.name, channels, filters, stride, *size
                found[key] = lambda x: apply_operation(operation, x, filters, stride, "op")
            return 0.0

    # A cell that comes out empty is a skip connection, and a node that does leaves its cell's output narrower.
    operations = (*supernet.space.candidates, get_operation("skip_connect"))
    for outputs in range(1, supernet.multiplier + 1):
        outside = supernet.stem, supernet.image_shape, supernet.channels
        candidate_costs(operations, supernet.plan, supernet.edges, outputs, *outside, Asked({}))
    return found


def litert_file(network, dtype: str) -> bytes:
    """A network as a LiteRT file that takes one image."""
    from kdarts.serving.c_array import model_bytes
    from kdarts.serving.export import write_litert

    images = np.random.default_rng(0).normal(size=(CALIBRATED, *network.input_shape[1:])).astype("float32")
    with tempfile.TemporaryDirectory() as folder, hushed():
        path = pathlib.Path(folder, "model.tflite")
        how = {"weights": "int8", "int8_io": True} if dtype == "int8" else {}
        write_litert(network, path, {"class_names": []}, images, batch=1, **how)
        return model_bytes(path)


def measure(files: list[bytes], threads: int, rounds: int, runs: int) -> list[float]:
    """Milliseconds of a call of each file: the median of several rounds, each in an order of its own.

    Args:
        files: LiteRT files.
        threads: of LiteRT.
        rounds: how often all are measured.
        runs: calls in a round, of which the quickest counts.
    """
    from kdarts.serving.served import litert

    interpreters, rng = [], np.random.default_rng(0)
    for data in files:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # TensorFlow's interpreter tells that it moves to a package of its own.
            interpreters.append(litert(model_content=data, num_threads=threads))
        interpreters[-1].allocate_tensors()
        (details,) = interpreters[-1].get_input_details()
        values = rng.normal(size=details["shape"]) * (30 if details["dtype"] == np.int8 else 1)
        interpreters[-1].set_tensor(details["index"], values.astype(details["dtype"]))
        for _ in range(WARM_UP):
            interpreters[-1].invoke()
    found = np.empty((rounds, len(files)))
    for row in found:
        for number in rng.permutation(len(files)):
            times = []
            for _ in range(runs):
                began = time.perf_counter_ns()
                interpreters[number].invoke()
                times.append(time.perf_counter_ns() - began)
            row[number] = min(times) / 1e6
    return np.median(found, 0).tolist()


def validated(sums, whole) -> dict[str, float]:
    """How well sums of a table say what whole networks take; both in milliseconds, `[networks]`.

    A factor and an offset are fitted on the first half; the second half gives `error`, the mean of the relative errors,
    `within_10_percent`, a share, and `spearman`, the correlation of the ranks.
    """
    sums, whole, half = np.asarray(sums), np.asarray(whole), len(whole) // 2
    factor, offset = np.polyfit(sums[:half], whole[:half], 1)
    off = np.abs((factor * sums + offset)[half:] / whole[half:] - 1)
    ranks = [np.argsort(np.argsort(values[half:])) for values in (sums, whole)]
    found = {"factor": factor, "offset_ms": offset, "error": off.mean(), "within_10_percent": (off <= 0.1).mean()}
    found["spearman"] = np.corrcoef(*ranks)[0, 1] if half > 1 else 0.0
    return {"networks": len(whole), **{name: round(float(value), 4) for name, value in found.items()}}


def random_networks(search, count: int) -> list[tuple]:
    """Paths by random numbers in place of α, each with its network."""
    from kdarts.search.random_search import random_found

    paths = [random_found(search, 0, number) for number in range(count)]
    return [(path, search.supernet.network(path)) for path in paths]


def run(arguments: list[str]) -> None:
    """Measures and writes the table."""
    chosen, values = parse(arguments)
    with naming_flags(values):
        start, method = search_command.chosen_start(values, options.chosen_method(values))
    limits = dict.fromkeys(("target_latency_ms", "max_latency_ms"))
    method = method.override(**limits, latency_table="", stages=())
    start_tensorflow()
    import keras

    from kdarts.ops.cost import Latencies
    from kdarts.training.distribution import configure_threads

    configure_threads()
    data = options.load(values, "train")
    search = search_command.build(values, method, data.image_shape, data.num_classes, start)
    supernet = search.supernet
    asked = wanted(supernet)
    print(f"{len(asked)} operations at their sizes", flush=True)
    keys, files = sorted(asked), []
    image = keras.Input((1, 1, 1))
    files.append(litert_file(keras.Model(image, keras.layers.ReLU()(image)), chosen.dtype))
    for key in keys:
        image = keras.Input((*key[4:], key[1]))
        files.append(litert_file(keras.Model(image, asked[key](image)), chosen.dtype))
    chain = supernet.grid and supernet.allowed.shape[1] == 1
    whole = random_networks(search, chosen.validate) if chain else []
    files += [litert_file(network, chosen.dtype) for _, network in whole]
    empty, *times = measure(files, chosen.threads, chosen.rounds, chosen.runs)
    rows = {key: max(0.0, ms - empty) for key, ms in zip(keys, times, strict=False)}
    for key, ms in rows.items():
        print(f"{ms:8.4f} ms  {key[0]}, {key[1]} to {key[2]} channels, stride {key[3]}, {list(key[4:])}", flush=True)
    about = {name: getattr(chosen, name) for name in ("dtype", "threads", "rounds", "runs")}
    about |= {"runtime": f"TensorFlow {version('tensorflow')}", "machine": platform.processor() or platform.machine()}
    table = Latencies(rows)
    if len(whole) > 3:
        sums = [supernet.cost_of(path, table).latency_ms for path, _ in whole]
        about["validation"] = validated(sums, [ms - empty for ms in times[len(keys) :]])
        print(json.dumps(about["validation"]), flush=True)
    table.save(chosen.to, **about)
    print(f"wrote {chosen.to}", flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Runs the program.

    Args:
        arguments: without the program's name; None: those of this process.

    Returns:
        As of `exit_code`.
    """
    return exit_code("latency_table.py", lambda: run(sys.argv[1:] if arguments is None else arguments))


if __name__ == "__main__":
    sys.exit(main())
