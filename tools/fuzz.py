"""Damages the files that commands read, and looks whether each is understood as it stands or refused by one line.

    python tools/fuzz.py --workdir=/tmp/fuzz --seed=0 --cases=5000

A case is a genotype, a path, a `.keras` file, a file of a finished search, a table of accuracies, a CSV of labels or a
flagfile in which bytes, parts or types have changed. The command must end with exit code 0, or with 2 and one line on
standard error; within 20 seconds, 2 GB and its folder (as far as Python opens files); and what it prints as JSON must
be JSON. What is accepted must mean the same when it is read again, and history must be that of the checkpoint.

Everything happens in this process, without graphs (`run_functions_eagerly`), to save a start for each case.
"""

import argparse
import contextlib
import csv
import io
import json
import os
import pathlib
import random
import re
import resource
import shutil
import sys
import tempfile
import time
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import damage_runs

from kdarts.genotypes.cuboid import get_path, load_architecture, path_names
from kdarts.genotypes.files import json_of
from kdarts.genotypes.genotype import Genotype
from kdarts.training.workdir import read_genotypes, read_history

SECONDS, MEGABYTES = 20, 2000
"""The most that a case may take."""

_DEEP, _INFINITE = "@deep@", "@1e999@"
ODD = (None, True, float("nan"), _INFINITE, _DEEP, -1, 0, 0.5, 10**30, 10**9, 10**5, "", "a/../../b", "x" * 5000, "\0")
ODD += ("\ud800", "\x1b[31m", "☃\u202e", [], {}, [[]], ["x"], {"x": 1}, 1, 2, 3.0, "none", "skip_connect", [2, 3])
"""Values that stand where others should."""
NOISE = (b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"\x1b[31m", "☃\u202e".encode(), b"\r\n", b"x" * 5000, b"9" * 5000, b'"')
NOISE += (b"[" * 3000, b"-", b",", b"=", b"nan", b"1e999", b"{", b"\\ud800", b"~", b"|", b"--", b"\n\n")
"""Bytes that stand where others should."""


_BROKEN = (ValueError, IndexError, RecursionError, csv.Error, zipfile.BadZipFile)
"""What a damage of a part fails with after another damage."""


