"""A trained network in use: `kdarts evaluate` measures it, `predict` classifies pictures, `export` writes its files."""

import csv
import io
import json
import pathlib
import sys

from absl import flags

from kdarts.cli import options
from kdarts.cli.command import Command
from kdarts.cli.process import hushed, start_tensorflow
from kdarts.genotypes.errors import KdartsError, choice
from kdarts.genotypes.files import write_text
from kdarts.genotypes.settings import MOST_BATCH
from kdarts.ops.cost import amount

_FORMS = "a .keras, .tflite or .onnx file, or the folder of a SavedModel"


def _define_dataset(values: flags.FlagValues) -> None:
    options.define_dataset(values)
    values.set_default("dataset", None)
    values["dataset"].help += "; default: the one that the model was trained on"


def _check_given(values: flags.FlagValues, *names: str) -> None:
    for name in names:
        if not values[name].value:
            raise KdartsError(f"--{name} is missing: {values[name].help}")


def define(values: flags.FlagValues) -> None:
    """Declares the flags of `kdarts evaluate`."""
    flags.DEFINE_string("model", None, f"path of the network: {_FORMS}", flag_values=values)
    _define_dataset(values)
    options.define_resize(values, "as after the training, where --image_size is not given")
    flags.DEFINE_enum("split", "test", ["test", "train"], "which images", flag_values=values)
    options.positive("batch_size", 128, "examples at once", values, MOST_BATCH)
    text = "folder for evaluation.json, confusion.csv and confusion.png; default: that of the model"
    flags.DEFINE_string("to", None, text, flag_values=values)


def run(values: flags.FlagValues) -> None:
    """Prints one JSON line: loss, accuracy, top-k accuracy, examples; writes the other figures."""
    _check_given(values, "model")
    start_tensorflow()
    from kdarts.serving.evaluation import evaluate, write_evaluation
    from kdarts.views.heatmap import draw_confusion

    classifier = _opened(values)
    data = _load(values, classifier.about, classifier.shape, values.split)
    if not classifier.raw and "mean" not in classifier.about:
        from dataclasses import replace

        from kdarts.data.datasets import statistics

        train = _load(values, classifier.about, classifier.shape, "train")
        about = dict(zip(("mean", "std"), statistics(train.images), strict=True))
        classifier = replace(classifier, about=classifier.about | about)
    figures, confusion = evaluate(classifier, data, values.batch_size)
    print(json.dumps({name: value for name, value in figures.items() if not isinstance(value, list)}), flush=True)
    folder = pathlib.Path(values.to or classifier.path.parent)
    write_evaluation(figures, confusion, folder)
    draw_confusion(confusion, [row["class"] for row in figures["classes"]], folder / "confusion.png")
    if figures["most_wrong"]:
        print("mistakes that the network was most certain of, with its probability:", file=sys.stderr)
    for row in figures["most_wrong"][:5]:
        text = f"{row['class']} predicted as {row['predicted']}, {row['probability']:.3f}: image {row['image']}"
        print(text, file=sys.stderr)
    print(f"{folder / 'evaluation.json'}, confusion.csv, confusion.png", file=sys.stderr)
    if classifier.path.suffix == ".keras":
        given = {"model": values.model, "to": f"saved_models/{classifier.path.absolute().parent.name}"}
        print(options.next_command("export", given | options.data_flags(values)), file=sys.stderr)


def _opened(values):
    from kdarts.serving.predict import open_classifier

    with hushed():
        return open_classifier(values.model)


def _load(values, about: dict, shape, split: str, limit: int | None = None):
    """A split of the data set that is named, or that of the training, in the size that the model takes."""
    from kdarts.data import datasets

    name = values.dataset or about.get("dataset")
    if name is None:
        raise KdartsError("--dataset is missing: the model does not say which data set it was trained on")
    how = options.reading(values)
    kept = {} if values.dataset else {name: about.get(name) for name in ("labels", "group")}
    how |= {name: text for name, text in kept.items() if how[name] is None}
    if not values["background"].present:
        how["background"] = about.get("background", "white")
    which = {
        "split": split,
        "image_size": values.image_size or (shape[0] if shape[0] == shape[1] else None),
        "limit": limit or values.limit,
        "alike": (shape[2], about.get("peak", 65535)),
    }
    if split != "train":
        which["resize"] = (values["resize"].value if "resize" in values else None) or about.get("resize")
    data = datasets.load(name, **which, **how)
    _check_shape(name, data, shape)
    return data


