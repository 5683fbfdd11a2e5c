"""The TensorFlow kernels of the supernet's operations: convolutions, batch normalisation and pools.

Each function is one mathematical operation. Which kernel computes it depends on the device, the type and the
derivatives that are needed. The fast forms are for oneDNN on a CPU: a depthwise convolution is fastest there as a
grouped `conv2d`, and the filter gradient of a 5x5 depthwise kernel is several times faster in two parts of at most
three columns, because oneDNN has no specialised kernel for wider ones. On other devices, in float64, and where second
derivatives are needed, the plain forms are used.
"""

import contextlib
import contextvars
import functools
import weakref

import numpy as np
import tensorflow as tf

from kdarts.ops.replicas import is_synchronized, moments_over_replicas


@functools.cache
def has_grouped_gradients(dtype: tf.DType) -> bool:
    """Returns whether grouped `conv2d` kernels of a type have gradients on this CPU. Only oneDNN's have them.

    TensorFlow uses oneDNN by default on processors with AVX-512 VNNI, and on others if `TF_ENABLE_ONEDNN_OPTS` is 1
    when it is imported. kdarts sets that if it is imported first. For bfloat16 oneDNN always needs AVX-512.
    """
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        image = tf.ones((1, 2, 2, 2), dtype)
        sizes = {"filter_sizes": [1, 1, 1, 2], "strides": [1, 1, 1, 1], "padding": "SAME"}
        try:
            session.run(tf.cast(tf.raw_ops.Conv2DBackpropFilter(input=image, out_backprop=image, **sizes), tf.float32))
        except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError):
            return False
    return True


DECAY = 0.1
"""Share of the new batch in the running statistics, as in PyTorch."""

_NARROW = 16
"""Number of channels below which oneDNN's pools and their gradients are slow."""

_twice = contextvars.ContextVar("twice_differentiable", default=False)


@contextlib.contextmanager
def twice_differentiable():
    """Makes every kernel inside the context twice differentiable; fused kernels have no correct second derivative."""
    token = _twice.set(True)
    try:
        yield
    finally:
        _twice.reset(token)


def constant(value, dtype=tf.int32):
    """Returns a constant tensor, the same one for equal values in a graph.

    A supernet has thousands of equal sizes and paddings, each of which takes its time when the graph is traced.
    """
    value = np.asarray(value, tf.as_dtype(dtype).as_numpy_dtype)
    if tf.executing_eagerly():
        return tf.constant(value)
    graph = tf.compat.v1.get_default_graph()
    kept = graph.get_collection_ref("kdarts_constants")
    if not kept or kept[0]() is not graph:  # A graph inside another one begins with a copy of its collections.
        kept[:] = [weakref.ref(graph), {}]
    key = value.dtype.str, value.shape, value.tobytes()
    if key not in kept[1]:
        with tf.control_dependencies(None):
            kept[1][key] = tf.constant(value)
    return kept[1][key]


def gate(x, squeeze, between, excite, offset):
    """Multiplies each channel by a number from 0 to 1, from the means of all (see `Gate`).

    Args:
        x: Input, `[batch, height, width, channels]`.
        squeeze, between: Kernel `[1, 1, channels, width]` and bias `[width]` of the first convolution.
        excite, offset: The same of the second, `[1, 1, width, channels]` and `[channels]`.
    """
    mean = tf.reduce_mean(x, [1, 2], keepdims=True)
    hidden = tf.nn.relu(tf.nn.conv2d(mean, squeeze, 1, "VALID") + between)
    return x * (tf.nn.relu6(tf.nn.conv2d(hidden, excite, 1, "VALID") + offset + 3) / 6)


@tf.custom_gradient
def joined(*parts):
    """Concatenates tensors on the last axis. The gradient is one operation, where that of `tf.concat` is a dozen."""
    sizes = [part.shape[-1] for part in parts]
    return tf.concat(parts, constant(-1)), lambda dy: tf.split(dy, constant(sizes), constant(-1))


def grouped(x) -> bool:
    """Returns whether grouped convolutions are fast and supported for `x`."""
    suited = x.dtype in (tf.float32, tf.bfloat16) and not _twice.get()
    return suited and not tf.config.list_logical_devices("GPU") and has_grouped_gradients(x.dtype)


