"""Loading saved networks, under any of Keras' backends."""

import pathlib

import keras

from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.files import check_archive


def load_model(path) -> keras.Model:
    """Loads a network from a `.keras` file.

    `keras.saving.load_model` does the same once `kdarts.networks` was imported: Keras needs the classes that the file
    names, such as `DropPath` or the optimizer, and does not import them by itself. Code in the file is never run.

    Args:
        path: The path of a `.keras` file, written by `kdarts train`, by `keras.Model.save` or by another program.

    Returns:
        The model, compiled if it was compiled when it was saved.

    Raises:
        KdartsError: If the file does not exist, is damaged, or is not a Keras model.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise KdartsError(f"no model file {str(path)!r}")
    if path.suffix != ".keras":
        raise KdartsError(f"model {str(path)!r}: needs a file that ends in .keras")
    check_archive(path)
    try:
        return keras.saving.load_model(path, safe_mode=True)
    except Exception as error:  # Keras' reader fails with any kind of exception on a damaged file.
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise KdartsError(f"model {str(path)!r} cannot be read; it is damaged or not a Keras model ({first})") from None
