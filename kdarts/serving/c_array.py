"""An int8 network as a C header: the bytes of its LiteRT file, and how its input and output are quantised."""

import pathlib
import re
import zipfile

from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.files import write_text

_ROW = 16


def model_bytes(path: pathlib.Path) -> bytes:
    """Returns what a device needs of a `.tflite` file: the model, without the archive that lies behind it."""
    data = path.read_bytes()
    if not zipfile.is_zipfile(path):
        return data
    with zipfile.ZipFile(path) as archive:
        return data[: min(member.header_offset for member in archive.infolist())]


def write_header(path: pathlib.Path, data: bytes, quantization: dict[str, dict], shape) -> None:
    """Writes the header, for C and C++.

    Args:
        path: The file to write, atomically.
        data: The bytes of the model.
        quantization: See `quantization_of`; {} for a file of float input and output.
        shape: Height, width and channels of an image.
    """
    rows = [data[start : start + _ROW] for start in range(0, len(data), _ROW)]
    sizes = {"HEIGHT": shape[0], "WIDTH": shape[1], "CHANNELS": shape[2], "LENGTH": len(data)}
    for end, values in quantization.items():
        sizes[f"{end.upper()}_SCALE"] = f"{values['scale']!r}f"
        sizes[f"{end.upper()}_ZERO_POINT"] = values["zero_point"]
    lines = [
        "/* A network for LiteRT for Microcontrollers, written by kdarts export.",
        "   It takes one image of MODEL_HEIGHT x MODEL_WIDTH x MODEL_CHANNELS values, the channel running fastest.",
        "   A value of an int8 input or output is SCALE * (integer - ZERO_POINT). */",
        "#ifndef MODEL_H",
        "#define MODEL_H",
        "",
        *(f"#define MODEL_{name} {value}" for name, value in sizes.items()),
        "",
        "#ifdef __cplusplus",
        "alignas(16)",
        "#else",
        "_Alignas(16)",
        "#endif",
        "static const unsigned char model_data[MODEL_LENGTH] = {",
        *(f"    {', '.join(f'0x{byte:02x}' for byte in row)}," for row in rows),
        "};",
        "",
        "#endif",
    ]
    write_text(path, "\n".join(lines) + "\n")


def read_header(path: pathlib.Path) -> bytes:
    """Returns the bytes of a model from its header; raises `KdartsError` if it has none."""
    text = path.read_text("utf-8")
    found = re.search(r"model_data\[MODEL_LENGTH\] = \{(.*?)\};", text, re.DOTALL)
    if found is None:
        raise KdartsError(f"{path}: has no model_data; kdarts export writes it")
    return bytes(int(word, 16) for word in re.findall(r"0x([0-9a-f]{2})", found[1]))
