"""A path of the mobile space beside random paths of equal MACs, uniform paths and networks made by hand.

    python tools/mobile_study.py --path=runs/mobile/genotype.json --data_dir=DIR [--workdir=runs/mobile-study] [OPTIONS]

All networks are trained by the recipe of `kdarts auto`, for equally many epochs, with each of the seeds:

    found        the path that is given
    random 1-5   paths drawn at random, of the same width, within the limits, whose MACs differ by 2 % at most
    uniform      of the paths with one block at every place, each at its largest width within the limits, the one that
                 is best on the images held back, after one training of each
    ResNet-8     within the limits
    MobileNetV2  with MobileNetV2's block and a width of 0.25

The images held back, 15 % of those for training, choose the uniform path alone; the table has the accuracy on all test
images.

Each training has a folder of its own in WORKDIR/trainings, so that the same command goes on where a killed study was,
and more seeds add to it. The results are WORKDIR/results.csv and .md.
"""

import argparse
import concurrent.futures
import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))  # Runs where kdarts is not installed, too.

import numpy as np

from kdarts.cli.command import exit_code
from kdarts.cli.process import core_shares, start_tensorflow
from kdarts.genotypes.cuboid import HyperPath
from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.files import write_text
from kdarts.training.workdir import Workdir, read_json, write_table

RANDOM, NEAR, DRAWS = 5, 0.02, 100_000
HELD_BACK = 0.15


def parse(arguments: list[str]) -> argparse.Namespace:
    """Returns what the command line asks for; raises `KdartsError` where it makes no sense."""

    class Parser(argparse.ArgumentParser):
        def error(self, message):
            raise KdartsError(message)

    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    add = parser.add_argument
    add("--path", type=pathlib.Path, required=True, help="the file of the path that a search found")
    add("--workdir", type=pathlib.Path, default=pathlib.Path("runs/mobile-study"))
    add("--dataset", default="cifar10", help="as of kdarts search; default: cifar10")
    add("--data_dir", help="as of kdarts search")
    add("--max_macs", type=float, default=12.51e6, help="limit of the MACs; default: 12,510,000, those of ResNet-8")
    add("--max_params", type=float, default=78_050, help="limit of the weights; default: 78,050, those of ResNet-8")
    add("--examples", type=int, default=10_000, help="training images to take, those held back included; 0: all")
    add("--epochs", type=int, default=20, help="of each training")
    add("--batch_size", type=int, default=64, help="of the trainings")
    add("--seeds", type=int, default=3, help="trainings of each network")
    add("--jobs", type=int, default=1, help="trainings at a time, which share the cores among them")
    add("--train", help=argparse.SUPPRESS)  # NAME:SEED, of the processes that train.
    chosen = parser.parse_args(arguments)
    for name, least in {"examples": 0, "epochs": 1, "batch_size": 1, "seeds": 1, "jobs": 1}.items():
        if getattr(chosen, name) < least:
            raise KdartsError(f"--{name}={getattr(chosen, name)}: allowed is {least} and more")
    return chosen


def networks(chosen, shape, classes: int) -> dict:
    """Returns the `Candidate`s by their names, all uniform ones among them."""
    from kdarts.auto.candidates import resnets
    from kdarts.auto.limits import Limits

    limits, found = Limits(macs=chosen.max_macs, params=chosen.max_params), HyperPath.load(chosen.path)
    if (kind := limits.exceeded(cost_of_path(found, classes))) is not None:
        raise KdartsError(f"{chosen.path}: exceeds the limit of {kind}")
    paths = {"found": found, "MobileNetV2": uniform(shape, "mb_k3_e6", 0.25)}
    paths |= {f"random {number}": path for number, path in enumerate(drawn_paths(found, limits, classes), 1)}
    for block in ("mb_k3_e3", "mb_k3_e6", "mb_k5_e3", "mb_k5_e6"):
        paths[f"uniform {block}"] = largest_uniform(block, shape, limits, classes)
    listed = {name: candidate(name, path, shape, classes) for name, path in paths.items()}
    return {**listed, "ResNet-8": resnets(8, shape, classes).largest(limits)}


