"""`kdarts evaluate` measures a trained network on a data set, `kdarts export` writes it for serving."""

import json
import pathlib
import sys

from absl import flags

from kdarts.cli import options
from kdarts.cli.command import Command
from kdarts.cli.process import hushed, start_tensorflow
from kdarts.genotypes.errors import KdartsError, choice
from kdarts.genotypes.settings import MOST_BATCH


def define(values: flags.FlagValues) -> None:
    """Its flags."""
    flags.DEFINE_string("model", None, "path of a model.keras", flag_values=values)
    options.define_dataset(values)
    flags.DEFINE_enum("split", "test", ["test", "train"], "which images", flag_values=values)
    options.positive("batch_size", 128, "examples at once", values, MOST_BATCH)


def run(values: flags.FlagValues) -> None:
    """Prints one JSON line: loss, accuracy, examples."""
    if not values.model:
        raise KdartsError("--model is missing: the path of a model.keras")
    start_tensorflow()
    import keras

    from kdarts.data import datasets
    from kdarts.data.pipeline import eval_dataset
    from kdarts.networks.models import load_model
    from kdarts.training.workdir import summary_beside

    model, about = load_model(values.model), summary_beside(values.model)
    data = options.load(values, values.split)
    if tuple(model.input_shape[1:]) != data.image_shape:
        raise KdartsError(
            f"{values.dataset} has images of {data.image_shape}, the model takes {tuple(model.input_shape[1:])}"
        )
    classes = model.layers[-1].units if hasattr(model.layers[-1], "units") else None
    if classes is not None and classes < data.num_classes:
        raise KdartsError(f"{values.dataset} has {data.num_classes} classes, the model tells {classes} apart")
    if "mean" in about and "std" in about:
        mean, std = about["mean"], about["std"]
    else:
        mean, std = datasets.statistics(options.load(values, "train").images)
    model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    result = model.evaluate(eval_dataset(data, values.batch_size, mean, std), verbose=0, return_dict=True)
    print(json.dumps({"loss": float(result["loss"]), "accuracy": float(result["accuracy"]), "examples": len(data)}))


EVALUATE = Command(
    "measure a trained network on a data set",
    define,
    run,
    example="kdarts evaluate --model=runs/digits-found-train/model.keras --dataset=digits",
)


def export_define(values: flags.FlagValues) -> None:
    """Its flags."""
    flags.DEFINE_string("model", None, "path of a model.keras", flag_values=values)
    text = "saved_model, litert, litert_float16, litert_int8, onnx; several with commas"
    flags.DEFINE_list("format", ["saved_model"], text, flag_values=values)
    flags.DEFINE_string("to", None, "folder for the result, such as saved_models/NAME", flag_values=values)
    flags.DEFINE_enum(
        "input",
        "normalized",
        ["raw", "normalized"],
        "images the result takes: raw (0 to 255) or normalized by the training set's mean and standard deviation",
        flag_values=values,
    )
    options.define_dataset(values)
    values.set_default("dataset", None)  # the one that the model was trained on
    text = "test images on which each format is compared with the model, and training images that calibrate int8"
    options.positive("examples", 256, text, values)


def export_run(values: flags.FlagValues) -> None:
    """Writes the formats, the genotype and the metrics; prints a line for each format, and their paths as JSON."""
    for name in ("model", "to"):
        if not values[name].value:
            raise KdartsError(f"--{name} is missing; see kdarts export --help")
    start_tensorflow()
    from kdarts.genotypes.cuboid import load_architecture
    from kdarts.networks.models import load_model
    from kdarts.serving.export import FORMATS, export
    from kdarts.training.workdir import summary_beside, write_json

    for name in values.format:
        choice("format", name, FORMATS)
    folder = pathlib.Path(values.to)
    if folder.exists() and not folder.is_dir():
        raise KdartsError(f"--to={folder} is a file; it needs to be a folder or new")
    about = summary_beside(values.model)
    if values.input == "raw" and not {"mean", "std"} <= set(about):
        raise KdartsError(f"--input=raw needs the mean and std that summary.json beside {values.model} would give")
    model = load_model(values.model)
    images, calibration = _images(values, about, tuple(model.input_shape[1:]))
    with hushed():
        written = export(
            model,
            values.format,
            folder,
            about.get("mean"),
            about.get("std"),
            raw=values.input == "raw",
            class_names=about.get("class_names", ()),
            images=images,
            calibration=calibration,
        )
    genotype = pathlib.Path(values.model).with_name("genotype.json")
    if genotype.is_file():
        load_architecture(genotype).save(folder / "genotype.json")
    write_json(folder / "metrics.json", {**about, "input": values.input, "exports": written})
    for name, figures in written.items():
        print(_line(name, figures))
    print(json.dumps({name: figures["path"] for name, figures in written.items()}))


def _images(values, about: dict, shape):
    """Test images to compare on, and training images where a format is calibrated, else None; both raw.

    Where no data set is named and that of the training is not to be had, both are None, and a line says so.
    """
    from kdarts.data import datasets
    from kdarts.serving.export import ARTIFACTS

    name = values.dataset or about.get("dataset")
    if name is None:
        print("not compared with the model: no data set is known; --dataset names one", file=sys.stderr)
        return None, None
    size = values.image_size or (shape[0] if shape[0] == shape[1] else None)
    limit = min(values.examples, values.limit or values.examples)

    def load(split):
        data = datasets.load(name, values.data_dir, size, split, limit, download=values.download)
        if data.image_shape != shape:
            raise KdartsError(f"{name} has images of {data.image_shape}, the model takes {shape}")
        return data.images

    try:
        return load("test"), load("train") if any(ARTIFACTS[f].calibrated for f in values.format) else None
    except KdartsError as error:
        if values.dataset:
            raise
        print(f"not compared with the model: {error}", file=sys.stderr)
        return None, None


def _line(name: str, figures: dict) -> str:
    """`onnx 0.007 MB 0.02 ms an image   largest difference of a logit 1.0e-06, same class 1.000 of 64 images`."""
    size = f"{name:<16}{figures['bytes'] / 1e6:8.3f} MB"
    if "examples" not in figures:
        return f"{size}   not compared"
    found = f"largest difference of a logit {figures['largest_difference']:.1e}"
    same = f"same class {figures['agreement']:.3f} of {figures['examples']} images"
    return f"{size}{figures['latency_ms']:9.2f} ms an image   {found}, {same}"


EXPORT = Command(
    "write a trained network as SavedModel, LiteRT or ONNX",
    export_define,
    export_run,
    example="kdarts export --model=T/model.keras --format=saved_model --to=saved_models/mine --input=raw",
)
