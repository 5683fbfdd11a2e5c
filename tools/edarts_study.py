"""The programs behind eDARTS' Figures 2 and 3 and its Table II, from real searches and trainings of any size.

    python tools/edarts_study.py VERB [--workdir=runs/edarts] [OPTIONS]

    topologies   Fig. 3: the test accuracy of all 180 topologies of the normal cell, all of its operations
                 sep_conv_3x3, with one reduction cell of max pools that reads its two inputs; then that of the best 20,
                 all sep_conv_3x3 in both cells
    spaces       Fig. 2: the test accuracy of the cells found in the sub-spaces SS1 to SS8 by supernets of 5 and of 16
                 cells; on the subset of the images, with one update of alpha an epoch
    skips        Table II: skip connections, test accuracy, size and search time of DARTS, and of DARTS on a subset of
                 the images, with one update of alpha an epoch, and with both
    mixings      not eDARTS': skip connections, size, search and test accuracy of what one method finds with each of
                 several mixings, first of all sharpDARTS' scalar weights (softmax) against Max-W (max_w)

The test accuracy is that of the paper's shallow network, flags/train_shallow_cifar10.flags, and the search is DARTS'
second-order one, flags/darts_v2_cifar10.flags, or for `mixings` that of --method; each option replaces a size of
these. All of Table II with three seeds in less than an hour on 2 cores, first-order, with larger steps of alpha since
there are so few:

    python tools/edarts_study.py skips --data_dir=DIR --limit=4000 --seeds=3 --order=first --arch_learning_rate=0.01 \
        --search_examples=1000 --subset_examples=200 --search_epochs=12 --search_batch_size=32 --search_cells=5 \
        --channels=4 --examples=2000 --epochs=6 --cells=5 --batch_size=64

Scalar against Max-W in a quarter of an hour:

    python tools/edarts_study.py mixings --data_dir=DIR --limit=4000 --arch_learning_rate=0.02 --search_examples=512 \
        --search_epochs=10 --search_batch_size=32 --search_cells=3 --nodes=3 --channels=4 --examples=2000 --epochs=6 \
        --cells=5 --batch_size=64

keras-tuner keeps the trials. Each is the search and the training of one cell in WORKDIR/VERB/trials/NAME, and so the
same command goes on where a killed study was, and more seeds, spaces, depths, methods or mixings add to it. With
KERASTUNER_TUNER_ID, KERASTUNER_ORACLE_IP and KERASTUNER_ORACLE_PORT set, it is keras-tuner's chief or a worker, on a
folder that all of them see. The results are WORKDIR/VERB.csv and .md, and of `topologies` and `spaces` .png and .svg.
"""

import argparse
import os
import pathlib
import shutil
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))  # Runs where kdarts is not installed, too.

from edarts_studies import STUDIES, size_of
from edarts_trials import Measurement

from kdarts.cli.command import exit_code
from kdarts.cli.process import start_tensorflow
from kdarts.genotypes.errors import KdartsError, choice
from kdarts.genotypes.files import write_text
from kdarts.training.workdir import Workdir, write_table

SIZES = {
    "epochs": "length of a shallow training",
    "examples": "images to train it on; default: all",
    "cells": "of the shallow network",
    "channels": "of the shallow network and of the supernet",
    "batch_size": "of the shallow training",
    "search_epochs": "length of a search",
    "search_examples": "images for the weights of a search, and as many for alpha; default: all, in halves",
    "search_cells": "of the supernet; default: 8 (skips), the method's (mixings)",
    "nodes": "intermediate nodes of a searched cell; default: those of the space",
    "search_batch_size": "of a search",
}
"""Options that replace a size of the flagfiles."""

GROWING = {"verb", "workdir", "data_dir", "seeds", "numbers", "best", "spaces", "depths", "methods", "mixings"}
"""Options that a later command on the same folder may change: what was measured stays true."""


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        raise KdartsError(message)


