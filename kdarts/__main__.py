"""`python -m kdarts`."""

from kdarts.cli.main import script

if __name__ == "__main__":
    script()
