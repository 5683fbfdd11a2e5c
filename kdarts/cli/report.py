"""`kdarts report`: one HTML file about a run, or about several side by side."""

from absl import flags

from kdarts.cli.command import Command
from kdarts.cli.process import start_tensorflow
from kdarts.genotypes.errors import KdartsError


def define(values: flags.FlagValues) -> None:
    """Its flags."""
    flags.DEFINE_string("workdir", None, "folder of a search or a training; or name several", flag_values=values)
    flags.DEFINE_string("to", None, "file to write: .html", flag_values=values)


def run(values: flags.FlagValues) -> None:
    """Writes the report."""
    workdirs = [*([values.workdir] if values.workdir else []), *values.arguments]
    if not workdirs:
        raise KdartsError("--workdir is missing: the folder of a run; kdarts report A B ... takes several")
    if not values.to:
        raise KdartsError("--to is missing: a file that ends in .html")
    start_tensorflow()
    from kdarts.views.report import write_report

    write_report(workdirs, values.to)
    print(values.to)


REPORT = Command(
    "write a page about a run: its curves, α, cells and cost by epoch",
    define,
    run,
    arguments="[WORKDIR ...] ",
    more=True,
    example="kdarts report --workdir=runs/digits-darts --to=report.html",
)
