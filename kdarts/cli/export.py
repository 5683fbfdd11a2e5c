"""`kdarts export`: from a trained network to what serves it."""

import json
import pathlib

from absl import flags

from kdarts.cli.command import Command
from kdarts.cli.quiet import start_tensorflow
from kdarts.genotypes.errors import KdartsError, choice


def define(values: flags.FlagValues) -> None:
    """Its flags."""
    flags.DEFINE_string("model", None, "path of a model.keras", flag_values=values)
    flags.DEFINE_list("format", ["saved_model"], "saved_model, litert, onnx; several with commas", flag_values=values)
    flags.DEFINE_string("to", None, "folder for the result, such as saved_models/NAME", flag_values=values)
    flags.DEFINE_enum(
        "input",
        "normalized",
        ["raw", "normalized"],
        "images the result takes: raw (0 to 255) or normalized by the training set's mean and standard deviation",
        flag_values=values,
    )


def run(values: flags.FlagValues) -> None:
    """Writes the formats, the genotype and the metrics."""
    for name in ("model", "to"):
        if not values[name].value:
            raise KdartsError(f"--{name} is missing; see kdarts export --help")
    start_tensorflow()
    from kdarts.genotypes.found import load_found
    from kdarts.run.export import FORMATS, export
    from kdarts.run.files import write_json
    from kdarts.run.models import load_model, summary_beside

    for name in values.format:
        choice("format", name, FORMATS)
    folder = pathlib.Path(values.to)
    if folder.exists() and not folder.is_dir():
        raise KdartsError(f"--to={folder} is a file; it needs to be a folder or new")
    about = summary_beside(values.model)
    if values.input == "raw" and not {"mean", "std"} <= set(about):
        raise KdartsError(f"--input=raw needs the mean and std that summary.json beside {values.model} would give")
    model = load_model(values.model)
    statistics = (about["mean"], about["std"]) if values.input == "raw" else (None, None)
    written = export(model, values.format, folder, *statistics)
    genotype = pathlib.Path(values.model).with_name("genotype.json")
    if genotype.is_file():
        load_found(genotype).save(folder / "genotype.json")
    write_json(folder / "metrics.json", {**about, "input": values.input})
    print(json.dumps({name: str(path) for name, path in written.items()}))


COMMAND = Command(
    "write a trained network as SavedModel, LiteRT or ONNX",
    define,
    run,
    example="kdarts export --model=T/model.keras --format=saved_model --to=saved_models/mine --input=raw",
)
