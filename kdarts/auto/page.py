"""The page of a finished run: what was chosen, what it was compared with, and where it is wrong. Plain HTML and SVG."""

import base64
import html
import importlib.resources
import io
import math
import pathlib
from collections.abc import Sequence

import numpy as np
from PIL import Image

from kdarts.auto.candidates import FOUND, HANDMADE, PUBLISHED, RANDOM, RULE
from kdarts.auto.limits import Limits
from kdarts.genotypes.files import write_text
from kdarts.ops.cost import amount
from kdarts.training.session import clock
from kdarts.views.report import content_hash

_MOST_CLASSES = 20
"""Classes up to which the confusion matrix is part of the page; larger ones are in `confusion.csv`."""

_STYLE = """
.tile { display: inline-block; margin: 0 0.8rem 0.8rem 0; vertical-align: top; width: 8.5rem; font-size: 0.82rem;
  overflow-wrap: anywhere; }
.tile img { display: block; width: 6rem; height: 6rem; object-fit: contain; image-rendering: pixelated;
  background: var(--rule); }
.best th, .best td { font-weight: 700; }
td, th { white-space: nowrap; }
.plot { overflow-x: auto; }
.plot svg { min-width: 34rem; }
td.n, th.n { text-align: right; min-width: 0; }
.map td { text-align: right; min-width: 2.2rem; border: 1px solid var(--card); }
pre { overflow-x: auto; background: var(--paper); border: 1px solid var(--rule); border-radius: 5px; padding: 0.6rem; }
"""
_ORIGINS = {HANDMADE: 0, PUBLISHED: 2, RANDOM: 4, RULE: 6, FOUND: 1}
"""The number of the colour of each origin."""


def write_page(
    path,
    summary: dict,
    figures: dict,
    confusion: np.ndarray,
    wrong: Sequence[np.ndarray],
    exports: dict,
    measured_on: str = "test",
) -> None:
    """Writes the page as one HTML file that loads nothing.

    Args:
        path: The file to write.
        summary: The summary of the run (see `AutoRun`).
        figures: The figures of `kdarts.serving.evaluation.evaluate`.
        confusion: Numbers of pictures, `[classes, classes]`, true classes in rows.
        wrong: The pictures of `figures["most_wrong"]`, uint8 `[height, width, 1 or 3]` each.
        exports: What `kdarts.serving.export.export` returned.
        measured_on: What the figures were measured on, "test" or "held-back".
    """
    style = importlib.resources.files("kdarts.views").joinpath("report.css").read_text("utf-8") + _STYLE
    style += _shades()
    policy = f"default-src 'none'; style-src 'sha256-{content_hash(style)}'; img-src data:; base-uri 'none'; "
    policy += "form-action 'none'"
    body = [
        _head(summary, figures, measured_on),
        _networks(summary),
        _classes(figures, confusion, measured_on),
        _wrong(figures, wrong, measured_on),
        _serve(exports, path, "dataset" in summary),
    ]
    text = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>kdarts: {_escaped(summary.get("dataset", "pictures"))}</title>
<style>{style}</style>
</head>
<body><main>
{"".join(body)}
</main></body>
</html>
"""
    write_text(path, text.encode("utf-8", "replace").decode("utf-8"))


def _escaped(text) -> str:
    return html.escape(str(text))


def _shades() -> str:
    """Classes of table cells: the more of the accent's colour, the larger the share."""
    return "".join(
        f".g{k} {{ background: color-mix(in srgb, var(--accent) {10 * k}%, transparent); }}\n" for k in range(1, 7)
    )


def _head(summary: dict, figures: dict, on: str) -> str:
    """What was chosen, how good it is, what it costs, and whether the search was worth it."""
    facts = {
        f"accuracy on {figures['examples']:,} {on} pictures": f"{figures['accuracy']:.2%}",
        "weights": _spent(summary, "params"),
        "MACs for a picture": _spent(summary, "macs"),
        "time": f"{clock(summary['spent_seconds'])} of {clock(60 * summary['minutes'])}",
        "limits": Limits(**summary["limits"]).listed() or "none but the time",
        "classes": str(len(figures["classes"])),
    }
    listed = "".join(f"<div><dt>{_escaped(k)}</dt><dd>{_escaped(v)}</dd></div>" for k, v in facts.items())
    return f"""<h1>{_escaped(summary.get("dataset", "pictures"))}: {_escaped(summary["network"])},
{_escaped(summary["size"])}</h1>
<section class="card"><dl>{listed}</dl><p>{_escaped(verdict(summary))}</p></section>
"""


