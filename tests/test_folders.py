"""Folders of pictures as people have them: classes, parts, label files, groups, and what is refused or told."""

import os
import pathlib
import random

import numpy as np
import pytest

from kdarts.data import folders, splits
from kdarts.data.folders import listing, listings
from kdarts.genotypes.errors import KdartsError

TWENTY = [f"{name}/{i:02}.png" for name in ("ape", "bee") for i in range(10)]


def _files(root, *names, content=None):
    """Files that nobody decodes; each has a content of its own unless one is given."""
    for name in names:
        file = pathlib.Path(root, name)
        file.parent.mkdir(parents=True, exist_ok=True)
        inside = "" if root.name.startswith("test_") else f"{root.name}/"  # pytest numbers its folders
        file.write_bytes((inside + name).encode("utf-8", "surrogateescape") if content is None else content)
    return str(root)


def _names(root, **how):
    """The names of both parts, sorted."""
    both = listings(str(root), **how)
    return sorted(both.train.names), sorted(both.test.names)


def _both(root):
    train, test = _names(root)
    return sorted([*train, *test])


def _refused(root, **how):
    with pytest.raises(KdartsError) as caught:
        listings(str(root), **how)
    message = str(caught.value)
    assert "\n" not in message and ("allowed: " in message or "needed: " in message)
    return message


@pytest.fixture
def told(capsys, monkeypatch):
    """The notes since it was last called."""
    monkeypatch.setattr(folders, "_told", set())

    def lines():
        out, err = capsys.readouterr()
        assert out == "" and all(line.startswith("note: ") for line in err.splitlines())
        folders._told.clear()
        return err.splitlines()

    return lines


# Parts


def test_a_listing_is_a_function_of_the_pictures(tmp_path, told):
    root = _files(tmp_path, *TWENTY)
    train, test = listing(root, "train"), listing(root, "test")
    assert sorted([*train.names, *test.names]) == TWENTY and 2 <= len(test) <= 6
    assert train.class_names == ("ape", "bee") and train.labels.dtype == np.int32
    assert [name.split("/")[0] for name in train.names] == [train.class_names[i] for i in train.labels]
    assert train.files == tuple(tmp_path / name for name in train.names)
    assert listing(root, "train").names == train.names != tuple(sorted(train.names))
    assert set(listings(root).files) == {*train.files, *test.files}
    assert told() == []


def test_the_rule_of_the_parts_stays_as_it_is(tmp_path):
    """A new rule would put test pictures of earlier runs into training."""
    for i in range(40):
        content = bytes([i]) * (i if i else 3 * 2**14)
        _files(tmp_path, f"{i:02}.png", content=content)
    digests = splits.fingerprints(str(tmp_path), [f"{i:02}.png" for i in range(40)])
    assert [i for i in range(40) if splits.is_test(digests[i])] == [0, 5, 7, 8, 34, 35]
    pictures = [splits.Picture(f"a/{i}_x.png", "a", "") for i in range(40)]
    parts, _ = splits.divided(pictures, digests, splits.compiled("(.*)_"))
    assert [i for i in range(40) if parts[i].part == "test"] == [1, 5, 25, 29, 30, 33]


def test_a_fifth_of_many_pictures_is_for_the_test():
    digests = [splits.hashlib.blake2b(str(i).encode()).digest() for i in range(10000)]
    assert 1880 < sum(map(splits.is_test, digests)) < 2120


