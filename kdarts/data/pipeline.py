"""From images to batches, as `tf.data` pipelines whose every random choice is a function of (seed, step).

The order of an epoch and the augmentation of a batch depend on the seed, the epoch and the batch's place in it, and on
nothing else. So a resumed run sees what an uninterrupted one would have seen, whether images are in memory or are read
from disk for each batch.

A tf.data service can prepare the same batches, in the same order, on other machines. It needs no kdarts: the pipeline
travels to its worker, with the images in it.
"""

import contextlib
import dataclasses
import socket
import threading
from collections.abc import Sequence

import tensorflow as tf

from kdarts.data import datasets
from kdarts.data.augmentation import Augmentation, default_augmentation, normalize
from kdarts.data.datasets import ImageData
from kdarts.data.mixing import Mixing
from kdarts.genotypes.errors import KdartsError
from kdarts.search.loop import SearchData

_TRAIN, _VALID = 0, 1  # streams of random numbers, one for each level of a search


def train_dataset(
    data: ImageData,
    batch_size: int,
    seed: int,
    augmentation: Augmentation,
    mean: Sequence[float],
    std: Sequence[float],
    start_step: int | None = None,
    mixing: Mixing | None = None,
) -> tf.data.Dataset:
    """Shuffled, augmented batches, all of the same size.

    Args:
        data: the examples.
        batch_size: 1 to the number of examples. An epoch is `len(data) // batch_size` batches; what is left over
            differs from epoch to epoch.
        seed: 0 or more; the same seed gives the same batches in every run.
        augmentation: of the images.
        mean: of each channel, for the scale 0 to 1 (`kdarts.data.datasets.statistics`).
        std: of each channel, likewise.
        start_step: None for one epoch, in a new order each time the dataset is gone through. An integer for batches
            without end from that step on, where step `s` is batch `s % steps` of epoch `s // steps`.
        mixing: of the augmented images in pairs; None for none.

    Returns:
        Dataset of images float32 `[batch_size, height, width, channels]` and labels int32 `[batch_size]`; with mixing
        the shares of the classes, float32 `[batch_size, classes]`.

    Raises:
        KdartsError: a batch size, seed or step out of range.
    """
    steps = steps_per_epoch(data, batch_size)
    stream = _Stream(data, batch_size, (seed, _TRAIN), augmentation, mean, std, mixing=mixing)
    length = steps if start_step is None else tf.data.INFINITE_CARDINALITY
    return _finished(stream.batches(start_step), data.streamed, length)


def search_dataset_from(
    train: ImageData,
    valid: ImageData,
    batch_size: int,
    seed: int,
    augmentation: Augmentation,
    mean: Sequence[float],
    std: Sequence[float],
    start_step: int | None = None,
) -> tf.data.Dataset:
    """Pairs of batches for a bilevel search: one for the weights, one for the architecture parameters.

    Args:
        train: examples that train the weights; their number sets the length of an epoch.
        valid: examples that train the architecture parameters, shuffled on their own. If they are fewer, they begin
            again, in a new order, as often as needed; if they are more, each epoch sees other ones.
        batch_size: of both, 1 to the smaller number of examples.
        seed: 0 or more.
        augmentation: of both.
        mean: of each channel, for the scale 0 to 1.
        std: of each channel, likewise.
        start_step: None for one epoch, an integer for batches without end, as in `train_dataset`.

    Returns:
        Dataset of `((x, y), (x_valid, y_valid))`, each as in `train_dataset`.

    Raises:
        KdartsError: a batch size, seed or step out of range.
    """
    steps = steps_per_epoch(train, batch_size)
    steps_per_epoch(valid, batch_size)
    how = augmentation, mean, std, _held(train)
    weights = _Stream(train, batch_size, (seed, _TRAIN), *how)
    how = how if valid is train else (*how[:3], _held(valid))
    alphas = _Stream(valid, batch_size, (seed, _VALID), *how)
    pair = tf.data.Dataset.zip(weights.batches(start_step), alphas.batches(start_step, endless=True))
    length = steps if start_step is None else tf.data.INFINITE_CARDINALITY
    return _finished(pair, train.streamed or valid.streamed, length)