def _spent(summary: dict, kind: str) -> str:
    """A cost, and how much of its limit that is."""
    most = summary["limits"].get(kind)
    return amount(summary[kind]) + ("" if most is None else f", {summary[kind] / most:.0%} of the limit")


def verdict(summary: dict) -> str:
    """Returns in sentences how the chosen network compares with those that were made by hand."""
    last = [row for row in summary["networks"] if row["round"] == summary["round"]]
    chosen = next(row for row in last if row["network"] == summary["network"])
    hand = next((row for row in last if row["origin"] == HANDMADE), None)
    if summary["interrupted"]:
        lead = f"The run was interrupted; this is the best network of the {summary['round']} round. "
    else:
        lead = ""
    if chosen["origin"] == HANDMADE:
        return lead + f"The best network was made by hand: nothing that was found did better than {chosen['network']}."
    if hand is None:
        return lead + "No network that was made by hand took part in this round."
    more = 100 * (chosen["held_back_accuracy"] - hand["held_back_accuracy"])
    text = f"On the held-back pictures its accuracy is {more:.2f} points above that of {hand['network']} "
    text += f"({hand['size']}), the best network that was made by hand, trained by the same recipe for the same time"
    if "test_accuracy" in chosen and "test_accuracy" in hand:
        difference = 100 * (chosen["test_accuracy"] - hand["test_accuracy"])
        text += f"; on the test pictures the difference is {difference:+.2f} points"
    if count := summary.get("held_back_examples"):
        share = chosen["held_back_accuracy"]
        error = 100 * math.sqrt(2 * share * (1 - share) / count)
        text += f". Two networks that are equally good differ by about {error:.1f} points on so many held-back pictures"
    return lead + text + "."


def _networks(summary: dict) -> str:
    """The picture of accuracy by cost, and the table of all networks with the figures of their last round."""
    rows, seen = [], set()
    for row in summary["networks"]:
        if row["network"] not in seen:
            rows.append(row)
            seen.add(row["network"])
    lines = []
    for number, row in enumerate(rows, 1):
        mark = ' class="best"' if row["network"] == summary["network"] else ""
        test = f"{row['test_accuracy']:.2%}" if "test_accuracy" in row else "–"
        deviation = row.get("test_accuracy_sd")
        test += f" ± {100 * deviation:.2f}" if deviation is not None else ""
        cells = [
            (row["network"], ""),
            (row["origin"], ""),
            (row["size"], ""),
            (amount(row["params"]), "n"),
            (amount(row["macs"]), "n"),
            (f"{row['flash'] / 1e3:,.0f} kB", "n"),
            (row["round"], ""),
            (row["epochs"], "n"),
            (clock(row["seconds"]), "n"),
            (f"{row['held_back_accuracy']:.2%}", "n"),
            (test, "n"),
        ]
        shown = "".join(f'<td class="{kind}">{_escaped(value)}</td>' for value, kind in cells)
        lines.append(f'<tr{mark}><th scope="row" class="n">{number}</th>{shown}</tr>')
    titles = ["", "network", "origin", "size", "weights", "MACs", "int8 file", "last round", "epochs", "time"]
    titles += ["held back", "test"]
    head = "".join(f'<th scope="col">{title}</th>' for title in titles)
    return f"""<h2>All networks that were tried</h2>
<section class="card"><h3>Accuracy on the held-back pictures, by the cost of the network</h3>
{_scatter(rows)}
<p class="unit">Numbers are those of the table. A network has the accuracy of its last round, and later rounds train
longer.</p>
</section>
<section class="card wide"><table><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table></section>
"""


