"""`kdarts distance`: how far genotypes are apart."""

import json

from absl import flags

from kdarts.cli.command import Command
from kdarts.genotypes.genotype import Genotype


def define(values: flags.FlagValues) -> None:
    """Its flags."""
    flags.DEFINE_string(
        "weights",
        "median",
        "the operations' scores: median (D-DARTS' Table 1), mean (its program), or a .json file {operation: score}",
        flag_values=values,
    )
    text = "whether an edge's distance is over the sum of the scores, else over 12 (D-DARTS' Algorithm 2)"
    flags.DEFINE_bool("normalize", True, text, flag_values=values)
    text = "compare cells edge by edge: a true metric, which the published one is not"
    flags.DEFINE_bool("aligned", False, text, flag_values=values)
    flags.DEFINE_string("to", None, "heat map to write: .svg, .png or .pdf", flag_values=values)


def run(values: flags.FlagValues) -> None:
    """Prints one JSON line for two genotypes, a table for more."""
    from kdarts.genotypes.distance import OPERATIONS, distance, read_weights

    scores = dict(zip(OPERATIONS, read_weights(values.weights).tolist(), strict=True))
    genotypes = [Genotype.load(word) for word in values.arguments]
    names = [genotype.name or word for genotype, word in zip(genotypes, values.arguments, strict=True)]
    how = {"normalize": values.normalize, "aligned": values.aligned}
    table = [[distance(a, b, scores, **how) for b in genotypes] for a in genotypes]
    if values.to:
        from kdarts.views.distance_map import draw_distances

        label = "aligned distance" if values.aligned else "distance M"
        draw_distances(table, names, values.to, label if values.normalize else f"{label} (unit of the scores)")
    if len(names) == 2:
        print(json.dumps({"a": names[0], "b": names[1], "distance": table[0][1], "weights": values.weights, **how}))
    else:
        print(_as_text(names, table))
    if values.to:
        print(values.to)


def _as_text(names, table) -> str:
    """A row for each genotype, with its number, which heads its column."""
    numbers = [str(number) for number in range(1, len(names) + 1)]
    wide, widest = len(numbers[-1]), max(map(len, names))
    rows = [f"{'':{wide + 2 + widest}}" + "".join(f"  {number:>8}" for number in numbers)]
    for number, name, line in zip(numbers, names, table, strict=True):
        rows.append(f"{number:>{wide}}  {name:{widest}}" + "".join(f"  {value:8.4f}" for value in line))
    return "\n".join(rows)


COMMAND = Command(
    "how far genotypes of DARTOpti's space are apart (D-DARTS' metric M)",
    define,
    run,
    arguments="GENOTYPE GENOTYPE ... ",
    count=2,
    more=True,
    example="kdarts distance ResNet18 ResNet50 DO-1-ResNet18 --to=distances.png",
)
