"""`distill list layers`."""

from __future__ import annotations

from rich.table import Table

from distill.console import PlainConsole, print_table
from distill.errors import InputError


def run(network: str | None, *, size: int | None, channels: int, classes: int, every: bool, trust: bool) -> None:
    """Print the layers of a network: its cuts, or all layers that have positions."""
    if network is None:
        raise InputError("`distill list layers` needs a network: a name of `distill list models`, or a run directory.")
    from distill.workflows.layers import list_layers

    rows = list_layers(network, size=size, channels=channels, classes=classes, trust=trust)
    shown = [row for row in rows if every or row.cut or row.names]
    table = Table("layer", "name", "type", "shape", "sign", "cut", "gradient", box=None, pad_edge=False)
    for row in shown:
        table.add_row(
            row.layer,
            ", ".join(row.names),
            row.kind,
            " x ".join(map(str, row.shape)),
            "signed" if row.signed else "not negative",
            "yes" if row.cut else "no",
            row.gradient or ("no maps" if row.problem else ""),
        )
    console = PlainConsole(soft_wrap=False)
    print_table(console, table)
    if len(shown) < len(rows):
        console.print(f"{len(rows) - len(shown)} layers that are no cuts are not shown; --all shows them.")
    if not any("final" in row.names for row in rows):
        console.print("There is no layer `final`: name a layer of this table.")
