"""Batches that a tf.data service prepares are those that this process would prepare."""

import itertools
import socket

import numpy as np
import pytest
import tensorflow as tf

from kdarts.data.augmentation import Augmentation
from kdarts.data.datasets import ImageData
from kdarts.data.pipeline import search_dataset_from, served
from kdarts.genotypes.errors import KdartsError

service = tf.data.experimental.service


def _batches(start_step=3, size=40):
    rng = np.random.default_rng(0)
    data = [
        ImageData(rng.integers(0, 255, (count, size, size, 3), dtype=np.uint8), np.zeros(count, np.int32), ("a",), "x")
        for count in (40, 24)
    ]
    return search_dataset_from(*data, 8, 1, Augmentation(pad=2, cutout=4), (0.5,) * 3, (0.2,) * 3, start_step)


@pytest.fixture
def dispatcher():
    """A dispatcher, its address, and a function that gives it a worker."""
    server, workers = service.DispatchServer(), []
    address = server.target.removeprefix("grpc://")

    def work():
        workers.append(service.WorkerServer(service.WorkerConfig(dispatcher_address=address)))

    yield address, work
    for worker in workers:
        worker._stop()
    server._stop()


def test_the_batches_are_the_same_and_in_order(dispatcher):
    address, work = dispatcher
    work()
    here, there = _batches(), served(_batches(), address)
    assert there.element_spec == here.element_spec
    for _ in range(2):  # each iteration begins anew, as that of a forecast does
        pairs = zip(itertools.islice(there, 12), here, strict=False)
        for one, other in pairs:
            for a, b in zip(tf.nest.flatten(one), tf.nest.flatten(other), strict=True):
                np.testing.assert_array_equal(a, b)


def test_several_workers_are_refused(dispatcher):
    address, work = dispatcher
    work()
    work()
    with pytest.raises((KdartsError, tf.errors.InvalidArgumentError), match="needs one worker, not several"):
        list(itertools.islice(served(_batches(size=8), address), 300))


def test_a_service_that_does_not_answer_is_named(dispatcher):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    with pytest.raises(KdartsError, match=f"--data_service=localhost:{port}: nothing answers there"):
        served(_batches(), f"localhost:{port}")
    with pytest.raises(KdartsError, match="needs HOST:PORT"):
        served(_batches(), "localhost")
    with pytest.raises(KdartsError, match="no batch within 1 s; does it have a worker"):
        served(_batches(), dispatcher[0], patience=1.0)