def _check_shape(name: str, data, shape: tuple) -> None:
    if data.image_shape != shape:
        raise KdartsError(f"{name} has images of {data.image_shape}, the model takes {shape}")


EVALUATE = Command(
    "measure a trained network on a data set",
    define,
    run,
    example="kdarts evaluate --model=runs/digits-found-train/model.keras --dataset=digits",
)


def predict_define(values: flags.FlagValues) -> None:
    """Its flags."""
    flags.DEFINE_string("model", None, f"path of the network: {_FORMS}", flag_values=values)
    options.positive("top", 3, "classes of each picture, the most probable first", values)
    flags.DEFINE_enum("format", "table", ["table", "csv", "jsonl"], "form of the answer", flag_values=values)
    flags.DEFINE_string("to", None, "file for the answer; default: standard output", flag_values=values)
    options.positive("batch_size", 32, "pictures at once", values)


def predict_run(values: flags.FlagValues) -> int:
    """Prints classes and probabilities; returns 1 if some of the pictures could not be read."""
    _check_given(values, "model")
    start_tensorflow()
    from kdarts.serving.predict import predict

    found = predict(_opened(values), values.arguments, values.top, values.batch_size)
    broken = [prediction for prediction in found if prediction.error]
    for prediction in broken:
        print(f"{_plain(prediction.file)}: {prediction.error}", file=sys.stderr)
    if len(broken) == len(found):
        raise KdartsError(f"none of {len(found)} pictures could be read")
    text = _FORMATS[values.format](found)
    if values.to:
        write_text(values.to, text)
        print(values.to)
    else:
        print(text, end="")
    if broken:
        print(f"{len(broken)} of {len(found)} pictures could not be read", file=sys.stderr)
    return 1 if broken else 0


def _plain(text: str) -> str:
    """A name as one line of text, whatever characters it has."""
    return text if text.isprintable() else ascii(text)


def _table(found) -> str:
    width = max(len(_plain(each.file)) for each in found if not each.error)
    lines = []
    for each in found:
        classes = [f"{_plain(name)} {probability:.3f}" for name, probability in each.classes]
        lines += [] if each.error else [f"{_plain(each.file):<{width}}  {'  '.join(classes)}\n"]
    return "".join(lines)


def _csv(found) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["file", "rank", "class", "probability"])
    for each in found:
        ranked = enumerate(each.classes, 1)
        writer.writerows([_text(each.file), rank, name, f"{share:.6g}"] for rank, (name, share) in ranked)
    return text.getvalue()


def _jsonl(found) -> str:
    def row(each):
        if each.error:
            return {"file": _text(each.file), "error": each.error}
        classes = [{"class": name, "probability": probability} for name, probability in each.classes]
        return {"file": _text(each.file), "classes": classes}

    return "".join(json.dumps(row(each)) + "\n" for each in found)


