"""What a model expects of its examples: images of its shape, finite, with integer labels of its classes.

Keras and TensorFlow train on much else without a word, or stop in the middle of a graph.
"""

import warnings
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike

from kdarts.genotypes.errors import KdartsError

_PIXELS = 64
"""Greatest size of a number in images that somebody has scaled: to 0 to 1, or to mean 0 and deviation 1."""


@dataclass(frozen=True)
class Expected:
    """The examples that a model takes.

    Args:
        shape: of one example, without the batch.
        num_classes: labels are integers from 0 to below it; None: labels are not looked at.
    """

    shape: tuple[int, ...]
    num_classes: int | None

    def arrays(self, x, y) -> tuple[np.ndarray, np.ndarray]:
        """Checks all examples of two arrays, `[n, *shape]` and `[n]` or `[n, 1]`, and returns them as NumPy arrays.

        Raises:
            KdartsError: for other shapes, no or text labels, one-hot labels, labels out of range, no examples, and
                numbers that are not finite.
        """
        x, y = _array("x", x), _array("y", y)
        self._check("x", x.shape, x.dtype, "y", y.shape, y.dtype)
        if len(x) != len(y):
            raise KdartsError(f"x has {len(x)} examples and y {len(y)}: each needs one label")
        if not len(x):
            raise KdartsError("x and y are empty: at least one example is needed")
        least, most = float(x.min()), float(x.max())  # Both are NaN if any number is.
        if not (np.isfinite(least) and np.isfinite(most)):
            first = next(n for n, image in enumerate(x) if not np.isfinite(image).all())
            raise KdartsError(f"x: example {first} holds NaN or infinite numbers")
        if max(most, -least) > _PIXELS:
            self._warn(f"x holds numbers up to {max(most, -least):g}")
        if self.num_classes is None:
            return x, y
        y = y.reshape(len(y))
        if y.dtype.kind == "f" and not np.array_equal(y, np.rint(y)):
            raise KdartsError(f"y holds {y[y != np.rint(y)][0]}: {self._labels}")
        if y.min() < 0 or y.max() >= self.num_classes:
            wrong = y.min() if y.min() < 0 else y.max()
            raise KdartsError(f"y holds {wrong:g}: {self._labels}")
        return x, y.astype(np.int32)

    def spec(self, given: tf.data.Dataset, *names: tuple[str, str]) -> None:
        """Checks what a dataset tells of its elements: shapes and types.

        Args:
            given: of batches `(x, y)`, or of pairs of them.
            *names: what a message calls the x and y of each.

        Raises:
            KdartsError: as of `arrays`.
        """
        spec = given.element_spec
        for part, (name, label) in zip(spec if len(names) > 1 else [spec], names, strict=True):
            if all(isinstance(each, tf.TensorSpec) for each in part) and len(part) == 2:
                self._check(name, *_form(part[0]), label, *_form(part[1]))
                if part[0].dtype == tf.uint8:
                    self._warn(f"{name} is of type uint8")

    def dataset(self, given: tf.data.Dataset, *names: tuple[str, str]) -> tf.data.Dataset:
        """As of `spec`; the dataset that it returns checks the numbers of each batch, too, as it is read."""
        self.spec(given, *names)
        flat = tf.nest.flatten(given.element_spec)
        if len(flat) != 2 * len(names) or not all(isinstance(each, tf.TensorSpec) for each in flat):
            return given

        @tf.autograph.experimental.do_not_convert
        def check(*element):
            parts = element if len(names) > 1 else [element]
            tests = [test for part, named in zip(parts, names, strict=True) for test in self._tests(*part, *named)]
            with tf.control_dependencies(tests):
                return tf.nest.map_structure(tf.identity, element)

        return given.map(check)

    def _tests(self, x, y, name: str, label: str) -> list:
        tests = []
        if x.dtype.is_floating:
            text = f"{name} holds NaN or infinite numbers"
            tests.append(tf.debugging.Assert(tf.reduce_all(tf.math.is_finite(x)), [text]))
        if self.num_classes is not None:
            low, high = tf.reduce_min(y), tf.reduce_max(y)
            wrong = tf.where(low < 0, low, high)
            text = f"{label} holds {{}}: {self._labels}"
            right = (low >= 0) & (high < tf.cast(self.num_classes, y.dtype))
            tests.append(tf.debugging.Assert(right, [tf.strings.format(text, wrong)]))
        return tests

    def _check(self, name, shape, dtype, label, label_shape, label_dtype) -> None:
        """Raises `KdartsError` for shapes and types; a size that is not known is None, as is a shape."""
        dtype, label_dtype = np.dtype(dtype), np.dtype(label_dtype)
        if dtype.kind not in "biuf" and dtype.name != "bfloat16":
            raise KdartsError(f"{name} is of type {dtype}: needs numbers")
        if shape is not None and (
            len(shape) != len(self.shape) + 1
            or any(a not in (None, b) for a, b in zip(shape[1:], self.shape, strict=True))
        ):
            raise KdartsError(f"{name} is of shape {_words(shape)}: needs {self._shape()}{self._hint(tuple(shape))}")
        if self.num_classes is None:
            return
        if label_dtype.kind not in "iuf":
            raise KdartsError(f"{label} holds text: {self._labels}; numpy.unique(…, return_inverse=True)[1] makes such")
        if label_shape is not None and (len(label_shape) > 2 or (len(label_shape) == 2 and label_shape[1] != 1)):
            how = f"{label}.argmax(-1)" if label_shape[-1] == self.num_classes else "one for each example"
            raise KdartsError(f"{label} is of shape {_words(label_shape)}: {self._labels}, not one-hot: {how}")

    @property
    def _labels(self) -> str:
        return f"labels are integers, 0 to {self.num_classes - 1}"

    def _shape(self) -> str:
        return f"(examples, {', '.join(map(str, self.shape))})"

    def _hint(self, shape: tuple) -> str:
        if shape == self.shape:
            return ", batches of examples: dataset.batch(64)"
        if (*shape[1:], 1) == self.shape:
            return "; x[..., None] adds the channel"
        if len(shape) == 4 and (*shape[2:], shape[1]) == self.shape:
            return ", channels last"
        return ", as of input_shape"

    def _warn(self, what: str) -> None:
        if len(self.shape) == 3:
            warnings.warn(f"{what}: images train best normalised, as (x / 255 - mean) / std", stacklevel=4)


