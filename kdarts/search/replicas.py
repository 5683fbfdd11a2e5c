"""Replicas of a run: on the devices of this machine, or of several machines (`tf.distribute`)."""

import contextlib
import json
import os

import keras
import numpy as np
import tensorflow as tf

from kdarts.genotypes.errors import KdartsError, choice
from kdarts.networks.models import SmoothedCrossentropy
from kdarts.networks.training_form import training_form
from kdarts.ops.layers import all_layers, running_statistics
from kdarts.ops.replicas import counted_once, loss_metric, mean_over_replicas, replicas

STRATEGIES = ("default", "mirrored", "multi_worker")
"""One device; all devices of this machine; all those of the machines in `TF_CONFIG`."""


_APART = 2654435761
"""Between the seeds of two replicas; odd, and far from any two seeds that someone chooses."""


def make_strategy(name: str) -> tf.distribute.Strategy:
    """The strategy called `name`; "multi_worker" has to be asked for before TensorFlow computes anything.

    Raises `KdartsError` for an unknown name, or a `TF_CONFIG` that says nothing usable.
    """
    choice("strategy", name, STRATEGIES)
    if name == "default":
        return tf.distribute.get_strategy()
    if name == "multi_worker":
        _check_cluster()
        return tf.distribute.MultiWorkerMirroredStrategy()
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    return tf.distribute.MirroredStrategy([device.name for device in devices])


def _check_cluster() -> None:
    """Raises `KdartsError` unless `TF_CONFIG` names workers and which of them this is."""
    text = os.environ.get("TF_CONFIG", "")
    example = '{"cluster": {"worker": ["host0:2222", "host1:2222"]}, "task": {"type": "worker", "index": 0}}'
    try:
        config = json.loads(text)
        cluster, task = config["cluster"], config["task"]
        address = cluster[task["type"]][int(task["index"])]
        good = task["type"] in ("chief", "worker") and int(task["index"]) >= 0
        good = good and all(":" in a for kind in ("chief", "worker") for a in cluster.get(kind, [])) and ":" in address
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        good = False
    if not good:
        raise KdartsError(f"--strategy=multi_worker: TF_CONFIG={text!r}; on each host it needs to be such as {example}")


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process is the one that writes files."""
    resolver = strategy.cluster_resolver
    if resolver is None or not resolver.task_type:
        return True
    kinds = resolver.cluster_spec().jobs
    return resolver.task_type == "chief" or ("chief" not in kinds and resolver.task_id == 0)


def is_spread(model: keras.Model) -> bool:
    """Whether a model was made in the scope of a strategy of several replicas."""
    return model.distribute_strategy.num_replicas_in_sync > 1


def build_rest(model: keras.Model, num_classes: int) -> None:
    """Makes the variables of a compiled classifier's optimizer and metrics, which would come only with the first step.

    They belong to the strategy in whose scope they are made.
    """
    model.optimizer.build(model.trainable_variables)
    model.compute_metrics(None, tf.zeros((1,), tf.int32), tf.zeros((1, num_classes)))
    model.reset_metrics()


def draw_apart(model: keras.Model) -> None:
    """Lets each replica draw dropouts of its own: the seeds of a model's generators differ, and count alike."""
    generators = [g for layer in all_layers(model) if (g := getattr(layer, "seed_generator", None)) is not None]
    states = [np.asarray(generator.state, np.uint32) for generator in generators]

    def each():
        number = tf.cast(tf.distribute.get_replica_context().replica_id_in_sync_group, tf.uint32)
        for generator, (seed, count) in zip(generators, states, strict=True):
            generator.state.assign(tf.stack([seed + number * np.uint32(_APART), count]))

    tf.function(lambda: model.distribute_strategy.run(each), autograph=False)()


def spread(batches: tf.data.Dataset, strategy: tf.distribute.Strategy, whole=lambda batch: ()):
    """Divides each batch among the replicas, in order: the first gets its first examples.

    Replicas get equal parts where the batch size is known and divides.

    Args:
        batches: dataset of nested tensors, each with its examples along the first axis.
        strategy: says how many they are, and which of them belong to this process.
        whole: from a batch to those of its tensors that every replica gets undivided.
    """

    def of_process(context):
        count = context.num_replicas_in_sync
        own = count // context.num_input_pipelines
        first = own * context.input_pipeline_id

        def parts(*batch):
            kept = {id(tensor) for tensor in tf.nest.flatten(whole(batch))}

            def part(number):
                return tf.nest.map_structure(lambda t: t if id(t) in kept else _part(t, number, count), batch)

            # One batch in memory, of which each replica's part is a slice.
            return tf.data.Dataset.range(first, first + own).map(plain(part))

        plain = tf.autograph.experimental.do_not_convert
        return batches.flat_map(plain(parts)).prefetch(own)

    return strategy.distribute_datasets_from_function(of_process)