class ImageSearchData(SearchData):
    """The data of a search from images. It begins at any step, and its epochs are functions of the seed.

    Args:
        train, valid: examples for the weights and for the architecture parameters.
        batch_size: of both, 1 to the smaller number of examples.
        seed: of the order and the augmentation, 0 or more.
        augmentation: of both.
        mean, std: of each channel, for the scale 0 to 1.
        served: from batches without end to the same from elsewhere, such as a tf.data service; None: as they are.
        whole: examples for both where the search has one level, as of `datasets.for_both`; None: those of `train`. It
            is measured on `valid` all the same, and so are shared paths trained and compared on `train` and `valid`.
        one_level: as of `at`.

    Raises:
        KdartsError: a batch size or a seed out of range.
    """

    def __init__(
        self, train, valid, batch_size, seed, augmentation, mean, std, served=None, whole=None, one_level=False
    ):
        self.train, self.valid, self.batch_size, self.seed = train, valid, batch_size, seed
        self.augmentation, self.mean, self.std = augmentation, mean, std
        self.whole = train if whole is None else whole
        self.searched = (self.whole, self.whole) if one_level else (train, valid)
        self.steps, _ = (steps_per_epoch(part, batch_size) for part in self.searched)
        self.num_classes = train.num_classes
        self._served = served or (lambda batches: batches)

    def at(self, one_level: bool) -> "ImageSearchData":
        how = self.batch_size, self.seed, self.augmentation, self.mean, self.std, self._served
        return ImageSearchData(self.train, self.valid, *how, self.whole, one_level)

    def dataset(self) -> tf.data.Dataset:
        """One epoch, another each time it is gone through; it carries these data as its `search_data`."""
        how = self.batch_size, self.seed, self.augmentation, self.mean, self.std
        dataset = search_dataset_from(*self.searched, *how)
        dataset.search_data = self
        return dataset

    def pairs(self, first_step: int = 0, seed: int = 0) -> tf.data.Dataset:
        how = self.batch_size, self.seed + seed, self.augmentation, self.mean, self.std
        return self._served(search_dataset_from(*self.searched, *how, start_step=first_step))

    def held_back(self) -> tf.data.Dataset:
        return eval_dataset(self.valid, self.batch_size, self.mean, self.std)

    def path_steps(self, batch_size: int) -> int:
        if batch_size > len(self.train):
            raise KdartsError(f"path_batch_size {batch_size}: allowed is 1 to {len(self.train)}, the images of a half")
        return steps_per_epoch(self.train, batch_size)

    def path_batches(self, batch_size: int, cutout: int | None, first_step: int = 0) -> tf.data.Dataset:
        augmentation = self.augmentation
        if cutout is not None:
            augmentation = dataclasses.replace(augmentation, cutout=cutout)
        return train_dataset(self.train, batch_size, self.seed, augmentation, self.mean, self.std, first_step)

    def path_held_back(self, batch_size: int) -> tf.data.Dataset:
        return eval_dataset(self.valid, batch_size, self.mean, self.std)


def search_dataset(
    name: str = "digits",
    batch_size: int = 64,
    data_dir: str | None = None,
    seed: int = 0,
    train_examples: int | None = None,
    valid_examples: int | None = None,
    image_size: int | None = None,
    augmentation: Augmentation | None = None,
    start_step: int | None = None,
    download: bool = False,
    *,
    labels: str | None = None,
    group: str | None = None,
    background: str = "white",
    cache_dir: str | None = None,
) -> tf.data.Dataset:
    """The train split of a data set, divided and batched for a search: `search.fit(search_dataset("cifar10"), ...)`.

    `Search.fit` takes the same batches from it, in the same order, as `kdarts search` with the same seed.

    Args:
        name: `digits`, a name of TensorFlow Datasets, or `folder:PATH`.
        batch_size: examples in each of the two batches of a step.
        data_dir: where TensorFlow Datasets finds prepared data; None for its default.
        seed: of the draw, the order and the augmentation, 0 to 2**32 - 1.
        train_examples: examples for the weights; None for half of them.
        valid_examples: examples for the architecture parameters; None for the other half. A search with one level
            learns from what `datasets.for_both` says.
        image_size: side in pixels to which images are resized; None: as of `kdarts.data.datasets.load`.
        augmentation: of all images; None for the default of the data set.
        start_step: None for one epoch, an integer for batches without end, as in `train_dataset`.
        download: whether data that is not on this machine may be fetched.
        labels, group, background, cache_dir: as of `kdarts.data.datasets.load`.

    Returns:
        Dataset of `((x, y), (x_valid, y_valid))`, as in `search_dataset_from`.

    Raises:
        KdartsError: data that cannot be loaded (`kdarts.data.datasets.load`), sizes out of range.
    """
    how = {"labels": labels, "group": group, "background": background, "cache_dir": cache_dir}
    data = datasets.load(name, data_dir, image_size, download=download, **how)
    mean, std = datasets.statistics(data.images)
    parts = data, train_examples, valid_examples, seed
    (train, valid), whole = datasets.halves(*parts), datasets.for_both(*parts)
    augmentation = augmentation or default_augmentation(name, data.image_shape)
    found = ImageSearchData(train, valid, batch_size, seed, augmentation, mean, std, whole=whole)
    return found.dataset() if start_step is None else found.pairs(start_step)


