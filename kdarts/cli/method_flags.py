"""The flags of a method: one for each axis that has choices, and one for each hyperparameter."""

from absl import flags

from kdarts.cli.command import entitle
from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.settings import kind_of
from kdarts.search.method import Method, Slot, fields, get_method, groups
from kdarts.supernet.spaces import listed_space


def define(values: flags.FlagValues) -> None:
    """Declares the flags, unset: the method's own choice. The help has them under the titles of `groups`."""
    for title, group in groups().items():
        for name, about in group.items():
            _define(values, name, about)
            if name == "space":
                text = "what may be chosen on an edge, such as none,skip_connect,sep_conv_3x3, in place of --space"
                flags.DEFINE_string("operations", None, text, flag_values=values)
                entitle(values, title, ["operations"])
        entitle(values, title, group)


def _define(values: flags.FlagValues, name: str, about) -> None:
    if isinstance(about, Slot):
        names = ", ".join(kind.name for kind in about.kinds())
        flags.DEFINE_string(name, None, f"{about.about}: {names}", flag_values=values)
        return
    setting, kind = about.metadata["setting"], kind_of(about)
    allowed = f": {', '.join(setting.allowed)}" if setting.allowed else ""
    source = f" ({setting.source})" if setting.source else ""
    text = f"{setting.help}{allowed if not any(n in setting.help for n in setting.allowed[1:]) else ''}{source}"
    if setting.parse or kind not in (int, float, bool):
        flags.DEFINE_string(name, None, text, flag_values=values)
    elif kind is bool:
        flags.DEFINE_bool(name, None, text, flag_values=values)
    elif kind is int:
        flags.DEFINE_integer(name, None, text, setting.least, setting.most, flag_values=values)
    else:
        flags.DEFINE_float(name, None, text, setting.least, setting.most, flag_values=values)


def names() -> list[str]:
    """The names of all of them but `operations`."""
    return [name for group in groups().values() for name in group]


def chosen_method(values: flags.FlagValues) -> Method:
    """The method with the flags' choices."""
    method = get_method(values.method)
    space = listed_space(values.operations).name if values.operations is not None else values["space"].value
    if space is not None:
        method = method.in_space(space)
    if "dataset" in values and values.dataset == "digits":
        method = method.small()
    known = fields()
    given = {name: values[name].value for name in names() if values[name].value is not None and name != "space"}
    for name in [name for name in given if name in known and known[name].metadata["setting"].parse]:
        try:
            given[name] = known[name].metadata["setting"].parse(given[name])
        except KdartsError as error:
            if str(error).startswith(f"{name} "):
                raise
            raise KdartsError(f"--{name}={given[name]}: {error}") from None
    if "epochs" in given:
        method = method.lasting(given["epochs"])
    method = method.override(**given)
    for name in ("cells", "skip_dropout"):
        if method.stages and name in given:
            raise KdartsError(f"--{name}={given[name]}: each stage has its own; choose them by --stages")
    return method
