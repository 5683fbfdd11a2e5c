# %% [markdown]
# # A network for a microcontroller
#
# A search within limits of memory and size, a training, and the network as an int8 `.tflite` file and as a C array.
# Run it as a program, or cell by cell in an editor that knows `# %%`. About a minute on 2 CPU cores.

# %%
import pathlib

from kdarts.cli.main import main

folder = pathlib.Path("runs/microcontroller")


def kdarts(*words):
    """Runs a command, `kdarts WORDS`, in this process."""
    print(f"\n$ kdarts {' '.join(words)}")
    assert main(list(words)) == 0


# %% [markdown]
# The limits are those of the device: 24 KiB of memory for the activations, 60 KiB of flash for the model. A network
# that does not keep them is never proposed. The pictures are the digits of 8x8 pixels that come with kdarts.

# %%
limits = ["--max_ram=24KiB", "--max_flash=60KiB"]
search = ["--space=mobile", "--blocks=mb_k3_e3,mb_k5_e3,skip", "--epochs=4", f"--workdir={folder}/search"]
kdarts("search", *search, *limits)

# %% [markdown]
# What was found is a chain of blocks. It is trained anew; `--epochs` is small here, and more of them help.

# %%
kdarts("train", f"--genotype={folder}/search/genotype.json", "--epochs=15", f"--workdir={folder}/train")

# %% [markdown]
# The export compares both files with the model on real pictures before it keeps them. With `--int8_io` the device
# gives and gets 8-bit integers; the line that is printed says what they stand for.

# %%
where = [f"--model={folder}/train/model.keras", f"--to={folder}/files"]
kdarts("export", *where, "--input=raw", "--format=litert_int8,c_array", "--int8_io")
kdarts("evaluate", f"--model={folder}/files/model_int8.tflite")

# %% [markdown]
# The header goes into the firmware beside LiteRT for Microcontrollers.

# %%
header = (folder / "files" / "model.h").read_text()
print(header[:300], "…")
size = (folder / "files" / "model_int8.tflite").stat().st_size
print(f"{size:,} bytes of flash; allowed were {60 * 1024:,}")
assert size <= 60 * 1024