def _scatter(rows: list[dict]) -> str:
    """Accuracy by MACs, the latter on a logarithmic axis, as SVG."""
    width, height, left, top, right, bottom = 720, 330, 52, 14, 18, 44
    xs = [math.log10(max(1, row["macs"])) for row in rows]
    ys = [100 * row["held_back_accuracy"] for row in rows]
    x0, x1 = min(xs) - 0.1, max(xs) + 0.1
    step = next(s for s in (1, 2, 5, 10, 20, 25) if (max(ys) - min(ys)) / s <= 7 or s == 25)
    y0, y1 = step * math.floor(min(ys) / step), step * math.ceil(max(ys) / step + 1e-9)
    y1 = y1 if y1 > y0 else y0 + step

    def at(x, y):
        across = left + (x - x0) / (x1 - x0) * (width - left - right)
        return across, height - bottom - (y - y0) / (y1 - y0) * (height - top - bottom)

    parts = []
    for k in range(round((y1 - y0) / step) + 1):
        _, y = at(x0, y0 + k * step)
        parts.append(f'<line class="grid" x1="{left}" x2="{width - right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="muted" x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{y0 + k * step:g} %</text>')
    factors = (1, 2, 5) if x1 - x0 > 0.8 else (1, 1.5, 2, 3, 4, 5, 6, 8)
    ticks = [f * 10**e for e in range(math.floor(x0), math.ceil(x1) + 1) for f in factors]
    for tick in (t for t in ticks if x0 <= math.log10(t) <= x1):
        x, _ = at(math.log10(tick), y0)
        parts.append(
            f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{height - bottom}" y2="{height - bottom + 4}"/>'
        )
        label = f"{tick / 1e6:g} M" if tick >= 1e5 else f"{tick / 1e3:g} k"
        parts.append(f'<text class="muted" x="{x:.1f}" y="{height - bottom + 17}" text-anchor="middle">{label}</text>')
    parts.append(f'<line class="axis" x1="{left}" x2="{width - right}" y1="{height - bottom}" y2="{height - bottom}"/>')
    middle = (left + width - right) / 2
    parts.append(f'<text x="{middle}" y="{height - 8}" text-anchor="middle">MACs for a picture</text>')
    for number, (row, x, y) in enumerate(zip(rows, xs, ys, strict=True), 1):
        px, py = at(x, y)
        kind = _ORIGINS.get(row["origin"], 3)
        title = f"<title>{_escaped(row['network'])}, {row['held_back_accuracy']:.2%}</title>"
        shape = f'<circle class="mark k{kind}" cx="{px:.1f}" cy="{py:.1f}" r="6">{title}</circle>'
        if row["origin"] == FOUND:
            shape = (
                f'<rect class="mark k{kind}" x="{px - 6:.1f}" y="{py - 6:.1f}" width="12" height="12">{title}</rect>'
            )
        parts.append(shape + f'<text x="{px + 9:.1f}" y="{py + 4:.1f}">{number}</text>')
    there = dict.fromkeys(row["origin"] for row in rows)
    legend = "".join(
        f'<li><svg viewBox="0 0 34 14" aria-hidden="true">{_symbol(origin)}</svg>{_escaped(origin)}</li>'
        for origin in there
    )
    label = "Accuracy on the held-back pictures by the MACs of each network"
    drawing = f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{label}">{"".join(parts)}</svg>'
    return f'<div class="plot">{drawing}</div><ul class="legend">{legend}</ul>'


def _symbol(origin: str) -> str:
    kind = _ORIGINS.get(origin, 3)
    if origin == FOUND:
        return f'<rect class="mark k{kind}" x="11" y="1" width="12" height="12"/>'
    return f'<circle class="mark k{kind}" cx="17" cy="7" r="6"/>'