@pytest.mark.parametrize("group", [None, r"([a-z]+)_\d+"])
def test_no_edit_moves_a_picture_from_one_part_to_the_other(tmp_path, group):
    """200 random edits: pictures added, removed, renamed, moved to another class; classes added, removed, renamed."""
    draw = random.Random(5)
    number = iter(range(10**6))
    people = ["ann", "bob", "cyd", "dan", "eva", "fay", "gus", "hal", "ida", "jon", "kim", "leo"]

    def new_name(like=None):
        stem = like.split("_")[0] if like else draw.choice([*people, *people, *people, f"alone{next(number)}"])
        return stem + draw.choice([".png", ".JPG"]) if "alone" in stem else f"{stem}_{next(number)}.png"

    def add(label):
        name = new_name()
        size = draw.choice([*[10] * 9, 5 * splits.BLOCK])
        _files(tmp_path, f"{label}/{draw.choice(['', 'more/'])}{name}", content=draw.randbytes(size))

    def content():
        both = listings(str(tmp_path), group=group)
        parts = [{file.read_bytes(): file.name for file in part.files} for part in (both.train, both.test)]
        if group:
            assert not set.intersection(*({n.split("_")[0] for n in part.values() if "_" in n} for part in parts))
        return parts

    for label in ("ape", "bee", "cow"):
        for _ in range(9):
            add(label)
    train, test = content()
    for _ in range(200):
        labels = sorted(entry.name for entry in tmp_path.iterdir())
        label = draw.choice(labels)
        file = draw.choice(sorted(path for path in (tmp_path / label).rglob("*") if path.is_file()))
        edit = draw.choice(
            ["add", "add", "add", "remove", "rename", "rename", "move", "class", "fewer", "rename class"]
        )
        if edit == "add":
            add(label)
        elif edit == "class":
            for _ in range(5):
                add(f"new{next(number)}")
        elif edit == "remove":
            file.unlink()
        elif edit == "rename":
            file.rename(file.with_name(new_name(file.stem)))
        elif edit == "move":
            file.rename(tmp_path / draw.choice(labels) / file.name)
        elif edit == "rename class":
            (tmp_path / label).rename(tmp_path / f"named{next(number)}")
        elif edit == "fewer" and len(labels) > 3:
            for path in sorted((tmp_path / label).rglob("*"), reverse=True):
                path.rmdir() if path.is_dir() else path.unlink()
            (tmp_path / label).rmdir()
        for folder in sorted(tmp_path.glob("**/"), reverse=True):
            if not any(folder.iterdir()):
                folder.rmdir()
        old_train, old_test = train, test
        train, test = content()
        assert not old_test.keys() & train.keys() and not old_train.keys() & test.keys(), edit
    assert len(train) > 20 and len(test) > 5


def test_groups_share_a_part_across_classes(tmp_path, told):
    names = [f"{label}/p{i}_{j}.png" for label in ("ape", "bee") for i in range(12) for j in range(3)]
    root = _files(tmp_path, *names, "ape/odd.png")
    train, test = _names(root, group=r"(p\d+)_\d+")
    patients = [{name.split("/")[1].split("_")[0] for name in part if "odd" not in name} for part in (train, test)]
    assert not patients[0] & patients[1] and min(map(len, patients)) > 0
    assert told() == [
        f"note: {root}: group (p\\d+)_\\d+ finds nothing in 1 of 73 names, each a group of its own: ape/odd.png"
    ]


@pytest.mark.parametrize("group", ["(", "(a)(b)", "a", "(a{99999999999})", ""])
def test_patterns_without_one_group_are_refused(tmp_path, group):
    assert f"group {group}: " in _refused(_files(tmp_path, *TWENTY), group=group)


def test_a_pattern_that_finds_nothing_is_refused(tmp_path):
    assert "finds nothing in ape/" in _refused(_files(tmp_path, *TWENTY), group="(x)y")


def test_parts_without_pictures(tmp_path, told):
    root = _files(tmp_path, *TWENTY, content=b"the same")
    with pytest.raises(KdartsError, match="of 20, 1 in 5 different pictures or groups is drawn"):
        listing(root, "test")
    assert len(listing(root, "train")) == 20 and told() == []
    both = listings(_files(tmp_path / "grouped", *TWENTY), group=r"(\.png)")
    with pytest.raises(KdartsError, match="too few"):
        both.part("test" if len(both.train) else "train")


def test_classes_without_a_test_picture_are_named(tmp_path, told):
    root = _files(tmp_path, *TWENTY, "cow/1.png", content=None)
    part = "test" if "cow/1.png" in listings(root).train.names else "train"
    assert told() == [f"note: {root}: classes without a {part} picture, as 1 in 5 is drawn by a hash: cow (of 1)"]


def test_copies_across_parts_are_counted(tmp_path, told):
    for part in ("train", "test"):
        _files(tmp_path / part, *TWENTY)
    root = _files(tmp_path, "train/ape/big.png", "test/bee/copy.png", content=b"x" * 10**5)
    _files(tmp_path, "test/bee/middle.png", content=b"y" + b"x" * (10**5 - 1))
    _files(tmp_path, "train/bee/one.png", "test/bee/two.png", content=b"small")
    listings(root)
    assert told() == [
        f"note: {root}: 2 test pictures are copies of training pictures, the first: test/bee/two.png of "
        "train/bee/one.png"
    ]