def eval_dataset(data: ImageData, batch_size: int, mean: Sequence[float], std: Sequence[float]) -> tf.data.Dataset:
    """All examples once, in order, unchanged but for normalisation.

    Args:
        data: the examples.
        batch_size: 1 or more; the last batch has what is left.
        mean: of each channel, for the scale 0 to 1.
        std: of each channel, likewise.

    Returns:
        Dataset of images float32 `[n, height, width, channels]` and labels int32 `[n]`.

    Raises:
        KdartsError: a batch size below 1.
    """
    if batch_size < 1:
        raise KdartsError(f"batch_size {batch_size}; allowed: 1 or more")
    indices = tf.data.Dataset.range(len(data)).batch(batch_size)
    batches = _read(data, indices, lambda images, labels: (normalize(images, mean, std), labels))
    return _finished(batches, data.streamed)


def steps_per_epoch(data: ImageData, batch_size: int) -> int:
    """Whole batches in one pass over `data`; raises `KdartsError` if there is none."""
    if not 1 <= batch_size <= len(data):
        raise KdartsError(
            f"batch_size {batch_size}; allowed: 1 to {len(data)}, the examples of {data.name} in this part"
        )
    return len(data) // batch_size


@dataclasses.dataclass(frozen=True)
class _Stream:
    """Batches of one part of the data, with random numbers of its own."""

    data: ImageData
    batch_size: int
    seed: tuple[int, int]
    augmentation: Augmentation
    mean: Sequence[float]
    std: Sequence[float]
    held: tuple | None = None
    mixing: Mixing | None = None

    def batches(self, start_step: int | None, endless: bool = False) -> tf.data.Dataset:
        """Batches from `start_step` on; for None one epoch, or if `endless` one after another, under a new key."""

        def augmented(images, labels, seed):
            images = self.augmentation(images, seed, self.mean, self.std)
            if not self.mixing:
                return images, labels
            # The augmentation has the numbers below.
            return self.mixing(images, labels, self.data.num_classes, tf.random.fold_in(seed, 16))

        return _read(self.data, self._draws(start_step, endless), augmented, self.held)

    def _draws(self, start_step: int | None, endless: bool) -> tf.data.Dataset:
        """For each batch, the indices of its examples and the seed of their augmentation."""
        if self.seed[0] < 0 or (start_step or 0) < 0:
            raise KdartsError(f"seed {self.seed[0]} and start_step {start_step}; allowed: 0 or more")
        size, count = self.batch_size, len(self.data)
        steps = count // size
        first_epoch, first_step = divmod(start_step or 0, steps)
        if start_step is None:
            # Counts the times the dataset has been gone through. `Dataset.random` could, too, but its numbers depend on
            # the process's own seed.
            with tf.init_scope(), tf.device("CPU:0"):
                times = tf.Variable(0, dtype=tf.int64)
            keys = _mapped(tf.data.Dataset.range(1), lambda _: times.assign_add(1))
        else:
            keys = tf.data.Dataset.from_tensors(tf.constant(0, tf.int64))
        epochs = tf.data.Dataset.counter(first_epoch) if endless or start_step is not None else tf.data.Dataset.range(1)

        def epoch_of(key, epoch):
            seed = tf.random.fold_in(tf.random.fold_in(tf.constant(self.seed, tf.int64), key), epoch)
            # One true permutation an epoch. `index_shuffle` would need none, but as of TF 2.21 it is no fair shuffle:
            # of 50,000 indices, neighbours share a batch half as often as they should.
            order = tf.random.experimental.stateless_shuffle(tf.range(count), seed)
            first = tf.where(tf.equal(epoch, first_epoch), tf.constant(first_step, tf.int64), 0)
            return _mapped(
                tf.data.Dataset.range(first, steps),
                lambda step: (tf.slice(order, [step * size], [size]), tf.random.fold_in(seed, step)),
            )

        plain = tf.autograph.experimental.do_not_convert
        return keys.flat_map(plain(lambda key: epochs.flat_map(plain(lambda epoch: epoch_of(key, epoch)))))


AHEAD = 2
"""Batches of images on disk that are read at the same time, ahead of those that are augmented."""


def _held(data: ImageData) -> tuple:
    """The images, None where they are read from disk, and the labels: in main memory, wherever the model runs."""
    with tf.device("CPU:0"):
        return None if data.streamed else tf.convert_to_tensor(data.images), tf.convert_to_tensor(data.labels)