def of_bytes(content: bytes, draw: random.Random) -> bytes:
    """Changes, cuts off, removes, repeats or replaces a part."""
    start = draw.randrange(len(content) + 1)
    end = min(len(content), start + draw.choice((1, 4, 30, len(content) // 2)))
    before, part, after = content[:start], content[start:end], content[end:]
    changed = bytes(byte ^ draw.randrange(1, 256) for byte in part[:1]) + part[1:]
    parts = changed, b"", 2 * part, draw.choice(NOISE)
    return draw.choice((before, *(before + part + after for part in parts)))


def of_json(content: bytes, draw: random.Random) -> bytes:
    """Replaces, removes, repeats or renames a part of a JSON text, or of a line of one."""
    lines = content.splitlines() if content[:2] == b'{"' and content.count(b"\n") > 1 else [content]
    number = draw.randrange(len(lines))
    whole = [json.loads(lines[number])]
    inner, key = whole, 0
    while isinstance(inner[key], list | dict) and inner[key] and draw.random() < 0.8:
        inner = inner[key]
        key = draw.choice(list(inner) if isinstance(inner, dict) else range(len(inner)))
    change = draw.randrange(4)
    if change == 0 and inner is not whole:
        del inner[key]
    elif change == 1 and isinstance(inner, list):
        inner[key:key] = draw.choice((1, 3, 2000)) * [inner[key]]
    elif change == 2 and isinstance(inner, dict):
        inner[str(draw.choice(ODD))] = inner.pop(key)
    else:
        inner[key] = draw.choice(ODD)
    text = json.dumps(whole[0]).replace(f'"{_INFINITE}"', "1e999").replace(f'"{_DEEP}"', 5000 * "[" + 5000 * "]")
    lines[number] = text.encode()
    return b"\n".join(lines)


def of_words(content: bytes, draw: random.Random) -> bytes:
    """Replaces, removes or repeats words of a text."""
    words = re.findall(r"\w+|\W", content.decode("utf-8"))
    place = draw.randrange(len(words))
    odd = str(draw.choice(ODD)).encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    words[place : place + 1] = draw.choice(([], 2 * [words[place]], [odd], [draw.choice(words)]))
    return "".join(words).encode()


def of_table(content: bytes, draw: random.Random) -> bytes:
    """Replaces, removes or repeats a cell, a row or a column of a CSV."""
    rows = list(csv.reader(io.StringIO(content.decode("utf-8"))))
    row = draw.randrange(len(rows))
    column, change = draw.randrange(len(rows[row])), draw.randrange(4)
    if change == 0:
        rows[row][column] = str(draw.choice(ODD)).encode("utf-8", "replace").decode()
    elif change == 1:
        rows[row : row + 1] = draw.choice((0, 2)) * [rows[row]]
    elif change == 2:
        times = draw.choice((0, 2))
        rows = [[*line[:column], *(times * line[column : column + 1]), *line[column + 1 :]] for line in rows]
    else:
        rows[row] = [*rows[row], *rows[row]]
    text = io.StringIO()
    csv.writer(text, lineterminator=draw.choice(("\n", "\r\n"))).writerows(rows)
    return draw.choice((b"", b"\xef\xbb\xbf")) + text.getvalue().encode()


def of_archive(content: bytes, draw: random.Random) -> bytes:
    """Removes, renames, repeats or damages a member of a zip archive, whose checksums are then right again."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    place = draw.randrange(len(members))
    name, inside = members[place]
    damages = (of_json, of_json, of_json, of_bytes) if name.endswith(".json") else (of_bytes,)
    other = draw.choice(("other.json", "../up.json", "a" * 300, members[0][0]))
    members[place : place + 1] = draw.choice(
        ([], [(other, inside)], 2 * [(name, inside)], *(5 * [[(name, draw.choice(damages)(inside, draw))]]))
    )
    buffer, packing = io.BytesIO(), draw.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    with zipfile.ZipFile(buffer, "w", packing) as archive, warnings.catch_warnings(action="ignore"):
        for each, data in members:
            archive.writestr(each, data)
    return buffer.getvalue()


def _same_again(file: pathlib.Path, before: pathlib.Path) -> bool:
    """Whether an architecture is the same after it was saved."""
    found = load_architecture(file)
    found.save(file.with_name("again.json"))
    return load_architecture(file.with_name("again.json")) == found


def _begins_alike(read: Callable) -> Callable:
    """Whether a file with something for each epoch says what it said before, at most an epoch less."""

    def same(file, before):
        found, old = read(file), read(before)
        return found == old[: len(found)] and len(found) >= len(old) - 1

    return same


class Kind(NamedTuple):
    """Files of a kind: their share of the cases, their paths, damages, commands and what is true of an accepted one."""

    share: int
    files: tuple[str, ...]
    damages: tuple[Callable, ...]
    commands: tuple[str, ...]
    holds: Callable = lambda file, before: True


_GENOTYPES = ("genotypes/darts.json", "genotypes/ddarts.json", "genotypes/cell.json")
_TEXTS = ("genotypes/darts.txt", "genotypes/cell.txt")
_LOOKS = ("info F", "info F", "info F --cells=3", "deepen --genotype=F --cells=5 --to=OUT/d.json", "distance F F")
_LOOKS += ("draw F --to=OUT/a.dot", f"distance F {_GENOTYPES[1]} --aligned", "train --genotype=F --workdir=notes.txt")
_SVG = "draw F --to=OUT/a.svg"
_REPORT = "report run --to=OUT/a.html"
_READ = ("predict --model=F pictures/0.png", "evaluate --model=F --dataset=digits --limit=4 --to=OUT")
_LABELLED = "evaluate --model=model.keras --dataset=folder:pictures --image_size=8 --labels=F --to=OUT"
_ARCHIVE = (of_bytes, of_archive, of_archive, of_archive)
KINDS = {
    "genotypes as JSON": Kind(32, _GENOTYPES, (of_bytes, of_json), _LOOKS, _same_again),
    "genotypes as text": Kind(20, _TEXTS, (of_bytes, of_words), _LOOKS, _same_again),
    "drawings": Kind(2, _GENOTYPES, (of_json,), (_SVG,), _same_again),
    "paths": Kind(6, ("path.json",), (of_bytes, of_json), (_SVG, *_LOOKS[-1:]), _same_again),
    "costs of paths": Kind(1, ("path.json",), (of_json,), ("info F",), _same_again),
    "models": Kind(6, ("model.keras",), _ARCHIVE, _READ),
    "exports": Kind(1, ("model.keras",), _ARCHIVE, ("export --model=F --to=OUT --dataset=digits --limit=4",)),
    "summaries": Kind(8, ("run/summary.json", "run/setting.json"), (of_bytes, of_json), (_REPORT, "score")),
    "histories": Kind(5, ("run/history.csv",), (of_bytes, of_table), (_REPORT,), _begins_alike(read_history)),
    "epochs": Kind(3, ("run/genotypes.jsonl",), (of_bytes, of_json), (_REPORT,), _begins_alike(read_genotypes)),
    "scores": Kind(2, ("run/genotypes.jsonl", "run/genotype.json"), (of_bytes, of_json), ("score",)),
    "arrays": Kind(2, ("run/alphas.npz",), _ARCHIVE, (_REPORT,)),
    "other files": Kind(2, ("run/flags.flags", "run/genotype.json"), (of_bytes,), (_REPORT,)),
    "runs that go on": Kind(1, ("run/summary.json", "run/data.npz", "run/flags.flags"), (of_bytes,), ("RUN",)),
    "accuracies": Kind(5, ("table.csv",), (of_bytes, of_table), ("benchmark --table=F --workdir=notes.txt",)),
    "labels": Kind(2, ("labels.csv",), (of_bytes, of_table), (_LABELLED,)),
    "flagfiles": Kind(6, ("flags.txt",), (of_bytes, of_words), ("search --flagfile=F --workdir=notes.txt",)),
}
"""In a command, F is the damaged file and OUT an empty folder; a workdir that is a file ends it after its checks."""

SEARCH = ["search", "--method=darts", "--order=first", "--space=nasbench201", "--cells=1", "--channels=2", "--epochs=3"]
SEARCH += ["--train_examples=32", "--valid_examples=32", "--batch_size=16", "--workdir=run"]


def write_files() -> None:
    """Writes whole files of every kind into the current folder."""
    import keras
    from PIL import Image

    from kdarts.networks.models import save_model

    cells = "[('sep_conv_3x3', 0), ('skip_connect', 1), ('max_pool_3x3', 0), ('dil_conv_5x5', 2)]"
    row = "|none~0|+|none~0|skip_connect~1|+|none~0|none~1|nor_conv_3x3~2|"
    for file, found in zip(_GENOTYPES, ("DARTS_V2", "DD-1", row), strict=True):
        Genotype.load(found).save(file)
    get_path(path_names()[0]).save("path.json")
    texts = {
        "genotypes/darts.txt": f"Genotype(normal={cells}, normal_concat=[2], reduce={cells}, reduce_concat=range(3))",
        "genotypes/cell.txt": row,
        "labels.csv": "file,label,split\n" + "".join(f"{digit}.png,{digit},test\n" for digit in range(10)),
        "table.csv": f"architecture,first,second\n{row},50,40.5\n{row.replace('none', 'avg_pool_3x3')},1,2\n",
        "flags.txt": "# as in the paper\n--method=darts\n--epochs=50\n--learning_rate=0.025\n--dataset=digits\n",
        "notes.txt": "no folder\n",
    }
    for file, text in texts.items():
        pathlib.Path(file).write_text(text)
    pathlib.Path("pictures").mkdir()
    for digit in range(10):
        Image.new("L", (8, 8), 20 * digit).save(f"pictures/{digit}.png")
    inputs = keras.Input((8, 8, 1))
    features = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(2, 3, activation="relu")(inputs))
    about = {"class_names": list("0123456789"), "input_shape": [8, 8, 1], "mean": [0.3], "std": [0.4]}
    save_model(keras.Model(inputs, keras.layers.Dense(10)(features)), "model.keras", about)
    code, _, err = damage_runs.call(SEARCH)
    if code:
        raise RuntimeError(err)


def score() -> None:
    """Scores the search in `run` by a table of what it found, as `kdarts benchmark` does after its searches."""
    from kdarts.tuning import scores

    texts = [found.to_text() for found in read_genotypes("../whole/run/genotypes.jsonl")]
    table, run = scores.AccuracyTable(dict.fromkeys(texts, (50.0,)), ("first",)), pathlib.Path("run")
    print(json.dumps([table.score(run), table.course(run)]))


class Writes:
    """The paths that Python opens for writing, makes or renames while it is `on`."""

    def __init__(self):
        self.on, self.paths = False, set()
        sys.addaudithook(self._note)

    def _note(self, event, arguments):
        if not self.on or event not in ("open", "os.mkdir", "os.rename") or not isinstance(arguments[0], str | bytes):
            return
        if event != "open" or arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            self.paths.add(os.path.abspath(os.fsdecode(arguments[event == "os.rename"])))


class Fuzz:
    """Cases in a folder: `whole` has the files as they should be, `case` those of the latest case.

    Args:
        folder: It is removed first.
        seed: Of all cases; each can be repeated alone.
    """

    def __init__(self, folder: pathlib.Path, seed: int):
        self.folder, self.seed, self.writes = folder.absolute(), seed, Writes()
        shutil.rmtree(self.folder, ignore_errors=True)
        for name in ("whole/genotypes", "temporary"):
            (self.folder / name).mkdir(parents=True)
        tempfile.tempdir = str(self.folder / "temporary")
        with contextlib.chdir(self.folder / "whole"):
            write_files()

    def case(self, number: int) -> tuple[str, str, str]:
        """Makes a case; returns its kind, what was done, and "accepted", "refused" or the fault."""
        draw, whole, case = random.Random(f"{self.seed} {number}"), self.folder / "whole", self.folder / "case"
        name = draw.choices(list(KINDS), [kind.share for kind in KINDS.values()])[0]
        kind = KINDS[name]
        shutil.rmtree(case, ignore_errors=True)
        file, damage, command = draw.choice(kind.files), draw.choice(kind.damages), draw.choice(kind.commands)
        needed = {"genotypes", "notes.txt", "pictures", "model.keras"} | {file.partition("/")[0]}
        shutil.copytree(whole, case, ignore=lambda at, names: set(names) - needed if pathlib.Path(at) == whole else ())
        content = (whole / file).read_bytes()
        for _ in range(draw.choice((1, 1, 1, 2))):
            with contextlib.suppress(*_BROKEN):
                content = damage(content, draw)
        (case / file).write_bytes(content)
        words = SEARCH if command == "RUN" else command.replace("OUT", "out").split()
        words = [file if word == "F" else word.replace("=F", f"={file}") for word in words]
        with contextlib.chdir(case):
            outcome = self._outcome(words) or self._meaning(kind, words, file)
        return name, f"{number} {file}, {damage.__name__}: {' '.join(words)}", outcome

    def _outcome(self, words: list[str]) -> str:
        """Runs a command; returns "refused", the fault, or "" where it went well."""
        began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        self.writes.paths, self.writes.on = set(), True
        code, out, err = damage_runs.call(words, score if words == ["score"] else None)
        self.writes.on = False
        took = time.monotonic() - began
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1e3
        usual = (f"{self.folder}/", "/dev/")
        outside = [path for path in self.writes.paths if not path.startswith(usual) and "__pycache__" not in path]
        if took > SECONDS or grown > MEGABYTES or outside:
            return f"{took:.0f} s, {grown:.0f} MB, wrote {outside}: exit code {code}: {err[-500:]}"
        told = [line for line in err.splitlines() if line.startswith("kdarts: ")]
        if code == 2 and len(told) == 1 and err.endswith(f"{told[0]}\n") and told[0].isprintable():
            return "refused"
        if code:
            return f"exit code {code}: {err[-1500:]}"
        for line in out.splitlines() if code == 0 else ():
            try:
                json_of(line if line.startswith(("{", "[")) else "0")
            except ValueError as error:
                return f"printed no JSON ({error}): {line[:300]}"
        return "" if code == 0 else f"no exit code: {err[-1500:]}"

    def _meaning(self, kind: Kind, words: list[str], file: str) -> str:
        """What is wrong with what was accepted, or "accepted"."""
        if words[0] == "info" and damage_runs.call(words) != damage_runs.call(words):
            return "accepted, and told twice in two ways"
        holds = kind.holds(pathlib.Path(file), self.folder / "whole" / file)
        return "accepted" if holds else "accepted, and means something else"


def parse(arguments: list[str]) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(prog="fuzz", description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", type=pathlib.Path, required=True, help="folder, which is removed first")
    parser.add_argument("--cases", type=int, default=5000, help="default: 5000")
    parser.add_argument("--seed", type=int, default=0, help="of the cases")
    parser.add_argument("--only", type=int, help="the number of a case to repeat, whose files stay in WORKDIR/case")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Runs the cases and prints their faults, and a table of what came of each kind.

    Args:
        arguments: Without the program's name; None: those of this process.

    Returns:
        0 if nothing was a fault, else 1.
    """
    chosen = parse(list(sys.argv[1:] if arguments is None else arguments))
    counts, faults = {name: Counter() for name in KINDS}, 0
    with damage_runs.eagerly():
        fuzz = Fuzz(chosen.workdir, chosen.seed)
        for number in range(chosen.cases) if chosen.only is None else [chosen.only]:
            began = time.monotonic()
            name, done, outcome = fuzz.case(number)
            known = outcome in ("accepted", "refused")
            took = time.monotonic() - began
            counts[name] += Counter({"cases": 1, outcome if known else "faults": 1, "seconds": took})
            if not known or chosen.only is not None:
                print(f"{done}: {outcome}", flush=True)
            faults += not known
    tempfile.tempdir = None
    print("\n| files | cases | refused | accepted | faults | seconds |\n| --- | ---: | ---: | ---: | ---: | ---: |")
    for name, count in counts.items():
        row = [count[each] for each in ("cases", "refused", "accepted", "faults")]
        print(f"| {name} | {' | '.join(map(str, row))} | {count['seconds']:.0f} |")
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main())
