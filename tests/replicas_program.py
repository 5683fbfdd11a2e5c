"""What `test_strategy` runs in processes of their own: searches on one device, on two, and as one of two workers.

    python replicas_program.py FILE CASE ...

writes to FILE, for each case, what is left of a short search: `CASE:number` of each variable, `CASE:loss` and so on.
With `TF_CONFIG` set the process is a worker.
"""

import contextlib
import os
import pathlib
import sys
import tempfile

from kdarts.cli.process import start_tensorflow

start_tensorflow()

import keras  # noqa: E402
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

from kdarts.networks.trunk import DropPath  # noqa: E402
from kdarts.ops.replicas import own_seed  # noqa: E402
from kdarts.search.loop import run_epochs  # noqa: E402
from kdarts.search.objective import without_graph_rewriting  # noqa: E402
from kdarts.search.replicas import draw_apart, make_strategy  # noqa: E402
from kdarts.search.search import Search  # noqa: E402
from kdarts.search.session import Session  # noqa: E402
from kdarts.supernet.spaces import listed_space  # noqa: E402
from kdarts.supernet.supernet import Supernet  # noqa: E402
from kdarts.training.checkpoint import Checkpoint  # noqa: E402

STEPS, SIZE, SHAPE, CLASSES = 5, 8, (8, 8, 1), 3


def batches():
    """Steps of `((x, y), (x_valid, y_valid))`."""
    random = np.random.RandomState(0)
    count = STEPS * SIZE
    halves = [
        (random.randn(count, *SHAPE).astype("float32"), random.randint(0, CLASSES, count, "int32")) for _ in range(2)
    ]
    return tf.data.Dataset.from_tensor_slices(tuple(halves)).batch(SIZE, drop_remainder=True).repeat()


def make(strategy, sync: bool, sharing="shared", dtype="float32", net=(), **choices):
    """A compiled search of a small supernet on `strategy`, or on none."""
    with strategy.scope() if strategy else contextlib.nullcontext():
        keras.utils.set_random_seed(0)
        space = listed_space("none,skip_connect,sep_conv_3x3")
        supernet = Supernet(space, SHAPE, CLASSES, 4, 3, [1], sharing, nodes=1, dtype=dtype, **dict(net))
        axes = {name: value for name, value in dict(net).items() if name != "recompute"}
        rates = {"learning_rate": 0.1, "arch_learning_rate": 3e-3}
        search = Search(supernet, sync_batch_norm=sync, sharing=sharing, **rates, **axes, **choices)
        search.compile()
    return search


def train(search, steps: int = STEPS) -> None:
    """One epoch of so many steps."""
    run_epochs(search, lambda first_step: batches(), steps=steps, epochs=1)


def left(search) -> dict:
    """Everything that a run leaves: weights and both optimizers, and what its metrics say."""
    variables = [*search.supernet.variables, *search.optimizer.variables, *search.arch_optimizer.variables]
    results = {name: np.asarray(value) for name, value in search.get_metrics_result().items()}
    return {str(number): variable.numpy() for number, variable in enumerate(variables)} | results


CASES = {
    "first": {"order": "first"},
    "second": {"order": "second"},
    "first_individual": {"order": "first", "sharing": "individual"},
    "second_individual": {"order": "second", "sharing": "individual"},
    "exact": {"order": "exact"},
    "ablation": {"method": "ddarts", "ablation": "exact", "net": {"mixing": "sigmoid"}},
    "epoch": {"update": "epoch", "order": "second"},
    "recompute": {"order": "first", "net": {"recompute": True}},
    "partial": {"order": "first", "net": {"partial_channels": 2}},
    "freezing": {"method": "oles", "freeze_window": 2, "freeze_every": 2},
}


