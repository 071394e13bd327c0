"""What every binary shares: flags made from a Config dataclass, and presets of them.

A binary ends with `if __name__ == "__main__": flags.main(Config, run)`. Flags are global to a
process, so they are defined there and nowhere else: any number of binaries can be imported.

A Config with a field `preset` has several sets of defaults: "smoke", made data and minutes at most,
as CI runs it; "quick", the whole study in reduced form on ml-100k; "paper", the full protocol.
"""

import dataclasses
import logging
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from absl import app, flags

from infae.runtime import checks


class StudiesFailedError(RuntimeError):
    """Some of several studies failed; the message says which, and how."""


PRESETS = ("smoke", "quick", "paper")
DATASET = "one of infae.data.datasets.names(), or the path of a file of clicks"
DATA_DIR = "folder that holds the data sets; INFAE_DATA where empty"


def _shown(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def option(default: Any, text: str, *, axis: bool = False, **presets: Any) -> Any:
    """A Config field and the help text of its flag; a tuple is a comma-separated list on the command line.

    An axis lists cells to work out (seeds, budgets), and has no part in what each one finds. `presets` are the default
    under "quick" and "paper"; where "paper" is missing, that of "quick".
    """
    if presets:
        quick = presets.get("quick", default)
        presets = {"smoke": default, "quick": quick, "paper": quick, **presets}
        text += " (" + "; ".join(f"{name}: {_shown(value)}" for name, value in presets.items()) + ")"
    return dataclasses.field(default=default, metadata={"help": text, "axis": axis, "presets": presets})


@dataclass(frozen=True)
class StudyConfig:
    """Flags that every study has."""

    preset: str = option("smoke", f"which defaults the other flags have: {', '.join(PRESETS)}")
    dataset: str = option("synthetic", DATASET, quick="ml-100k", paper="ml-1m")
    data_dir: str = option("", DATA_DIR)
    metric: str = option("HR@100", "what everything is chosen by, on validation")
    out: str = option("out/study", "output folder")
    plot: bool = option(True, "draw pictures")


@dataclass(frozen=True)
class SeededConfig(StudyConfig):
    """And those of a study that draws or trains."""

    seeds: tuple[int, ...] = option(
        (0,), "of all that is drawn or trained; tables give mean and standard deviation", axis=True,
        quick=(0,), paper=(0, 1, 2),
    )  # fmt: skip
    shared: str = option("out/shared", "folder of what studies share: DISTILL-CF's summaries, and parameters found")


@dataclass(frozen=True)
class SummaryConfig(SeededConfig):
    """And those of a study that distils."""

    steps: int = option(100, "outer steps of the summaries", quick=150, paper=400)
    sharpness: float = option(0.003, "of the summaries, see distillcf.Config; above 0 their binary rows gain")


@dataclass(frozen=True)
class LoadConfig:
    """Flags of a run on any data set."""

    dataset: str = option("synthetic", DATASET)
    data_dir: str = option("", DATA_DIR)
    download: bool = option(False, "fetch the data set where it has a stable public address")
    validation_fraction: float = option(0.0, "share of train to hold out where the set has no validation part")


def configure(config_class: type[Any], **given: Any) -> Any:
    """A Config of the values given, and of the preset's defaults for the rest."""
    preset = given.get("preset", "smoke")
    checks.choice("--preset", preset, PRESETS)
    defaults = {f.name: f.metadata["presets"].get(preset, f.default) for f in dataclasses.fields(config_class)}
    return config_class(**{**defaults, **given})


def command(config: Any) -> str:
    """The command line that makes this Config; folders of the machine, which `data_dir` names, are left out."""
    module = type(config).__module__
    if module == "__main__":
        spec = sys.modules["__main__"].__spec__
        assert spec is not None, "binaries are run by python -m"
        module = spec.name.removesuffix(".__main__")
    preset = {"preset": config.preset} if hasattr(config, "preset") else {}
    usual = vars(configure(type(config), **preset))
    words = ["python -m", module, *(f"--preset={name}" for name in preset.values())]
    for name, value in vars(config).items():
        if name == "data_dir" or value == usual[name]:
            continue
        if isinstance(value, bool):
            words.append(f"--{'' if value else 'no'}{name}")
        else:
            words.append(f"--{name}={shlex.quote(_shown(value))}")
    return " ".join(words)


def main(config_class: type[Any], run: Callable[[Any], Any]) -> None:
    """Define a flag for each field of the Config, parse, and run.

    Mistakes that a person can mend (bad values, missing files, too little memory) end the
    program with their message and exit code 1 instead of a traceback.
    """
    fields = dataclasses.fields(config_class)
    for field in fields:
        default: Any = field.default
        shown = list(map(str, default)) if isinstance(default, tuple) else default
        _DEFINE[type(default)](field.name, shown, field.metadata["help"])
        # Defined here, but the binary's own: --help lists them.
        flags.FLAGS.register_key_flag_for_module(sys.argv[0], flags.FLAGS[field.name])

    def call(argv: Sequence[str]) -> None:
        if len(argv) > 1:
            raise app.UsageError(f"unexpected arguments {argv[1:]}; flags look like --name=value")
        # absl shows what JAX logs, such as that it found no TPU.
        logging.getLogger("jax").setLevel(logging.WARNING)
        try:
            given = [field for field in fields if flags.FLAGS[field.name].present]
            run(configure(config_class, **{field.name: _value(field) for field in given}))
        except (ValueError, OSError, ArithmeticError, MemoryError, ImportError, StudiesFailedError) as error:
            raise SystemExit(f"error: {error}") from error

    app.run(call)


_DEFINE: dict[type, Any] = {
    bool: flags.DEFINE_boolean,
    int: flags.DEFINE_integer,
    float: flags.DEFINE_float,
    str: flags.DEFINE_string,
    tuple: flags.DEFINE_list,
}


def _value(field: dataclasses.Field[Any]) -> Any:
    value: Any = flags.FLAGS[field.name].value
    if not isinstance(field.default, tuple):
        return value
    if not value:
        raise ValueError(f"--{field.name} is an empty list")
    element = type(field.default[0])
    try:
        values = tuple(element(x) for x in value)
    except ValueError as error:
        raise ValueError(f"--{field.name} takes a comma-separated list of {element.__name__}: {error}") from error
    if len(set(values)) < len(values):
        raise ValueError(f"--{field.name} has a value twice: {_shown(values)}")
    return values