def test_files_that_cannot_be_read_are_named(tmp_path):
    with pytest.raises(KdartsError, match=r"cannot read nowhere.png \(No such file"):
        splits.fingerprints(_files(tmp_path, "there.png"), ["there.png", "nowhere.png"])


# Layouts


@pytest.mark.parametrize(("train", "test"), [("train", "test"), ("TRAIN", "Val"), ("Training", "valid")])
def test_folders_of_parts_have_many_names(tmp_path, told, train, test):
    _files(tmp_path / train, *TWENTY)
    _files(tmp_path / test, *TWENTY[5:15])
    names = _names(tmp_path)
    assert names == ([f"{train}/{name}" for name in TWENTY], [f"{test}/{name}" for name in TWENTY[5:15]])
    assert told() == []


def test_three_parts_are_all_used(tmp_path, told):
    for part in ("train", "Validation", "testing"):
        _files(tmp_path / part, *TWENTY)
    train, test = _names(tmp_path)
    assert len(train) == 40 and test == [f"testing/{name}" for name in TWENTY]
    assert told() == [f"note: {tmp_path}: the 20 pictures for validation join the 20 for training; 20 are for the test"]


def test_pictures_for_validation_are_kept_apart_where_asked(tmp_path, told):
    for part in ("train", "Validation", "testing"):
        _files(tmp_path / part, *TWENTY)
    for name in ("val", "valid", "Validation"):
        parts = listings(str(tmp_path), valid_split=name)
        for split, part in {"train": "train", "valid": "Validation", "test": "testing"}.items():
            assert sorted(parts.part(split).names) == [f"{part}/{name}" for name in TWENTY]
        assert len(parts.files) == 60
    assert told() == []
    assert "'dev': no such split beside train and test" in _refused(tmp_path, valid_split="dev")
    _files(tmp_path / "Validation", "cow/1.png")
    assert "classes of val in " in (said := _refused(tmp_path, valid_split="val")) and "train has not: cow" in said


def test_a_validation_split_that_is_not_there(tmp_path):
    _files(tmp_path / "two" / "train", *TWENTY)
    _files(tmp_path / "two" / "val", *TWENTY)  # Without a part for the test these are the test.
    _files(tmp_path / "plain", *TWENTY)
    for name in ("two", "plain"):
        said = _refused(tmp_path / name, valid_split="val")
        assert said.startswith("valid_split 'val': no such split beside train and test in ")
        assert said.endswith("; allowed: a part of train (hold_back=0.1)")


def test_one_part_alone(tmp_path):
    _files(tmp_path / "train", *TWENTY)
    train, test = _names(tmp_path)
    assert sorted([*train, *test]) == [f"train/{name}" for name in TWENTY] and test
    (tmp_path / "train").rename(tmp_path / "test")
    assert _names(tmp_path) == ([], [f"test/{name}" for name in TWENTY])
    with pytest.raises(KdartsError, match="no pictures for the train split"):
        listing(str(tmp_path), "train")


def test_pictures_in_sub_folders_belong_to_the_class(tmp_path):
    _files(tmp_path, *TWENTY, "ape/a/b/c/deep.png", "bee/test/1.png")
    train, test = _names(tmp_path)
    assert {"ape/a/b/c/deep.png", "bee/test/1.png"} < {*train, *test}


def test_what_is_no_class(tmp_path, told):
    root = _files(tmp_path, *TWENTY, "bee/Thumbs.db", "bee/.DS_Store", "bee/._1.png", "bee/notes.txt")
    skipped = [".git", "$RECYCLE.BIN", "@eaDir", "__MACOSX", "lost+found", "ape/.thumbnails"]
    _files(tmp_path, *(f"{name}/1.png" for name in skipped))
    (tmp_path / "empty" / "deeper").mkdir(parents=True)
    _files(tmp_path, "texts/a.txt", "runs/search/cells.png", "runs/search/flags.flags", "top.png")
    (tmp_path / "broken").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "up").symlink_to("..")
    (tmp_path / "self").symlink_to(tmp_path)
    (tmp_path / "train").symlink_to(tmp_path)
    (tmp_path / "ape" / "again").symlink_to("../bee")
    assert _both(root) == TWENTY
    lines = told()
    assert len(lines) == 3 and lines[0] == f"note: {root}: 1 pictures lie beside the class folders, left out"
    names = sorted([*skipped, "empty", "texts", "runs", "runs/search", "up", "self", "train", "ape/again"])
    assert lines[1].endswith(f"links back: {', '.join(names[:5])} and {len(names) - 5} more")
    assert lines[2].startswith(f"note: {root}: 2 files ignored")
    listings(root)
    listings(root)
    assert len(told()) == 3, "each once"