def _classes(figures: dict, confusion: np.ndarray, on: str) -> str:
    """Precision and recall of each class, and the confusion matrix where there are not too many."""

    def share(value):
        return "–" if value is None else f"{value:.1%}"

    rows = "".join(
        f'<tr><th scope="row">{_escaped(row["class"])}</th><td class="n">{row["examples"]:,}</td>'
        f'<td class="n">{share(row["precision"])}</td><td class="n">{share(row["recall"])}</td></tr>'
        for row in figures["classes"]
    )
    text = f"""<h2>Class by class, on the {on} pictures</h2>
<div class="pair"><section class="card wide"><h3>Precision and recall</h3>
<p class="unit">Precision: of the pictures that got this class, the share of which it is the class. Recall: of the
pictures of this class, the share that got it.</p>
<table><thead><tr><th scope="col">class</th><th class="n" scope="col">pictures</th>
<th class="n" scope="col">precision</th><th class="n" scope="col">recall</th></tr></thead>
<tbody>{rows}</tbody></table></section>
"""
    if len(confusion) > _MOST_CLASSES:
        return (
            text + '<section class="card"><p>The confusion matrix is in <code>confusion.csv</code>.</p></section></div>'
        )
    names = [_escaped(row["class"]) for row in figures["classes"]]
    lines = []
    for name, row in zip(names, confusion, strict=True):
        total = max(1, int(row.sum()))
        cells = "".join(f'<td class="g{min(6, math.ceil(6 * int(n) / total))}">{int(n) or ""}</td>' for n in row)
        lines.append(f'<tr><th scope="row">{name}</th>{cells}</tr>')
    head = "".join(f'<th class="n" scope="col">{name}</th>' for name in names)
    return (
        text
        + f"""<section class="card wide"><h3>Numbers of pictures: true classes in rows, answers in columns</h3>
<table class="map"><thead><tr><th></th>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table></section></div>
"""
    )


def _wrong(figures: dict, wrong: Sequence[np.ndarray], on: str) -> str:
    """The pictures that got the highest probability of a wrong class."""
    if not wrong:
        return f'<h2>Mistakes</h2><section class="card"><p>No {on} picture got a wrong class.</p></section>'
    tiles = []
    for row, pixels in zip(figures["most_wrong"], wrong, strict=True):
        stream = io.BytesIO()
        Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(stream, "PNG")
        data = base64.b64encode(stream.getvalue()).decode("ascii")
        text = f"{row['class']}, taken for {row['predicted']} ({row['probability']:.0%})"
        caption = f'{_escaped(text)}<br><span class="muted">{_escaped(row["image"])}</span>'
        image = f'<img alt="{_escaped(text)}" src="data:image/png;base64,{data}">'
        tiles.append(f'<figure class="tile">{image}<figcaption>{caption}</figcaption></figure>')
    return f"""<h2>The {on} pictures it is most wrong about</h2>
<section class="card">{"".join(tiles)}</section>
"""


def _serve(exports: dict, path, named: bool) -> str:
    """The files, and how to use them."""
    folder = pathlib.Path(path).parent
    lines = []
    for name, each in exports.items():
        shown = [_escaped(each["path"]), f"{each['bytes'] / 1e3:,.0f} kB", _milliseconds(each)]
        cells = "".join(f'<td class="{"n" if k else ""}">{text}</td>' for k, text in enumerate(shown))
        lines.append(f'<tr><th scope="row">{_escaped(name)}</th>{cells}</tr>')
    head = '<th scope="col">format</th><th scope="col">file</th><th class="n" scope="col">size</th>'
    head += '<th class="n" scope="col">time for a picture</th>'
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>" if lines else ""
    commands = f"kdarts predict --model={folder / 'model.keras'} PICTURE ..."
    commands += f"\nkdarts evaluate --model={folder / 'model.keras'}" if named else ""
    python = f"""import kdarts

classifier = kdarts.ImageClassifier.load("{folder / "model.keras"}")
print(classifier.predict(pictures).classes)  # uint8, [n, height, width, channels]"""
    return f"""<h2>Use it</h2>
<section class="card wide">{table}
<p>The files take raw pixels, 0 to 255, and give a logit for each class; the names of the classes are inside.</p>
<pre>{_escaped(commands)}</pre><pre>{_escaped(python)}</pre></section>
"""


def _milliseconds(figures: dict) -> str:
    return f"{figures['latency_ms']:.2f} ms" if "latency_ms" in figures else "–"