def infinity(strategy) -> dict:
    """A step whose loss is infinite on the second replica alone, and then a good one, in mixed_float16."""

    def loss(y, logits):
        plain = keras.losses.sparse_categorical_crossentropy(y, logits, from_logits=True)
        return tf.reduce_mean(plain * tf.where(y == CLASSES - 1, np.inf, 1.0))

    search = make(strategy, False, dtype="mixed_float16", order="first")
    with strategy.scope():
        search.compile(loss=loss)
    optimizers = search.optimizer, search.arch_optimizer
    images, labels = np.ones((SIZE, *SHAPE), "float32"), np.arange(SIZE, dtype="int32") % 2
    found = {}
    for name, label in (("bad", CLASSES - 1), ("good", 0)):
        labels[-1] = label
        before = [v.numpy() for v in search.supernet.trainable_variables]
        data = tf.data.Dataset.from_tensors(((images, labels), (images, labels))).repeat()
        run_epochs(search, lambda first_step, data=data: data, steps=1, epochs=1)
        for replica in range(2):
            variables = search.supernet.trainable_variables
            after = [strategy.experimental_local_results(v.value)[replica].numpy() for v in variables]
            moved = [float(np.abs(x - y).max()) for x, y in zip(before, after, strict=True)]
            scales = [strategy.experimental_local_results(o.dynamic_scale.value)[replica].numpy() for o in optimizers]
            found |= {f"{name}:moved:{replica}": moved, f"{name}:scales:{replica}": scales}
    return found


def draws(strategy) -> dict:
    """What replicas draw on their own: masks of a drop-path and of a dropout on skips; and what they draw alike."""
    with strategy.scope():
        network = keras.Sequential([keras.Input((1,)), DropPath(0.5, seed=0)])
        mixture = make(strategy, False, net={"sampling": "gumbel"}).supernet.mixture

    draw_apart(network)

    def draw():
        kept = tf.random.stateless_uniform((64,), own_seed(tf.constant([1, 2], tf.int64)))
        return network.layers[0].mask(64), kept, mixture.drawn(training=True)[0][0]

    found = tf.function(lambda: strategy.run(draw), autograph=False)()
    parts = [strategy.experimental_local_results(value) for value in found]
    names = ("path", "skip", "alpha")
    return {f"{name}:{i}": part.numpy() for name, both in zip(names, parts, strict=True) for i, part in enumerate(both)}


class Restored(Session):
    """Begins a run where its newest checkpoint ends."""

    def __init__(self, checkpoint):
        self.checkpoint = checkpoint

    def begin(self, model, steps, epochs, record):
        return self.checkpoint.restore()

    def callbacks(self, model):
        return [self.checkpoint]


def checkpoint(strategy) -> dict:
    """What a search leaves, and what one leaves that goes on from its checkpoint after three steps."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in ("whole", "restored"):
            search = make(strategy, True, order="first")
            session = Restored(Checkpoint(folder, search, STEPS, every=3))
            run_epochs(search, lambda first: batches().skip(first), steps=STEPS, epochs=1, session=session)
            found |= {f"{name}:{key}": value for key, value in left(search).items()}
            for number, variable in enumerate(search.supernet.trainable_variables):
                values = enumerate(strategy.experimental_local_results(variable.value))
                found |= {f"{name}:{number}:{replica}": value.numpy() for replica, value in values}
            for file in pathlib.Path(folder).glob(f"ckpt-{STEPS}.*"):
                file.unlink()
    return found


def main(target: str, *names: str) -> None:
    """Runs cases and writes what is left of them."""
    worker = "TF_CONFIG" in os.environ
    if not worker:
        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    strategy = make_strategy("multi_worker" if worker else "mirrored")
    found = {}
    with without_graph_rewriting():
        for name in names:
            if name in SINGLE:
                found |= {f"{name}:{key}": value for key, value in SINGLE[name](strategy).items()}
                continue
            for number, on in {"two": strategy, "one": None}.items():
                if on or not worker:
                    search = make(on, True, **CASES[name])
                    train(search)
                    found |= {f"{name}:{number}:{key}": value for key, value in left(search).items()}
    np.savez(target, **found)


SINGLE = {"infinity": infinity, "draws": draws, "checkpoint": checkpoint}


if __name__ == "__main__":
    keras.utils.disable_interactive_logging()
    main(*sys.argv[1:])