def parse(arguments: list[str]) -> argparse.Namespace:
    """What the command line asks for; raises `KdartsError` where it makes no sense."""
    parser = _Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    add = parser.add_argument
    add("verb", metavar="VERB", help=", ".join(STUDIES))
    add("--workdir", type=pathlib.Path, default=pathlib.Path("runs/edarts"))
    add("--dataset", default="cifar10", help="as of kdarts search; default: cifar10")
    add("--data_dir", help="as of kdarts search")
    add("--limit", type=int, help="read no more than so many images of a split, the test images too")
    text = "; ".join(f"{study.defaults['seeds']} ({name})" for name, study in STUDIES.items())
    add("--seeds", type=int, help=f"of each cell or search; default: {text}")
    add("--seed", type=int, help="the first; default: 20 (spaces), else 0")
    for name, text in SIZES.items():
        add(f"--{name}", type=int, help=text)
    add("--subset_examples", type=int, default=2500, help="the same for a search on a subset; default: 2500")
    orders, text = ["first", "second", "exact"], "architecture gradient; default: second, the method's (mixings)"
    add("--order", choices=orders, help=text)
    add("--arch_learning_rate", type=float, help="of alpha; searches of few steps need more than the paper's 0.0003")
    add("--numbers", default="", help="of the topologies to measure, such as 0,7,30-39; default: all (topologies)")
    add("--best", type=int, default=20, help="topologies that are measured in both cells (topologies)")
    add("--spaces", default=",".join(f"ss{k}" for k in range(1, 9)), help="default: all 8 (spaces)")
    add("--depths", default="5,16", help="cells of the supernet (spaces)")
    add("--methods", default="darts,subset,update,both", help="lines of the table (skips)")
    add("--method", help="of kdarts search; default: sharpdarts (mixings)")
    add("--mixings", help="lines of the table; default: softmax,max_w (mixings)")
    if {"-h", "--help"} & set(arguments):
        parser.parse_args(["--help"])
    chosen = parser.parse_args(arguments)
    study = STUDIES[choice("study", chosen.verb, STUDIES)]
    for name, least in {"seeds": 1, "limit": 1, "subset_examples": 1, "best": 0, **dict.fromkeys(SIZES, 1)}.items():
        value = getattr(chosen, name)
        if value is not None and value < least:
            raise KdartsError(f"--{name}={value}: allowed is {least} and more")
    for name, value in study.defaults.items():
        if getattr(chosen, name) is None:
            setattr(chosen, name, value)
    return chosen


def remembered(chosen: argparse.Namespace) -> dict[str, str]:
    """What may not change from one command on a folder to the next.

    With several seeds a topology's accuracy is a mean: there their number may not change either.
    """
    growing = GROWING - {"seeds"} if chosen.verb == "topologies" else GROWING
    kept = {name: value for name, value in vars(chosen).items() if name not in growing and value is not None}
    return {name: str(value) for name, value in kept.items()}


def run(chosen: argparse.Namespace) -> int:
    """Measures every trial of a study that is not finished, and writes its results."""
    study, name = STUDIES[chosen.verb], chosen.verb
    names = study.names(chosen)
    study.trial(names[0], chosen).check()
    folder, worker = Workdir(chosen.workdir / name), "chief" not in os.environ.get("KERASTUNER_TUNER_ID", "chief")
    if worker:
        folder.check(remembered(chosen))  # The chief begins it: nothing is removed there while others write.
    else:
        folder.begin(remembered(chosen))
    start_tensorflow()
    import keras_tuner
    from edarts_grid import GridOracle

    from kdarts.training.trials import TrialTuner, reports

    oracle = GridOracle(names, study.then(chosen))
    measurement = Measurement(study, chosen, folder / "trials", oracle)
    tuner = TrialTuner(oracle, measurement, folder / "oracle")
    try:
        tuner.search()
    except keras_tuner.errors.FatalRuntimeError as error:
        if measurement.code == 2 and isinstance(error.__cause__, KdartsError):
            if not worker and not any(folder.path.glob("trials/*/*/summary.json")):
                shutil.rmtree(folder.path)  # So that the corrected command may have it.
            return 2  # It has its one line already.
        print(f"edarts_study: {error}; the same command goes on there", file=sys.stderr)
        return 1
    if not reports():
        return 0
    rows = study.rows(oracle.measured(), chosen, folder / "trials")
    write_table(chosen.workdir / f"{name}.csv", rows)
    lines = study.table(rows)
    title, size = study.title, size_of(chosen)
    write_text(chosen.workdir / f"{name}.md", "\n".join([f"**{title}**", "", *lines, "", size, ""]))
    kinds = ".csv, .md"
    if study.figure:
        import ddarts_figures

        ddarts_figures.save(study.figure, rows, size, chosen.workdir / name)
        kinds += ", .png, .svg"
    print(f"\n{title}\n\n" + "\n".join(lines) + f"\n\n{size}\n\nWritten: {chosen.workdir / name}{kinds}")
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Runs a study.

    Args:
        arguments: without the program's name; None: those of this process.

    Returns:
        As of `exit_code`, and 1 if a trial was killed.
    """
    return exit_code("edarts_study", lambda: run(parse(list(sys.argv[1:] if arguments is None else arguments))))


if __name__ == "__main__":
    sys.exit(main())
