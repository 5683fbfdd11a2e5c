"""`kdarts evaluate`: a trained network on a data set."""

import json

from absl import flags

from kdarts.cli import options
from kdarts.cli.command import Command
from kdarts.cli.quiet import start_tensorflow
from kdarts.genotypes.errors import KdartsError


def define(values: flags.FlagValues) -> None:
    """Its flags."""
    flags.DEFINE_string("model", None, "path of a model.keras", flag_values=values)
    options.define_dataset(values)
    flags.DEFINE_enum("split", "test", ["test", "train"], "which images", flag_values=values)
    options.positive("batch_size", 128, "examples at once", values)


def run(values: flags.FlagValues) -> None:
    """Prints one JSON line: loss, accuracy, examples."""
    if not values.model:
        raise KdartsError("--model is missing: the path of a model.keras")
    start_tensorflow()
    import keras

    from kdarts.run import datasets
    from kdarts.run.models import load_model, summary_beside
    from kdarts.run.pipeline import eval_dataset

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


COMMAND = Command(
    "measure a trained network on a data set",
    define,
    run,
    example="kdarts evaluate --model=runs/digits-found-train/model.keras --dataset=digits",
)