def check_examples(model: keras.Model, x: ArrayLike, y: ArrayLike) -> None:
    """Checks the examples for `fit` or `evaluate` of a classifier, such as a network of `build_network`.

    Such a network is a Keras model, whose `fit` takes NaN and labels out of range without a word, and explains one-hot
    labels by the trace of a graph.

    Args:
        model: gives the shape of an image and the number of classes.
        x: images, `[n, *input_shape]`.
        y: integer labels, `[n]` or `[n, 1]`.

    Raises:
        KdartsError: one line on the first thing that is wrong.
    """
    Expected(tuple(model.inputs[0].shape[1:]), model.outputs[0].shape[-1]).arrays(x, y)


def _array(name: str, given) -> np.ndarray:
    try:
        found = np.asarray(given)
    except (ValueError, TypeError) as error:
        raise KdartsError(f"{name}: needs an array of numbers ({str(error).splitlines()[0]})") from None
    if found.dtype == object and not all(isinstance(value, str) for value in found.flat[:1]):
        raise KdartsError(f"{name}: needs an array of numbers, got {type(given).__name__}")
    return found


def _form(spec) -> tuple:
    return spec.shape.as_list() if spec.shape.rank is not None else None, spec.dtype.as_numpy_dtype


def _words(shape) -> str:
    return f"({', '.join('?' if size is None else str(size) for size in shape)})"