def _text(name: str) -> str:
    """A file's name as Unicode text, which those that are not UTF-8 are not."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


_FORMATS = {"table": _table, "csv": _csv, "jsonl": _jsonl}

PREDICT = Command(
    "tell the classes of pictures",
    predict_define,
    predict_run,
    arguments="PATH ... ",
    count=1,
    more=True,
    example="kdarts predict --model=runs/pictures-train/model.keras holiday/ dog.jpg",
)


_LEAST = 100
"""The least number of images to compare int8 on, where there are as many."""


def export_define(values: flags.FlagValues) -> None:
    """Declares the flags of `kdarts export`."""
    flags.DEFINE_string("model", None, "path of a model.keras", flag_values=values)
    text = "saved_model, litert, litert_float16, litert_int8, c_array (int8, as a C header), onnx; several with commas"
    flags.DEFINE_list("format", ["saved_model"], text, flag_values=values)
    flags.DEFINE_string("to", None, "folder for the result, such as saved_models/NAME", flag_values=values)
    text = "what images the exported network takes: raw (0 to 255), or normalized by the mean and standard "
    text += "deviation of the training images"
    flags.DEFINE_enum("input", "normalized", ["raw", "normalized"], text, flag_values=values)
    text = "images that a LiteRT file takes at once: 1, as microcontrollers need it, or any; other formats take any"
    flags.DEFINE_enum("batch", "1", ["1", "any"], text, flag_values=values)
    text = "input and output of litert_int8 and c_array are 8-bit integers, too; their scale and zero point are printed"
    flags.DEFINE_bool("int8_io", False, text, flag_values=values)
    text = (
        "file of measured latencies: of a path, whose genotype.json lies beside the model, print the milliseconds, too"
    )
    flags.DEFINE_string("latency_table", None, text, flag_values=values)
    _define_dataset(values)
    text = "test images on which each format is compared with the model, and training images that calibrate int8"
    options.positive("examples", 256, f"{text}, at least {_LEAST}", values)
    text = "smallest share of the test images that the int8 file must classify as the model does"
    flags.DEFINE_float("min_agreement", 0.97, text, 0.0, 1.0, flag_values=values)


def export_run(values: flags.FlagValues) -> None:
    """Writes the formats, the genotype and the metrics; prints a line for each format, and their paths as JSON."""
    _check_given(values, "model", "to")
    start_tensorflow()
    from kdarts.genotypes.cuboid import load_architecture
    from kdarts.ops.device import device_cost
    from kdarts.serving.export import ARTIFACTS, FORMATS, TRAVELS, export
    from kdarts.serving.predict import open_network
    from kdarts.training.workdir import write_json

    for name in values.format:
        choice("format", name, FORMATS)
    if values["batch"].present and not any(ARTIFACTS[name].sized for name in values.format):
        text = f"--batch={values.batch}: has no effect with --format={','.join(values.format)}"
        raise KdartsError(f"{text}; it is for {', '.join(name for name, each in ARTIFACTS.items() if each.sized)}")
    integer = [name for name, each in ARTIFACTS.items() if each.integer]
    if values.int8_io and not any(name in integer for name in values.format):
        text = f"--int8_io: has no effect with --format={','.join(values.format)}"
        raise KdartsError(f"{text}; it is for {', '.join(integer)}")
    folder = pathlib.Path(values.to)
    if folder.exists() and not folder.is_dir():
        raise KdartsError(f"--to={folder} is a file; it needs to be a folder or new")
    model, about = open_network(values.model)
    timed = _timed(values, tuple(model.input_shape[1:]))
    if values.input == "raw" and "mean" not in about:
        raise KdartsError(f"--input=raw: {values.model} has no mean and std, and neither has a summary.json beside it")
    data, calibration = _images(values, about, tuple(model.input_shape[1:]))
    with hushed():
        written = export(
            model,
            values.format,
            folder,
            about.get("mean"),
            about.get("std"),
            raw=values.input == "raw",
            class_names=about.get("class_names", ()),
            images=None if data is None else data.images[:],
            calibration=None if calibration is None else calibration.images[:],
            min_agreement=values.min_agreement,
            about={name: about[name] for name in TRAVELS if name in about},
            batch=1 if values.batch == "1" else None,
            int8_io=values.int8_io,
        )
    genotype = pathlib.Path(values.model).with_name("genotype.json")
    if genotype.is_file():
        load_architecture(genotype).save(folder / "genotype.json")
    metrics = about.pop("metrics", {})
    cost = device_cost(model)
    told = {} if cost is None else {"cost": {n: getattr(cost, n) for n in ("params", "macs", "ram", "flash")}}
    write_json(folder / "metrics.json", {**about, **metrics, "input": values.input, **told, "exports": written})
    if cost is not None:
        on_device = f"as int8 {cost.ram / 1024:,.1f} KiB of activations, about {cost.flash / 1e3:,.0f} kB of flash"
        print(f"{amount(cost.params)} weights, {amount(cost.macs)} MACs an image; {on_device}{timed}")
    for name, figures in written.items():
        print(_line(name, figures))
    print(json.dumps({name: figures["path"] for name, figures in written.items()}))
    print(after_export(values, about, data, next(iter(written.values()))["path"]), file=sys.stderr)


def _timed(values, shape) -> str:
    """The milliseconds of the model's path by the table of the flags, in words; "" without a table."""
    if not values.latency_table:
        return ""
    from kdarts.genotypes.cuboid import HyperPath, load_architecture
    from kdarts.ops.cost import Latencies
    from kdarts.supernet.cuboids import path_latency

    genotype = pathlib.Path(values.model).with_name("genotype.json")
    found = load_architecture(genotype) if genotype.is_file() else None
    if not isinstance(found, HyperPath):
        raise KdartsError(f"--latency_table={values.latency_table}: needs the file of a path, {genotype}")
    return f", {path_latency(found, shape, Latencies.load(values.latency_table)):.3g} ms by the table"