def candidate(name: str, path: HyperPath, shape, classes: int):
    """Returns the `Candidate` of a path."""
    from kdarts.auto.candidates import FOUND, Candidate
    from kdarts.networks.network import build_network
    from kdarts.supernet.mobile import places

    def build():
        return build_network(path, shape, classes)

    stages = dict.fromkeys(after for _, after, _ in places(path.cuboid).values())
    return Candidate(name, FOUND, f"{'-'.join(map(str, stages))} channels", build, cost_of_path(path, classes), path)


def cost_of_path(path: HyperPath, classes: int):
    """Returns the `Cost` of a path, without building it."""
    from kdarts.supernet.mobile import block_costs

    costs, around = block_costs(path.cuboid, classes)
    return sum((costs[place, block] for place, block in enumerate(path.choices)), around)


def uniform(shape, block: str, width: float) -> HyperPath:
    """Returns the path of one block at every place."""
    from kdarts.supernet.mobile import mobile_axes, uniform_path

    return uniform_path(mobile_axes(tuple(shape), "auto", width), block)


def largest_uniform(block: str, shape, limits, classes: int) -> HyperPath:
    """Returns the path of one block at every place, at the largest width within the limits."""
    from kdarts.supernet.mobile import START_WIDTHS

    paths = [uniform(shape, block, width) for width in START_WIDTHS]
    within = [path for path in paths if limits.exceeded(cost_of_path(path, classes)) is None]
    if not within:
        raise KdartsError(f"no width of {block} at every place is within the limits")
    return within[-1]


def drawn_paths(found: HyperPath, limits, classes: int) -> list[HyperPath]:
    """Returns random paths of the found one's width, within the limits, and within 2 % of its MACs."""
    from kdarts.supernet.mobile import block_costs

    rng, drawn, macs = np.random.default_rng(0), {}, cost_of_path(found, classes).macs
    costs, around = block_costs(found.cuboid, classes)
    offered = [[number for number, cost in enumerate(place) if cost is not None] for place in costs]
    for _ in range(DRAWS):
        choices = tuple(int(rng.choice(there)) for there in offered)
        cost = sum((costs[place, block] for place, block in enumerate(choices)), around)
        near = abs(cost.macs / macs - 1) <= NEAR
        if near and limits.exceeded(cost) is None and choices != found.choices:
            drawn[choices] = HyperPath(found.cuboid, found.states, choices, found.space)
        if len(drawn) == RANDOM:
            return list(drawn.values())
    raise KdartsError(f"of {DRAWS:,} random paths not {RANDOM} are as large as the found one")


def folder_of(chosen, name: str, seed: int) -> pathlib.Path:
    """Returns the folder of a training."""
    return chosen.workdir / "trainings" / name.replace(" ", "-") / str(seed)


def train(chosen, name: str, seed: int) -> None:
    """Trains one network with one seed in its folder, and goes on with a training that was killed."""
    import keras

    from kdarts.auto.recipe import EMA, compile_network, learning_rate
    from kdarts.data import datasets
    from kdarts.data.augmentation import default_augmentation
    from kdarts.training.train_run import run_training

    limit = chosen.examples or None
    data, test = (datasets.load(chosen.dataset, chosen.data_dir, split=split) for split in ("train", "test"))
    data = data.take(np.arange(len(data))[:limit])
    images, valid = datasets.hold_back(data, HELD_BACK)
    mean, std = datasets.statistics(images.images)
    one = networks(chosen, data.image_shape, data.num_classes)[name]
    keras.utils.set_random_seed(seed)
    network = one.build()
    compile_network(network, chosen.batch_size)
    workdir = Workdir(folder_of(chosen, name, seed))
    workdir.begin({size: str(getattr(chosen, size)) for size in ("examples", "epochs", "batch_size")})
    about = {"genotype": name, "dataset": chosen.dataset, "seed": seed, "size": one.size}
    run_training(
        network,
        workdir,
        images,
        test,
        valid,
        epochs=chosen.epochs,
        batch_size=chosen.batch_size,
        schedule=learning_rate(chosen.batch_size, chosen.epochs),
        mean=mean,
        std=std,
        augmentation=default_augmentation(chosen.dataset, data.image_shape),
        seed=seed,
        about={**about, "params": one.cost.params, "macs": one.cost.macs},
        ema=EMA,
    )


