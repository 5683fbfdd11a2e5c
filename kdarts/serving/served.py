"""What `kdarts export` wrote, opened by the library of its format: how it answers, and what it tells about itself."""

import importlib.util
import json
import pathlib
import statistics
import time
import zipfile
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from kdarts.genotypes.errors import KdartsError
from kdarts.serving.c_array import read_header

Answer = Callable[[np.ndarray], np.ndarray]


def open_served(form: str, path: pathlib.Path) -> tuple[Answer, dict]:
    """Opens a file, once.

    Args:
        form: The name of the format, as in `FORMATS` of `kdarts.serving.export`.
        path: The file or folder.

    Returns:
        A function from images `[n, height, width, channels]`, float32, to outputs `[n, classes]`, and the entries of
        `check_about`, not yet checked.

    Raises:
        KdartsError: If the file tells nothing about itself. A library has its own errors for a file that is damaged.
    """
    kinds = {"saved_model": _open_saved_model, "onnx": _open_onnx, "c_array": _open_c_array}
    return kinds.get(form, _open_litert)(path)


def _open_saved_model(path: pathlib.Path) -> tuple[Answer, dict]:
    loaded = tf.saved_model.load(str(path))
    if "about" not in loaded.signatures:
        raise KdartsError(f"model {str(path)!r} tells nothing about itself; kdarts export writes what is needed")
    serve, told = loaded.signatures["serving_default"], loaded.signatures["about"]()
    # `loaded` owns the variables that the signature reads.
    return lambda images, owner=loaded: _only(serve(image=tf.constant(images))).numpy(), _about(serve, told)


def _about(serve, told) -> dict:
    told = {name: tensor.numpy() for name, tensor in told.items()}
    if "json" in told:
        return json.loads(told["json"])
    shape = serve.structured_input_signature[1]["image"].shape[1:]
    about = {"class_names": [name.decode() for name in told["class_names"]], "input": told["input"].decode()}
    return about | {"input_shape": list(shape)} | {n: told[n].tolist() for n in ("mean", "std") if n in told}


def _open_litert(path: pathlib.Path) -> tuple[Answer, dict]:
    try:
        with zipfile.ZipFile(path) as archive:
            about = json.loads(archive.read("about.json"))
    except (zipfile.BadZipFile, KeyError):
        raise KdartsError(f"model {str(path)!r} has no about.json; kdarts export writes it") from None
    return _answer(litert(model_path=str(path))), about


def _open_c_array(path: pathlib.Path) -> tuple[Answer, dict]:
    return _answer(litert(model_content=read_header(path))), {}


def litert(**options):
    """Returns LiteRT's interpreter, of its own package, or of TensorFlow where that is not installed.

    Args:
        **options: `model_path`, or `model_content` as bytes; and `num_threads`.
    """
    if importlib.util.find_spec("ai_edge_litert") is not None:
        from ai_edge_litert.interpreter import Interpreter
    else:
        Interpreter = tf.lite.Interpreter
    return Interpreter(**options)


_WARM, _TIMED = 5, 30


def median_ms(call: Callable[[], object]) -> float:
    """Returns the median time of a call in milliseconds, behind some that warm up."""
    times = []
    for _ in range(_WARM + _TIMED):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return 1e3 * statistics.median(times[_WARM:])


def _answer(interpreter) -> Answer:
    """Returns a function from float32 images to float32 outputs, whatever the file takes and gives."""
    runner, quantization = interpreter.get_signature_runner("serving_default"), quantization_of(interpreter)

    # A file may take only one image at once, and the memory of any other is planned for one.
    def each(image):
        if "input" in quantization:
            given = quantization["input"]
            image = np.clip(np.round(image / given["scale"]) + given["zero_point"], -128, 127).astype(np.int8)
        output = _only(runner(image=image))
        if "output" in quantization:
            given = quantization["output"]
            output = ((output.astype(np.float32) - given["zero_point"]) * given["scale"]).astype(np.float32)
        return output

    return lambda images: np.concatenate([each(images[i : i + 1]) for i in range(len(images))])


def quantization_of(interpreter) -> dict[str, dict]:
    """Returns `scale` and `zero_point` of the "input" and the "output", as far as they are 8-bit integers.

    A value is `scale * (integer - zero_point)`.
    """
    ends = {"input": interpreter.get_input_details(), "output": interpreter.get_output_details()}
    found = {}
    for end, (details, *_) in ends.items():
        if details["dtype"] == np.int8:
            scale, zero_point = details["quantization"]
            found[end] = {"scale": float(scale), "zero_point": int(zero_point)}
    return found


def _open_onnx(path: pathlib.Path) -> tuple[Answer, dict]:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    about = {name: json.loads(text) for name, text in session.get_modelmeta().custom_metadata_map.items()}
    return lambda images: session.run(None, {"image": images})[0], about


def _only(outputs: dict):
    """The one output, under whichever name the release that wrote the file gave it."""
    (output,) = outputs.values()
    return output


def probe(answer: Answer, shape) -> tuple[int, str]:
    """Tries a network on noise.

    Args:
        answer: from images float32 `[n, height, width, channels]` to outputs `[n, classes]`.
        shape: height, width and channels.

    Returns:
        The number of classes, and what the outputs are: "probabilities", as of a softmax, if none is below 0 and their
        sums are 1; else "logits".

    Raises:
        KdartsError: If there are not numbers for at least 2 classes, or one of them is not finite.
    """
    noise = np.random.default_rng(0).normal(size=(4, *shape)).astype("float32")
    outputs = np.asarray(answer(noise), "float64")
    if outputs.ndim != 2 or outputs.shape[1] < 2:
        raise KdartsError(f"the model gives outputs of shape {outputs.shape[1:]}; needs a number for each of 2 classes")
    if not np.isfinite(outputs).all():
        raise KdartsError("the model gives an output that is not a finite number; its training has diverged")
    final = (outputs >= 0).all() and np.allclose(outputs.sum(-1), 1, atol=1e-2)
    return outputs.shape[1], "probabilities" if final else "logits"