def _part(tensor, number, count: int):
    size = tensor.shape[0]
    if size is not None and size % count == 0:
        return tf.reshape(tensor, [count, size // count, *tensor.shape[1:]])[number]
    size = tf.shape(tensor, tf.int64)[0]
    return tensor[number * size // count : (number + 1) * size // count]


def replica_step(model: keras.Model, teacher=None):
    """The training step of a compiled model as one replica takes it, from its part of a batch to its metrics.

    A classifier also learns from the `Teacher`, if there is one.
    """
    if type(model).train_step is not keras.Model.train_step:
        return model.train_step
    form = training_form(model)
    return lambda batch: _supervised_step(model, form, batch, teacher)


def run_on_replicas(model: keras.Model, step, batch) -> tuple:
    """Takes a step on all replicas, inside a `tf.function`, with a batch of a dataset of `spread`.

    The step goes from a replica's part of the batch to `(metrics, tensors)`. Returns what the metrics have come to,
    over all replicas, and the first replica's tensors.
    """
    strategy = model.distribute_strategy
    metrics, tensors = strategy.run(step, (batch,))
    # Read outside of the replicas, a metric is that of all of them; inside it is each one's own.
    results = model.get_metrics_result()
    tensors = tf.nest.map_structure(lambda tensor: strategy.experimental_local_results(tensor)[0], tensors)
    return {name: results[name] for name in metrics}, tensors


def _supervised_step(model: keras.Model, form: keras.Model, batch, teacher=None) -> dict:
    """As Keras' own step of `model`, by way of its `form`; but in Keras each replica clips its own gradient, and one of
    them decides what is finite."""
    x, y = batch
    weights = model.trainable_variables
    targets = teacher and teacher.targets(x)
    with tf.GradientTape() as tape:
        outputs = form(x, training=True)
        loss = model.compute_loss(x, y, outputs) * replicas()  # Keras' losses are shares of the replicas' sum.
        if teacher:
            loss = teacher.blended(loss, targets, outputs, getattr(model, "auxiliary_weight", 0.0))
        scaled = model.optimizer.scale_loss(loss)
    gradients = mean_over_replicas(tape.gradient(scaled, weights, unconnected_gradients="zero"))
    model.optimizer.apply(counted_once(gradients), weights)
    loss_metric(model).update_state(loss, sample_weight=tf.shape(x)[0])
    if isinstance(model.loss, SmoothedCrossentropy) and y.shape.rank == 2 and y.shape[1] != 1:
        y = tf.argmax(y, 1, tf.int32)  # Of the shares of the classes the greatest counts as the label.
    return model.compute_metrics(x, y, outputs)


def _tested(model: keras.Model, part) -> dict:
    """Keras' own step, unless the part is empty, as of a last batch of fewer images than replicas: no kernel bears it.

    Returns the names of what was measured, with 0 each.
    """
    measured = {}

    def test():
        measured.update(model.test_step(part))
        return 0

    tf.cond(tf.size(part[1]) > 0, test, lambda: 0)
    return {name: tf.zeros(()) for name in measured}


CALIBRATION = 4
"""Batches that running statistics are measured on."""


@contextlib.contextmanager
def calibrated(search: keras.Model, data):
    """A context in which the running statistics of a search's supernet are those of its weights now.

    Those that training leaves are means over weights that have changed since: in an epoch of 12 steps that makes more
    than a network of many cells can bear. Inside they come from the first training batches of `data`, a `SearchData`;
    after it they are what they were. A supernet whose passes are drawn has no use for any.
    """
    net, strategy = search.supernet, search.distribute_strategy
    if getattr(net.mixture, "draws_passes", False):
        yield
        return
    found = running_statistics(net)
    variables = [variable for variable, _, _ in found] + [net.updates]

    def assign(values):
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)

    kept = strategy.run(lambda: [tf.identity(variable.value) for variable in variables])
    strategy.run(lambda: assign([*(tf.fill(v.shape, tf.cast(start, v.dtype)) for v, start, _ in found), 0]))
    try:
        batches = data.pairs().take(CALIBRATION).map(lambda train, valid: train)
        for batch in spread(batches, strategy) if is_spread(search) else batches:
            search.calibrate(batch)
        yield
    finally:
        strategy.run(assign, (kept,))


def evaluate(model: keras.Model, batches: tf.data.Dataset, **options) -> dict:
    """As Keras' `evaluate`, which several workers cannot use, on a dataset `(x, y)`; one replica uses `options`."""
    if not is_spread(model):
        return model.evaluate(batches, return_dict=True, **options)
    if model.test_function is None:
        model.test_function = tf.function(
            lambda batch: run_on_replicas(model, lambda part: (_tested(model, part), ()), batch)[0],
            autograph=False,
            reduce_retracing=True,
        )
    model.reset_metrics()
    for batch in spread(batches, model.distribute_strategy):
        results = model.test_function(batch)
    return {name: float(value) for name, value in results.items()}