def test_links_to_other_places_are_followed_once(tmp_path):
    _files(tmp_path / "there", *TWENTY)
    (tmp_path / "there" / "ape" / "back").symlink_to(tmp_path / "there")
    (tmp_path / "there" / "ape" / "aside").symlink_to(tmp_path / "there" / "bee")
    root = tmp_path / "root"
    root.mkdir()
    (root / "ape").symlink_to(tmp_path / "there" / "ape")
    (root / "bee").symlink_to(tmp_path / "there" / "bee")
    (root / "cow").symlink_to(tmp_path / "there" / "ape")
    _files(root, "dog/1.png")
    (root / "dog" / "2.png").symlink_to(tmp_path / "there" / "ape" / "02.png")
    names = _both(root)
    assert len(names) == len(set(names)) == 22 and not any("back" in name or "cow" in name for name in names)


def test_classes_of_one_part_only_are_refused(tmp_path):
    _files(tmp_path / "train", *TWENTY, "cow/1.png", "dog/1.png")
    _files(tmp_path / "test", *TWENTY, "eel/1.png")
    assert "only in train: cow, dog; only in test: eel;" in _refused(tmp_path)


def test_layouts_that_are_explained(tmp_path, told):
    flat = [f"{i}.png" for i in range(5)]
    root = _files(tmp_path / "flat", *flat)
    assert "classes in" in _refused(root) and "5 pictures in the folder itself" in _refused(root)
    (tmp_path / "flat" / "all.csv").touch()
    assert "--labels=all.csv (labels='all.csv')" in _refused(root)

    _files(tmp_path / "kaggle" / "train", *flat)
    _files(tmp_path / "kaggle" / "test", *flat)
    assert "test, train hold pictures and no class folders" in _refused(tmp_path / "kaggle")
    (tmp_path / "kaggle" / "train" / "labels.csv").touch()
    assert "--labels=train/labels.csv" in _refused(tmp_path / "kaggle")

    root = _files(tmp_path / "wrapped", *(f"inner/{name}" for name in TWENTY))
    assert f"perhaps folder:{root}/inner" in _refused(root)

    root = _files(tmp_path / "inside", *TWENTY, *(f"Test/{name}" for name in TWENTY))
    assert "Test holds classes" in _refused(root)

    root = _files(
        tmp_path / "below", *(f"{name}/{part}/1.png" for name in ("ape", "bee") for part in ("train", "test"))
    )
    assert "the classes hold test, train" in _refused(root)

    root = _files(tmp_path / "two", *(f"{part}/{name}" for part in ("test", "Test", "train") for name in TWENTY))
    assert "Test and test; allowed: one folder for test" in _refused(root)

    assert told() == []
    root = _files(
        tmp_path / "dogs", *(f"train/{name}" for name in TWENTY), *(f"test/{name}" for name in flat), "x/1.png"
    )
    assert _both(root) == [f"train/{name}" for name in TWENTY]
    assert told() == [
        f"note: {root}: 5 pictures lie beside the class folders of test, train, left out",
        f"note: {root}: beside test, train, left out: x",
    ]


def test_a_class_may_be_called_train(tmp_path):
    root = _files(tmp_path, *(f"{name}/{i}.png" for name in ("plane", "train") for i in range(9)))
    assert listings(root).train.class_names == ("plane", "train")


def test_names_that_are_not_one_line_of_text(tmp_path, told):
    odd = ["ape/a\nb.png", os.fsdecode(b"bee/\xff.png"), "bee/c\x1b[2J/1.png"]
    root = _files(tmp_path, *TWENTY, *odd, "ape/zürich 東京\u200d.png")
    assert _both(root) == sorted([*TWENTY, "ape/zürich 東京\u200d.png"])
    (line,) = told()
    assert "3 names are not one line of UTF-8, left out: 'ape/a\\nb.png', 'bee/c\\x1b[2J/1.png'" in line
    assert line.isprintable()
    _files(tmp_path, os.fsdecode(b"caf\xe9/1.png"))
    assert "names of classes 'caf\\udce9'" in _refused(root)
    assert "a path of one line" in _refused(_files(tmp_path / "new\nline", *TWENTY))