def after_export(values: flags.FlagValues, about: dict, data, path) -> str:
    """Returns the line with the command that follows.

    It is a prediction for a test picture, or an evaluation where there are no picture files.

    Args:
        values: The flags of the data.
        about: What is known about the network, such as its `dataset`.
        data: The `ImageData` of the test, or None.
        path: The network in any of its forms.
    """
    name = values.dataset or about.get("dataset", "")
    if data is not None and data.names and name.startswith("folder:"):
        picture = pathlib.Path(name.removeprefix("folder:")).expanduser() / data.names[0]
        return options.next_command("predict", {"model": path}, str(picture))
    return options.next_command("evaluate", {"model": path, **options.data_flags(values)})


def _images(values, about: dict, shape):
    """Loads test images for a comparison, and training images if a format needs calibration, else None.

    If no data set is named and that of the training is not available, both are None, and a line reports it.
    """
    from kdarts.serving.export import ARTIFACTS

    if not values.dataset and "dataset" not in about:
        print("not compared with the model: no data set is known; --dataset names one", file=sys.stderr)
        return None, None
    calibrated = any(ARTIFACTS[name].calibrated for name in values.format)
    examples = max(values.examples, _LEAST) if calibrated else values.examples
    limit = min(examples, values.limit or examples)

    def load(split):
        return _load(values, about, shape, split, limit)

    try:
        return load("test"), load("train") if calibrated else None
    except KdartsError as error:
        if values.dataset:
            raise
        print(f"not compared with the model: {error}", file=sys.stderr)
        return None, None


def _line(name: str, figures: dict) -> str:
    """Formats `onnx 0.007 MB 0.02 ms an image  largest difference of a logit 1.0e-06, same class 1.000 of 64`."""
    size = f"{name:<16}{figures['bytes'] / 1e6:8.3f} MB"
    ends = figures.get("quantization", {}).items()
    scales = "".join(f"\n{'':16}{end}: scale {q['scale']:.9g}, zero point {q['zero_point']}" for end, q in ends)
    scales += f"\n{'':16}{figures['flash']:,} bytes of flash" if "flash" in figures else ""
    if "examples" not in figures:
        return f"{size}   not compared{scales}"
    found = f"largest difference of a logit {figures['largest_difference']:.1e}"
    same = f"same class {figures['agreement']:.3f} of {figures['examples']} images"
    return f"{size}{figures['latency_ms']:9.2f} ms an image   {found}, {same}{scales}"


EXPORT = Command(
    "write a trained network as SavedModel, LiteRT or ONNX",
    export_define,
    export_run,
    example="kdarts export --model=T/model.keras --format=saved_model --to=saved_models/mine --input=raw",
)
