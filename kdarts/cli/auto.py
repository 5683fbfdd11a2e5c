"""`kdarts auto`: from labelled pictures to the best classifier within limits and a time."""

import time

from absl import flags

from kdarts.cli import options, process
from kdarts.cli.command import Command, entitle
from kdarts.cli.process import start_tensorflow
from kdarts.cli.serve import after_export
from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.settings import MOST


def define(values: flags.FlagValues) -> None:
    """Declares the flags."""
    options.define_dataset(values)
    text = "time limit in minutes; it is kept within a tenth on a machine whose speed does not change"
    flags.DEFINE_float("minutes", 60.0, text, 1.0, 1e5, flag_values=values)
    text = "most weights of the network, such as 80k or 1M; default: any"
    flags.DEFINE_string("max_params", None, text, flag_values=values)
    text = "most multiply-accumulates for an image, such as 12.5M; default: what can be trained in the time"
    flags.DEFINE_string("max_macs", None, text, flag_values=values)
    text = "most milliseconds for an image, by LiteRT on this machine with one thread"
    flags.DEFINE_float("max_latency_ms", None, text, 0.0, 1e6, flag_values=values)
    values["max_latency_ms"].open = True
    text = "most bytes of the 8-bit LiteRT file, such as 200kB or 256KiB, estimated"
    flags.DEFINE_string("max_size", None, text, flag_values=values)
    entitle(values, "Limits", ["minutes", "max_params", "max_macs", "max_latency_ms", "max_size"])
    options.define_augmentation(values)
    text = "part of the train split by which the networks are compared, more than 0 and less than 1"
    flags.DEFINE_float("hold_back", 0.15, text, 0.0, 0.99, flag_values=values)
    values["hold_back"].open = True
    options.positive(
        "seeds", 1, "final trainings of each of the last two networks, with seed, seed + 1, ...", values, 100
    )
    options.define_seed(values)
    text = "formats of the trained network, separated by commas, in WORKDIR/export (see kdarts export)"
    flags.DEFINE_list("format", ["saved_model", "litert"], text, flag_values=values)
    options.define_dry_run(values)
    flags.DEFINE_string("workdir", None, "folder of the run; default: runs/DATASET-auto", flag_values=values)
    text = "learn from a random draw of so many images, those held back included; default: all"
    options.positive("train_examples", None, text, values, MOST)
    entitle(values, "Data", ["hold_back", "train_examples"])


def limits_of(values: flags.FlagValues):
    """Returns the `Limits` of the flags."""
    from kdarts.auto.limits import Limits
    from kdarts.search.cost_target import count, memory

    read = {"params": count, "macs": count, "size": memory}
    found = {}
    for name, parse in read.items():
        text = values[f"max_{name}"].value
        if text is not None:
            try:
                found[name] = parse(text)
            except KdartsError as error:
                raise KdartsError(f"--max_{name}={text}: {str(error).partition(': ')[2]}") from None
    return Limits(latency_ms=values.max_latency_ms, **found)


def run(values: flags.FlagValues) -> None:
    """Runs or continues."""
    from kdarts.training.workdir import Workdir

    began = time.monotonic()
    workdir = Workdir(values.workdir or options.default_workdir(values, "auto"))
    remembered, usual = options.remembered(values), options.usual(values)
    workdir.check(remembered, usual)
    start_tensorflow()
    from kdarts.auto.deliver import check_formats, deliver, told
    from kdarts.auto.run import AutoRun, Settings
    from kdarts.data import datasets
    from kdarts.training.distribution import configure_threads

    names = "minutes", "hold_back", "seeds", "seed", "group"
    settings = Settings(limits=limits_of(values), **{name: values[name].value for name in names})
    check_formats(values.format)
    configure_threads()
    train, test = options.load(values, "train"), options.load(values, "test")
    workdir.check_data(train=train, test=test)
    drawn = {"name": "train_examples", "most": values.train_examples, "seed": values.seed}
    train = options.random_draw(data=train, **drawn)

    def resized(side):
        how = {"image_size": side, "limit": values.limit, **options.reading(values)}
        smaller, smaller_test = (datasets.load(values.dataset, split=split, **how) for split in ("train", "test"))
        return options.random_draw(data=smaller, **drawn), smaller_test

    augmentation = options.augmentation(values, train.image_shape)
    about = {"dataset": values.dataset}
    about |= {name: values[name].value for name in ("labels", "group", "background") if values[name].value}
    auto = AutoRun(
        train, test, augmentation, settings, workdir, about, began=began, resized=None if values.image_size else resized
    )
    if values.dry_run:
        return print(f"dry run: {settings.minutes:g} minutes with {len(train):,} pictures, tested on {len(test):,}")
    workdir.begin(remembered, usual)
    try:
        auto.run()
    finally:
        if auto.concluded:
            with process.hushed():
                figures = deliver(auto, values.format)
            print("\n".join(told(auto.concluded, figures)))
            print(f"Written: {workdir / 'model.keras'}, {workdir / 'export'}, {workdir / 'report.html'}")
            print(after_export(values, about, auto.test, workdir / "model.keras"))


AUTO = Command(
    "find and train the best classifier of pictures within limits and a time",
    define,
    run,
    example="kdarts auto --dataset=folder:pictures --minutes=30 --max_size=256KiB --workdir=runs/mine",
)