def test_folders_that_cannot_be_read_are_named(tmp_path, monkeypatch):
    root = _files(tmp_path, *TWENTY, "bee/deep/1.png")
    scandir = os.scandir

    def refusing(path):
        if str(path).endswith(("ape", "deep")):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    assert "cannot read ape (Permission denied), bee/deep (Permission denied);" in _refused(root)
    assert "cannot be read (Permission denied)" in _refused(_files(tmp_path / "ape", "1.png"))


# Label files


def _table(root, text, name="labels.csv", encoding="utf-8"):
    (root / name).write_bytes(text.encode(encoding))
    return name


def _labelled(root, **how):
    """The label and the part of every picture."""
    both = listings(str(root), **how)
    return {
        name: (part.class_names[label], split)
        for split, part in (("train", both.train), ("test", both.test))
        for name, label in zip(part.names, part.labels, strict=True)
    }


FLAT = [f"{i:02}.png" for i in range(20)]
ROWS = [(name, "ape" if i < 10 else "bee") for i, name in enumerate(FLAT)]


@pytest.mark.parametrize(
    ("head", "row", "encoding"),
    [
        ("file,label", "{0},{1}", "utf-8"),
        ("Image ID;Class", "{2};{1}", "utf-8-sig"),
        ("y\tFile_Name", "{1}\t./{0}", "utf-16"),
        ('"target","note","PATH"', '"{1}","a, ""b""\n c",".\\{0}"', "utf-8"),
        ("id,age,category\r", " {2} ,4, {1} \r", "utf-8"),
    ],
)
def test_label_files(tmp_path, told, head, row, encoding):
    root = _files(tmp_path, *FLAT)
    text = "\n".join([head, *(row.format(name, label, name[:2]) for name, label in ROWS), "", ""])
    found = _labelled(root, labels=_table(tmp_path, text, encoding=encoding))
    assert {name: label for name, (label, _) in found.items()} == dict(ROWS)
    assert {part for _, part in found.values()} == {"train", "test"}
    assert told() == []


def test_label_files_are_found(tmp_path, monkeypatch):
    root = _files(tmp_path / "pictures", *FLAT)
    text = "\n".join(["file,label", *map(",".join, ROWS)])
    for place, name in ((tmp_path / "pictures", "inside.csv"), (tmp_path, "here.csv")):
        _table(place, text, name)
    monkeypatch.chdir(tmp_path)
    expected = _labelled(root, labels="inside.csv")
    for labels in ("here.csv", str(tmp_path / "here.csv"), "pictures/inside.csv", "../here.csv"):
        assert _labelled("pictures", labels=labels) == expected
    assert "is in neither of" in _refused(root, labels="none.csv")
    _table(tmp_path, text, "inside.csv")
    assert "is in both" in _refused(root, labels="inside.csv")


def test_rows_name_pictures_in_sub_folders_and_elsewhere(tmp_path):
    root = _files(
        tmp_path / "pictures", *(f"part_{i % 2}/{name}" for i, name in enumerate(FLAT)), "page.tif9", "a.tif9"
    )
    _files(tmp_path, "far.png")
    rows = [f"{name[:2]},{label}" for name, label in ROWS] + [
        f"{tmp_path}/far.png,cow",
        f"{root}/page.tif9,cow",
        "a.tif9,cow",
    ]
    found = _labelled(root, labels=_table(tmp_path / "pictures", "\n".join(["image,class", *rows])))
    assert found["part_1/01.png"][0] == "ape" and found[f"{tmp_path}/far.png"][0] == found["page.tif9"][0] == "cow"
    assert len(found) == 23 and found["a.tif9"][0] == "cow"


def test_label_files_may_say_the_part(tmp_path, told):
    root = _files(tmp_path, *FLAT)
    parts = ["Train", "valid", "TEST"]
    rows = [f"{name},{label},{parts[i % 3]}" for i, (name, label) in enumerate(ROWS)]
    found = _labelled(root, labels=_table(tmp_path, "\n".join(["file,label,split", *rows])))
    assert [found[name][1] for name in FLAT] == [["train", "train", "test"][i % 3] for i in range(20)]
    assert len(told()) == 1
    rows[3:5] = ["03.png,ape,maybe", "04.png,ape,"]
    message = _refused(root, labels=_table(tmp_path, "\n".join(["file,label,split", *rows])))
    assert "2 of 20 rows have the split '', maybe; allowed: train," in message


