"""Saved networks and what lies beside them."""

import pathlib

import keras

from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.files import write_with
from kdarts.genotypes.seals import check_archive, seal_archive
from kdarts.training.files import read_json


def load_model(path) -> keras.Model:
    """A network saved as `.keras`, by whatever program; raises `KdartsError` if there is none or it is damaged."""
    path = pathlib.Path(path)
    if not path.is_file():
        raise KdartsError(f"no model file {str(path)!r}")
    if path.suffix != ".keras":
        raise KdartsError(f"model {str(path)!r}: needs a file that ends in .keras")
    check_archive(path, foreign=True)
    try:
        return keras.saving.load_model(path, safe_mode=True)
    except Exception as error:  # A damaged file can fail anywhere inside the reader, in ways it does not name.
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise KdartsError(f"model {str(path)!r} cannot be read; it is damaged or not a Keras model ({first})") from None


def save_model(network: keras.Model, path) -> None:
    """Writes a network as `.keras` with its checksum."""

    def write(temporary):
        network.save(temporary)
        seal_archive(temporary)

    # What the writers of zip archives and HDF5 raise on a full disk.
    write_with(path, write, (ValueError, RuntimeError))


def summary_beside(path) -> dict:
    """The `summary.json` beside a model, {} if there is none."""
    summary = pathlib.Path(path).with_name("summary.json")
    return read_json(summary) if summary.is_file() else {}