def train_all(chosen, tasks: list[tuple[str, int]]) -> None:
    """Trains what is not trained yet, `--jobs` at a time, each in a process of its own."""
    from kdarts.training.entries import TRAINED
    from kdarts.training.repeats import training_is_whole

    left = [task for task in tasks if not training_is_whole(Workdir(folder_of(chosen, *task)), TRAINED)]

    def work(name, seed):
        command = [sys.executable, __file__, *sys.argv[1:], f"--train={name}:{seed}"]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        if done.returncode:
            raise KdartsError(f"{name}, seed {seed}: {done.stdout[-2000:]}")
        found = read_json(folder_of(chosen, name, seed) / "summary.json")
        print(f"{name}, seed {seed}: test accuracy {found['test_accuracy']:.4f}", flush=True)

    with concurrent.futures.ThreadPoolExecutor(chosen.jobs, initializer=core_shares(chosen.jobs)) as pool:
        try:
            for future in [pool.submit(work, *task) for task in left]:
                future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def figures(chosen, name: str, seed: int) -> dict:
    """Returns the summary of a finished training."""
    return read_json(folder_of(chosen, name, seed) / "summary.json")


def row(chosen, name: str) -> dict:
    """Returns the line of the table of one network."""
    from kdarts.training.repeats import spread

    each = [figures(chosen, name, seed) for seed in range(chosen.seeds)]
    mean, sd = spread([{"accuracy": one["test_accuracy"]} for one in each])
    sizes = {key: each[0][key] for key in ("params", "macs", "size")}
    return {"network": name, **sizes, "test_accuracy": mean, "sd": sd}


def table(rows: list[dict]) -> str:
    """Returns the table as Markdown."""
    lines = ["| network | weights | MACs (M) | test accuracy (%) |", "|---|---:|---:|---:|"]
    for one in rows:
        sd = "" if one["sd"] is None else f" ± {100 * one['sd']:.2f}"
        cells = f"{one['network']} ({one['size']})", f"{one['params']:,}", f"{one['macs'] / 1e6:.2f}"
        lines.append(f"| {' | '.join(cells)} | {100 * one['test_accuracy']:.2f}{sd} |")
    return "\n".join(lines) + "\n"


def study(chosen) -> None:
    """Trains all networks, and writes the tables."""
    from kdarts.data import datasets

    path = " ".join(chosen.path.read_text("utf-8").split())
    Workdir(chosen.workdir).begin({"path": path, "epochs": str(chosen.epochs), "examples": str(chosen.examples)})
    data = datasets.load(chosen.dataset, data_dir=chosen.data_dir, limit=100)
    conclude(chosen, list(networks(chosen, data.image_shape, data.num_classes)))


def conclude(chosen, names: list[str]) -> None:
    """Trains what is not trained yet, the uniform networks first, and writes the tables."""
    uniforms = [name for name in names if name.startswith("uniform")]
    train_all(chosen, [(name, 0) for name in uniforms])
    best = max(uniforms, key=lambda name: figures(chosen, name, 0)["held_back_accuracy"])
    kept = [name for name in names if name not in uniforms or name == best]
    train_all(chosen, [(name, seed) for seed in range(chosen.seeds) for name in kept])
    rows = [row(chosen, name) for name in kept]
    write_table(chosen.workdir / "results.csv", rows)
    write_text(chosen.workdir / "results.md", table(rows))
    print(table(rows))


def run() -> None:
    """Runs the command line."""
    chosen = parse(sys.argv[1:])
    start_tensorflow()
    if chosen.train is None:
        return study(chosen)
    from kdarts.training.distribution import configure_threads

    configure_threads()
    name, _, seed = chosen.train.rpartition(":")
    return train(chosen, name, int(seed))


if __name__ == "__main__":
    sys.exit(exit_code("mobile_study", run))
