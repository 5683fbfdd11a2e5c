"""Measures how long each operation of a search takes on this machine, for `kdarts search --target_latency_ms`.

    python tools/latency_table.py [--to=latencies.json] [--images=1] [--runs=50] [FLAGS OF kdarts search]

All other flags say which search: its space, data set, channels, cells and so on give the operations and the sizes that
a network of it may have. Each of them, stem and adapters of cells included, runs alone, compiled, as it stands in a
trained network; the quickest of the runs counts, less that of an empty call, as whatever else the machine does only
makes a run longer. For example, and then the search:

    python tools/latency_table.py --to=latencies.json --dataset=cifar10 --data_dir=DIR --channels=8 --cells=5
    kdarts search --dataset=cifar10 --data_dir=DIR --channels=8 --cells=5 --target_latency_ms=2 \
        --latency_table=latencies.json

What a network takes is then estimated as the sum over its operations, without its classifier. Operations that could run
side by side are added up all the same.
"""

import argparse
import pathlib
import platform
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))  # Runs where kdarts is not installed, too.

from kdarts.cli import options
from kdarts.cli import search as search_command
from kdarts.cli.command import exit_code, naming_flags
from kdarts.cli.process import start_tensorflow
from kdarts.genotypes.errors import KdartsError

LEAST_IMAGES = 1000
"""Enough of a data set to know its images' size and its classes."""

WARM_UP = 3


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        raise KdartsError(message)


def parse(arguments: list[str]):
    """`(to, images, runs, flags)`; raises `KdartsError` or `flags.Error` where they make no sense."""
    parser = _Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("--to", type=pathlib.Path, default=pathlib.Path("latencies.json"), help="the table")
    parser.add_argument("--images", type=int, default=1, help="in one call; the table counts whole calls")
    parser.add_argument("--runs", type=int, default=50, help="of each operation, of which the quickest counts")
    chosen, rest = parser.parse_known_args(arguments)
    for name in ("images", "runs"):
        if getattr(chosen, name) < 1:
            raise KdartsError(f"--{name}={getattr(chosen, name)}: allowed is 1 and more")
    values = search_command.SEARCH.parse(["search", *(word for word in rest if word != "--")])
    values.limit = values.limit or LEAST_IMAGES
    return chosen.to, chosen.images, chosen.runs, values


def wanted(supernet) -> dict[tuple, object]:
    """What a network of a supernet may hold: operations by their keys in the table."""
    from kdarts.ops.cost import Latencies, computes_nothing
    from kdarts.ops.operations import get_operation
    from kdarts.supernet.cost import candidate_costs

    found = {}

    class Asked(Latencies):
        def of(self, operation, channels, filters, stride, size):
            if not computes_nothing(operation, stride):
                found[operation.name, channels, filters, stride, *size] = operation
            return 0.0

    # A cell that comes out empty is a skip connection, and a node that does leaves its cell's output narrower.
    operations = (*supernet.space.candidates, get_operation("skip_connect"))
    for outputs in range(1, supernet.multiplier + 1):
        outside = supernet.stem, supernet.image_shape, supernet.channels
        candidate_costs(operations, supernet.plan, supernet.edges, outputs, *outside, Asked({}))
    return found


def measure(build, shape, images: int, runs: int) -> float:
    """Milliseconds of the quickest call.

    Args:
        build: from a symbolic input to the output.
        shape: of one input, `(height, width, channels)`.
        images: in a call.
        runs: after the first few.
    """
    import keras
    import tensorflow as tf

    inputs = keras.Input(shape)
    model = keras.Model(inputs, build(inputs))
    call = tf.function(lambda x: model(x, training=False), autograph=False)
    x, times = tf.random.stateless_normal((images, *shape), (0, 0)), []
    for run in range(WARM_UP + runs):
        began = time.perf_counter()
        call(x).numpy()
        if run >= WARM_UP:
            times.append(1000 * (time.perf_counter() - began))
    return min(times)


def run(arguments: list[str]) -> None:
    """Measures and writes the table."""
    to, images, runs, values = parse(arguments)
    with naming_flags(values):
        start, method = search_command.chosen_start(values, options.chosen_method(values))
    method = method.override(target_latency_ms=None, latency_table="", stages=())
    start_tensorflow()
    import keras

    from kdarts.ops.cost import Latencies
    from kdarts.ops.layers import apply_operation
    from kdarts.supernet.hypercuboid import HyperCuboid
    from kdarts.training.distribution import configure_threads

    configure_threads()
    data = options.load(values, "train")
    supernet = search_command.build(values, method, data.image_shape, data.num_classes, start).supernet
    if isinstance(supernet, HyperCuboid):
        raise KdartsError(f"--method={method.name}: a HyperCuboid's layers have no table of latencies")
    rows, empty = {}, {}
    asked = wanted(supernet)
    print(f"{len(asked)} operations at their sizes", flush=True)
    for key, operation in sorted(asked.items(), key=lambda item: item[0]):
        _, channels, filters, stride, *size = key
        shape = (*size, channels)
        if shape not in empty:
            empty[shape] = measure(keras.layers.Identity(), shape, images, runs)

        def build(x, operation=operation, filters=filters, stride=stride):
            return apply_operation(operation, x, filters, stride, operation.name)

        rows[key] = max(0.0, measure(build, shape, images, runs) - empty[shape])
        print(f"{rows[key]:8.3f} ms  {key[0]}, {channels} to {filters} channels, stride {stride}, {size}", flush=True)
    about = {"images": images, "runs": runs, "machine": platform.processor() or platform.machine()}
    Latencies(rows).save(to, **about)
    print(f"wrote {to}", flush=True)


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