def test_the_folders_of_labelled_pictures_say_the_part(tmp_path):
    names = [f"{part}/{name}" for part in ("train", "test") for name in FLAT]
    root = _files(tmp_path, *names)
    rows = [f"{name},{int(name[-6:-4]) % 3 + 9}" for name in names]
    both = listings(root, labels=_table(tmp_path, "\n".join(["file,label", *rows])))
    assert sorted(both.test.names) == names[20:] and both.train.class_names == ("9", "10", "11")
    rows = [f"{name},{label},{part}" for part in ("train", "test") for name, label in ROWS]
    assert (
        sorted(listings(root, labels=_table(tmp_path, "\n".join(["file,label,split", *rows]))).test.names) == names[20:]
    )
    rows = [f"{name},{label}" for name, label in ROWS]
    message = _refused(root, labels=_table(tmp_path, "\n".join(["file,label", *rows])))
    assert "20 of 20 rows could mean several pictures: 00.png, " in message


def test_rows_that_are_left_out_are_counted(tmp_path, told):
    root = _files(tmp_path, *FLAT, "extra.png")
    rows = [*map(",".join, ROWS), "99.png,ape", "98.png,bee", "01.png,ape", "extra.png,", ",ape", "extra.png"]
    assert len(_labelled(root, labels=_table(tmp_path, "\n".join(["file,label", *rows])))) == 20
    file = tmp_path / "labels.csv"
    assert told() == [
        f"note: {file}: 2 of 26 rows name files that are not there, left out: 99.png, 98.png",
        f"note: {file}: 3 of 26 rows have no label or no file, left out: extra.png, '', extra.png",
        f"note: {file}: 1 of 26 rows repeat a row before, left out: 01.png",
        f"note: 1 of 21 pictures in {root} have no row in {file}, left out",
    ]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("file,label\n00.png,ape\n01.png,bee\n00.png,bee\n", "1 of 3 rows give a picture another label or split"),
        ("file,label\nx/00.png,ape\ny/01.png,bee\n", "none of its 2 rows has a label and a picture in"),
        ("file,label\n", "none of its 0 rows has a label and a picture in"),
        ("", "has columns none; needed: one of files (file, "),
        ("00.png,ape\n01.png,bee\n", "has columns 00.png, ape; needed: one of files (file, "),
        ("file;x\n00.png;ape\n", "has columns file, x; needed: one of labels (label, "),
        ("file,label\n00.png,ape\n", "ape; allowed: two or more"),
        ('file,label\n00.png,"a\nb"\n01.png,bee\n', "1 of 2 rows have labels 'a\\nb'; allowed: one line"),
        ("file,label\n00.png," + "a" * 200000, "field larger than field limit"),
        ('file,label\n00.png,ape\n"01.png,bee\n02.png,bee\n', "line 4: unexpected end of data"),
    ],
)
def test_label_files_that_are_refused(tmp_path, text, what):
    root = _files(tmp_path, *FLAT)
    assert what in _refused(root, labels=_table(tmp_path, text))


def test_label_files_that_are_not_text(tmp_path):
    root = _files(tmp_path, *FLAT)
    message = _refused(root, labels=_table(tmp_path, "file,label\n00.png,Käfer\n", encoding="latin-1"))
    assert "not UTF-8 in line 2" in message
    (tmp_path / "labels.csv").write_bytes(b"\xff\xfef\x00i")
    assert "not UTF-8" in _refused(root, labels="labels.csv")
    (tmp_path / "labels.csv").write_bytes(b"file,label\n\x00\x00,a\n")
    assert "none of its 1 rows" in _refused(root, labels="labels.csv")


def test_groups_of_labelled_pictures(tmp_path):
    names = [f"{label}/p{i}_{j}.png" for label in ("ape", "bee") for i in range(10) for j in range(2)]
    root = _files(tmp_path, *names)
    table = _table(tmp_path, "\n".join(["file,label", *(f"{name},{name[:3]}" for name in names)]))
    assert _names(root, labels=table, group=r"(.*)_\d+") == _names(root, group=r"(.*)_\d+")


def test_groups_in_both_parts_are_told(tmp_path, told):
    _files(tmp_path / "train", "ape/ann_1.png", "bee/bob_2.png")
    _files(tmp_path / "test", "ape/cyd_1.png", "bee/ann_2.png")
    listings(str(tmp_path), group=r"(.*)_\d+")
    assert told() == [f"note: {tmp_path}: 1 groups have pictures in more than one part: ann"]