def _read(data: ImageData, draws: tf.data.Dataset, function, held: tuple | None = None) -> tf.data.Dataset:
    """`function(images, labels, ...)` of the examples whose indices begin each element of `draws`; the rest follows.

    What is `held` already, as of `_held`, is not held twice.
    """
    images, labels = held or _held(data)
    if images is not None:
        return _mapped(draws, lambda i, *rest: function(tf.gather(images, i), tf.gather(labels, i), *rest))

    def read(indices, *rest):
        batch = tf.numpy_function(data.images.__getitem__, [indices], tf.uint8)
        return tf.ensure_shape(batch, [*indices.shape, *data.image_shape]), tf.gather(labels, indices), *rest

    read = tf.autograph.experimental.do_not_convert(read)
    return _mapped(draws.map(read, num_parallel_calls=AHEAD, deterministic=True), function)


def _mapped(dataset: tf.data.Dataset, function) -> tf.data.Dataset:
    return dataset.map(tf.autograph.experimental.do_not_convert(function))


def _finished(batches: tf.data.Dataset, streamed: bool, cardinality: int | None = None) -> tf.data.Dataset:
    """`batches` prepared ahead by one thread of their own, so that they take no cores from the training step.

    Those that are `streamed` have more, which wait for the disk and for the threads that decode.
    """
    if cardinality is not None:
        batches = batches.apply(tf.data.experimental.assert_cardinality(cardinality))
    options = tf.data.Options()
    options.deterministic = True
    options.autotune.enabled = False
    options.threading.private_threadpool_size = 1 + 2 * AHEAD * streamed
    options.threading.max_intra_op_parallelism = 1
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return batches.prefetch(2).with_options(options)


PATIENCE = 5.0
"""Seconds in which the dispatcher must answer."""

FIRST_BATCH = 120.0
"""Seconds in which the first batch must come."""


def served(batches: tf.data.Dataset, address: str, patience: float = FIRST_BATCH) -> tf.data.Dataset:
    """The batches of a pipeline without end, prepared by a tf.data service.

    Exact with one worker, which passes all of the pipeline. Of several each would pass all of it, and what comes would
    be a mixture: every batch carries its number, and one that is out of order ends the run with an error.

    Args:
        batches: a dataset whose every element is a function of its number, as those of `pipeline` with a `start_step`.
        address: `HOST:PORT` of the service's dispatcher.
        patience: seconds in which the first batch must come.

    Returns:
        Dataset of the same elements.

    Raises:
        KdartsError: if no dispatcher or no worker answers, or there is more than one worker.
    """
    knock(address)
    off = tf.data.experimental.service.ShardingPolicy.OFF
    try:
        distribute = tf.data.experimental.service.distribute(processing_mode=off, service=f"grpc://{address}")
        there = tf.data.Dataset.zip(tf.data.Dataset.counter(), batches.enumerate().apply(distribute))
    except tf.errors.OpError as error:
        raise KdartsError(f"--data_service={address}: {str(error.message).splitlines()[0]}") from None

    def checked(expected, numbered):
        number, batch = numbered
        message = f"--data_service={address}: batches out of order; it needs one worker, not several"
        with tf.control_dependencies([tf.debugging.assert_equal(number, expected, message)]):
            return tf.nest.map_structure(tf.identity, batch)

    options = tf.data.Options()
    options.deterministic = True
    found = there.map(tf.autograph.experimental.do_not_convert(checked)).prefetch(2).with_options(options)
    _wait(found, address, patience)
    return found


def check_service(data: ImageData, address: str) -> None:
    """Raises `KdartsError` for data that a tf.data service cannot prepare: its worker would need the files."""
    if data.streamed:
        raise KdartsError(
            f"data_service {address}: {data.name} is read from this machine's disk as it is needed; allowed: data that "
            f"fits in memory, such as a smaller image_size or limit"
        )


def knock(address: str) -> None:
    """Raises `KdartsError` where no dispatcher of a tf.data service answers."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise KdartsError(f"--data_service={address}: needs HOST:PORT, the address of a tf.data service's dispatcher")
    try:
        with contextlib.closing(socket.create_connection((host.strip("[]"), int(port)), PATIENCE)):
            pass
    except OSError as error:
        raise KdartsError(f"--data_service={address}: nothing answers there ({error})") from None


def _wait(batches: tf.data.Dataset, address: str, patience: float) -> None:
    """Waits for a first batch; the service itself would be asked for ever."""
    failed: list[str] = []

    def take():
        try:
            next(iter(batches.take(1)))
        except tf.errors.OpError as error:
            failed.append(str(error.message).splitlines()[0])

    asking = threading.Thread(target=take, daemon=True)
    asking.start()
    asking.join(patience)
    if asking.is_alive():
        raise KdartsError(f"--data_service={address}: no batch within {patience:.0f} s; does it have a worker?")
    if failed:
        raise KdartsError(f"--data_service={address}: {failed[0]}")
