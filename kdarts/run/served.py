"""What a written network answers, read as its clients read it, against what the Keras model does."""

import importlib.util
import pathlib
import statistics
import time
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from kdarts.genotypes.errors import KdartsError
from kdarts.run.artifacts import ARTIFACTS

_WARM, _TIMED = 3, 30  # calls of one image each


def open_served(name: str, path: pathlib.Path) -> Callable[[np.ndarray], np.ndarray]:
    """A function from one image `[1, height, width, channels]`, float32, to logits `[1, classes]`.

    Args:
        name: the format, as in `ARTIFACTS`.
        path: the file or folder.
    """
    if name == "saved_model":
        loaded = tf.saved_model.load(str(path))
        signature = loaded.signatures["serving_default"]
        # `loaded` owns the variables that the signature reads.
        return lambda image, owner=loaded: next(iter(signature(image=tf.constant(image)).values())).numpy()
    if name == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        return lambda image: session.run(None, {"image": image})[0]
    if importlib.util.find_spec("ai_edge_litert") is not None:
        from ai_edge_litert.interpreter import Interpreter
    else:
        Interpreter = tf.lite.Interpreter
    runner = Interpreter(str(path)).get_signature_runner("serving_default")
    return lambda image: next(iter(runner(image=image).values()))


def check_served(name: str, path: pathlib.Path, images: np.ndarray, expected: np.ndarray) -> dict:
    """Compares the answers of a written network with those expected, and times it.

    Args:
        name: the format, as in `ARTIFACTS`.
        path: the file or folder.
        images: float32 `[n, height, width, channels]`, as the network takes them.
        expected: logits `[n, classes]`.

    Returns:
        `examples`, `largest_difference` of a logit, `agreement` (the part of images that both put into the same class)
        and `latency_ms`, the median time of an answer to one image, in this process.

    Raises:
        KdartsError: if a logit differs by more than the format may.
    """
    answer = open_served(name, path)
    logits = np.concatenate([answer(images[i : i + 1]) for i in range(len(images))])
    difference = float(np.max(np.abs(logits - expected)))
    tolerance = ARTIFACTS[name].tolerance
    allowed = None if tolerance is None else tolerance * max(1.0, float(np.max(np.abs(expected))))
    if not np.isfinite(difference) or (allowed is not None and difference > allowed):
        raise KdartsError(
            f"--format={name}: a logit differs by {difference:.2g} from the model's on {len(images)} images, allowed: "
            f"{'a finite number' if allowed is None else format(allowed, '.2g')}; nothing was written"
        )
    times = []
    for _ in range(_WARM + _TIMED):
        begin = time.perf_counter()
        answer(images[:1])
        times.append(time.perf_counter() - begin)
    return {
        "examples": len(images),
        "largest_difference": difference,
        "agreement": float(np.mean(np.argmax(logits, -1) == np.argmax(expected, -1))),
        "latency_ms": 1e3 * statistics.median(times[_WARM:]),
    }
