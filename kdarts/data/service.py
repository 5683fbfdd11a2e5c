"""Batches that a tf.data service prepares, on other machines' cores: the same ones, in the same order.

The service needs no kdarts: the pipeline travels to its worker, with the images in it, and its augmentation runs there.
"""

import contextlib
import socket
import threading

import tensorflow as tf

from kdarts.genotypes.errors import KdartsError

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
    _knock(address)
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


def _knock(address: str) -> None:
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
