"""Arguments and options that several commands have, and their values."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

Split = Literal["test", "validation"]
Target = Literal["label", "teacher"]
Device = Literal["auto", "cpu", "cuda"]
Layout = Literal["auto", "nchw", "nhwc", "tokens"]

_CONFIG_AND_PAIRS = typer.Argument(
    metavar="CONFIG... [key=value ...]", help="YAML files, then single keys. Later values override earlier ones."
)
ConfigAndPairs = Annotated[list[str], _CONFIG_AND_PAIRS]
MaybeConfigAndPairs = Annotated[list[str] | None, _CONFIG_AND_PAIRS]
NetworkName = Annotated[
    str | None,
    typer.Option(
        metavar="package.module:callable",
        help="Function that builds the network. Needed for a run whose student was passed as a Python object, and to "
        "allow the import of the network that a run names.",
    ),
]
DataName = Annotated[
    str | None,
    typer.Option(
        metavar="package.module:callable",
        help="Name of the runs' data set, to allow the import of the function that returns it.",
    ),
]
Trusted = Annotated[
    bool,
    typer.Option("--trust", help="Import whatever code the files of runs and weights name. Only for files you trust."),
]
MethodName = Annotated[str, typer.Option(help="Method that computes the maps, see `distill list methods`.")]
LayerLayout = Annotated[
    Layout,
    typer.Option(
        "--layout", help="Axes of the layer's activations: N K H W, N H W K, or tokens N T K. Default: they are found."
    ),
]
LayerName = Annotated[str, typer.Option(help="Layer to explain.")]


def _print_schema(value: bool) -> None:
    if value:
        import json

        from distill.report import schema

        print(json.dumps(schema(), indent=2))
        raise typer.Exit


Schema = Annotated[
    bool,
    typer.Option(
        "--schema", callback=_print_schema, is_eager=True, help="Print the JSON schema of evaluation.json and exit."
    ),
]


def split_files(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Split arguments into configuration files and `key=value` pairs.

    Example:
        >>> split_files(["a.yaml", "seed=1"])
        (['a.yaml'], ['seed=1'])
    """
    files = [a for a in arguments if a.endswith((".yaml", ".yml")) and "=" not in a]
    return files, [a for a in arguments if a not in files]