def _padded(x, size, stride, same=False):
    """Returns `x` and the padding mode for a convolution with an odd kernel that is padded equally on all sides.

    "SAME" does that at stride 1; at stride 2 it would pad the end only, as it is to with `same`. Gradients of grouped
    `conv2d` kernels do not support explicit padding.
    """
    if max(stride) == 1:
        return x, "SAME"
    pads = [[n // 2, n // 2] for n in size]
    if same:
        totals = [max(0, (side - 1) // s * s + n - side) for side, n, s in zip(x.shape[1:3], size, stride, strict=True)]
        pads = [[total // 2, total - total // 2] for total in totals]
    return tf.pad(x, constant([[0, 0], *pads, [0, 0]])), "VALID"


def convolution(x, kernel, groups=1, stride=(1, 1), same=False):
    """Computes a convolution with symmetric zero padding, as PyTorch pads.

    Args:
        x: Input, `[batch, height, width, groups * channels]`.
        kernel: `[h, w, channels, groups * filters]`, the groups stacked on the last axis; `h` and `w` are odd.
        groups: Number of independent groups.
        stride: Strides along height and width; the sides of the output are those of `x` divided by them, rounded up.
        same: Whether to pad as TensorFlow's "same" does.
    """
    if tuple(kernel.shape[:2]) == (1, 1) and max(stride) > 1:
        x, stride = x[:, :: stride[0], :: stride[1]], (1, 1)
    x, padding = _padded(x, kernel.shape[:2], stride, same)
    if grouped(x) or groups == 1:
        return tf.nn.conv2d(x, kernel, strides=stride, padding=padding)
    if tuple(kernel.shape[:2]) == (1, 1):
        shape = tf.shape(x)
        stacked = tf.reshape(x, [-1, groups, x.shape[-1] // groups])
        blocks = tf.reshape(kernel, [kernel.shape[2], groups, -1])
        mixed = tf.einsum("ngc,cgf->ngf", stacked, blocks)
        return tf.reshape(mixed, [shape[0], shape[1], shape[2], kernel.shape[3]])
    parts = zip(tf.split(x, groups, -1), tf.split(kernel, groups, -1), strict=True)
    return tf.concat([tf.nn.conv2d(a, k, strides=stride, padding=padding) for a, k in parts], -1)


def factorized(x, even, odd, copies: int = 1):
    """Computes two 1x1 convolutions of stride 2, one of the even pixels and one of the odd ones, and concatenates them.

    It is computed as one 2x2 convolution of which half the kernel is zero: slicing every second pixel would take
    several times as long. An odd side is padded with a zero at its end.

    Args:
        x: Input, `[batch, height, width, channels]`.
        even, odd: Kernels, `[1, 1, channels, copies * filters]`; their numbers of filters may differ.
        copies: Number of groups of filters; the two convolutions are concatenated within each group.
    """
    rest = [n % 2 for n in x.shape[1:3]]
    if any(rest):
        x = tf.pad(x, [[0, 0], [0, rest[0]], [0, rest[1]], [0, 0]])
    channels = x.shape[-1]
    even, odd = (tf.reshape(kernel, [channels, copies, -1]) for kernel in (even, odd))
    first, last = tf.concat([even, tf.zeros_like(odd)], -1), tf.concat([tf.zeros_like(even), odd], -1)
    between = tf.zeros_like(first)
    kernel = tf.reshape(tf.stack([first, between, between, last]), [1, 1, 4 * channels, -1])
    return convolution(tf.nn.space_to_depth(x, 2), kernel)


def every_second(x):
    """Returns `x[:, ::2, ::2]`."""
    # A pool of single pixels and its gradient are several times faster than the slice.
    return x[:, ::2, ::2] if _twice.get() else tf.nn.max_pool2d(x, 1, 2, "SAME")


def first_channels(x, count: int):
    """Returns `x[..., :count]`."""
    if not grouped(x):
        return x[..., :count]
    # With oneDNN a 1x1 convolution is several times faster than a slice of the last axis and its gradient.
    kernel = tf.eye(x.shape[-1], count, dtype=x.dtype)
    return convolution(x, tf.reshape(kernel, [1, 1, x.shape[-1], count]))


def depthwise(x, kernel, stride=1, dilation=1, same=False):
    """Computes a depthwise convolution with symmetric zero padding.

    With stride 2, dilation 2 reads only every second pixel, so it is computed as an undilated convolution of those.

    Args:
        x: Input, `[batch, height, width, channels]`.
        kernel: `[k, k, 1, channels]`; `k` is odd.
        stride, dilation: 1 or 2, along both axes.
        same: Whether to pad as TensorFlow's "same" does, without dilation.
    """
    if dilation == 2 and stride == 2:
        return depthwise(every_second(x), kernel)
    if dilation == 2:
        return from_phases(depthwise(to_phases(x), kernel), x.shape[1:3])
    return _depthwise(*_padded(x, kernel.shape[:2], (stride, stride), same), kernel=kernel, stride=stride)


def to_phases(x):
    """Returns the four interleaved half-size images of each image, `[4 * batch, height / 2, width / 2, channels]`.

    Dilation 2 is no dilation in each of them. An odd side is padded with a zero at its end.
    """
    return tf.space_to_batch(x, constant([2, 2]), constant([[0, side % 2] for side in x.shape[1:3]]))


def from_phases(x, sides):
    """Puts the images of `to_phases` together again; `sides` are the height and width that they had."""
    return tf.batch_to_space(x, constant([2, 2]), constant([[0, side % 2] for side in sides]))


def _depthwise(x, padding, kernel, stride):
    if not grouped(x):
        return tf.nn.depthwise_conv2d(x, tf.transpose(kernel, (0, 1, 3, 2)), (1, stride, stride, 1), padding)
    if kernel.shape[1] <= 3:
        return tf.nn.conv2d(x, kernel, strides=stride, padding=padding)
    return _wide_depthwise(x, kernel, stride, padding)


def _wide_depthwise(x, kernel, stride, padding):
    """Computes a grouped convolution whose filter gradient is computed in parts of at most three columns."""
    height, width = kernel.shape[:2]
    pad_h, pad_w = (height // 2, width // 2) if padding == "SAME" else (0, 0)
    strides = [1, stride, stride, 1]

    @tf.custom_gradient
    def apply(x, kernel):
        y = tf.nn.conv2d(x, kernel, strides=strides, padding=padding)

        def gradient(dy):
            attributes = {"out_backprop": dy, "strides": strides}
            dx = tf.raw_ops.Conv2DBackpropInput(input_sizes=tf.shape(x), filter=kernel, padding=padding, **attributes)
            reach = (dy.shape[2] - 1) * stride
            parts = []
            for start in range(0, width, 3):
                columns = min(3, width - start)
                # The columns that this part of the kernel reads, sliced before they are padded.
                first = start - pad_w
                last = first + reach + columns
                low, high = (min(max(edge, 0), x.shape[2]) for edge in (first, last))
                left = min(max(-first, 0), last - first)
                right = last - first - left - (high - low)
                cut = x
                if (low, high) != (0, x.shape[2]):
                    cut = tf.slice(x, constant([0, 0, low, 0]), constant([-1, -1, high - low, -1]))
                if pad_h or left or right:
                    cut = tf.pad(cut, constant([[0, 0], [pad_h, pad_h], [left, right], [0, 0]]))
                if kernel.shape[3]:
                    sizes = constant([height, columns, 1, kernel.shape[3]])
                else:
                    sizes = tf.shape(tf.slice(kernel, constant([0] * 4), constant([-1, columns, -1, -1])))
                parts.append(
                    tf.raw_ops.Conv2DBackpropFilter(input=cut, filter_sizes=sizes, padding="VALID", **attributes)
                )
            return dx, tf.concat(parts, constant(1))

        return y, gradient

    return apply(x, kernel)


def normalize(x, scale, offset, mean, variance, training, epsilon=1e-5):
    """Computes batch normalisation; returns the normalised tensor, the new running mean and the new running variance.

    The running variance is updated with the unbiased variance of the batch, as in PyTorch. With a single value per
    channel, where that is undefined, the variance of the batch counts as 0, as in TensorFlow's fused kernel.

    Args:
        x: Input, `[batch, height, width, channels]`.
        scale, offset: `[channels]`, or None for 1 and 0.
        mean, variance: `[channels]`, the running statistics; None in training if there are none.
        training: Whether to normalise with the statistics of the batch.
        epsilon: Added to the variance.
    """
    if scale is None:
        scale = tf.ones(tf.shape(x)[3:]) if mean is None else constant(np.ones(mean.shape), mean.dtype)
    if offset is None:
        offset = constant(np.zeros(scale.shape), scale.dtype) if scale.shape[0] else tf.zeros_like(scale)
    if x.dtype == tf.float64 or _twice.get() or (training and is_synchronized()):
        return _plain_normalize(x, scale, offset, mean, variance, training, epsilon)
    # The same kernel under two names. Only the gradient of the first needs no zeros for the statistics, thousands of
    # operations in a supernet; only the second takes 16 bits.
    kernel = tf.raw_ops.FusedBatchNorm if x.dtype == tf.float32 else tf.raw_ops.FusedBatchNormV3
    if mean is None:
        mean = variance = constant([], tf.float32)
        factor = 1.0
    else:
        factor = DECAY
    y, mean, variance, *_ = kernel(
        x=x,
        scale=tf.cast(scale, mean.dtype),
        offset=tf.cast(offset, mean.dtype),
        mean=mean,
        variance=variance,
        epsilon=epsilon,
        exponential_avg_factor=factor,
        is_training=training,
    )
    return y, mean, variance


def _plain_normalize(x, scale, offset, mean, variance, training, epsilon):
    dtype, x = x.dtype, tf.cast(x, tf.convert_to_tensor(mean).dtype) if is_synchronized() else x
    if training:
        axes = [0, 1, 2]
        count = tf.cast(tf.size(x) // x.shape[-1], x.dtype)
        batch_mean = tf.reduce_mean(x, axes)
        # Not tf.nn.moments: it stops the gradient of the mean, which makes second derivatives wrong.
        batch_variance = tf.reduce_mean(tf.square(x - batch_mean), axes)
        if is_synchronized():
            batch_mean, batch_variance, count = moments_over_replicas(batch_mean, batch_variance, count)
        new_mean = (1 - DECAY) * mean + DECAY * batch_mean
        unbiased = batch_variance * count / tf.maximum(count - 1, 1)  # One value per channel has no variance.
        new_variance = (1 - DECAY) * variance + DECAY * unbiased
    else:
        batch_mean, batch_variance, new_mean, new_variance = mean, variance, mean, variance
    y = (x - batch_mean) * (tf.math.rsqrt(batch_variance + epsilon) * scale) + offset
    return tf.cast(y, dtype), new_mean, new_variance


def max_pool(x, stride):
    """Computes a 3x3 maximum pool with one pixel of padding on every side."""
    if stride == 1 and not _twice.get():
        channels = x.shape[-1]
        if channels is None or channels >= _NARROW or not grouped(x):
            return tf.nn.max_pool2d(x, 3, 1, "SAME")
        # The gradient of the pool is several times slower with few channels, so channels are added and removed again.
        wide = convolution(x, tf.eye(channels, _NARROW, dtype=x.dtype)[None, None])
        return first_channels(tf.nn.max_pool2d(wide, 3, 1, "SAME"), channels)
    # Padded by hand: "SAME" pads only the end at stride 2, and at stride 1 its second derivative is silently zero.
    padded = tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]], constant_values=x.dtype.min)
    return tf.nn.max_pool2d(padded, 3, stride, "VALID")


def halved_maximum(x):
    """Computes the maximum of each 2x2 pixels, or of the remaining pixels at the end of an odd side."""
    odd = [n % 2 for n in x.shape[1:3]]
    if any(odd):
        x = tf.pad(x, [[0, 0], [0, odd[0]], [0, odd[1]], [0, 0]], constant_values=x.dtype.min)
    return tf.nn.max_pool2d(x, 2, 2, "VALID")


def halved_mean(x):
    """Computes the mean of each 2x2 pixels, or of the remaining pixels at the end of an odd side."""
    return tf.nn.avg_pool2d(x, 2, 2, "SAME")


def average_pool(x, stride, padded=False):
    """Computes a 3x3 average pool with a pixel of padding on every side, whose zeros count in the mean if `padded`."""
    if stride == 1:
        share = np.array([[[1 / 9]]]) if padded else _share(x)
        if (x.shape[-1] or _NARROW) < _NARROW and grouped(x):
            # A depthwise convolution, because the gradient of the pool is four times slower with few channels.
            return depthwise(x, tf.ones((3, 3, 1, x.shape[-1]), x.dtype)) * constant(share, x.dtype)
        mean = tf.nn.avg_pool2d(x, 3, 1, "SAME")
        return mean * constant(share / _share(x), x.dtype) if padded else mean
    pads = [[0, 0], [1, 1], [1, 1], [0, 0]]
    mean = tf.nn.avg_pool2d(tf.pad(x, pads), 3, stride, "VALID")
    if padded:
        return mean
    return mean / tf.nn.avg_pool2d(tf.pad(tf.ones_like(x[:1, :, :, :1]), pads), 3, stride, "VALID")


def _share(x):
    """Returns one over the number of pixels of `x` that each 3x3 window covers, `[height, width, 1]`."""
    rows, columns = ([min(i + 1, n - 1) - max(i - 1, 0) + 1 for i in range(n)] for n in x.shape[1:3])
    return 1 / (np.array(rows)[:, None, None] * np.array(columns)[:, None])
