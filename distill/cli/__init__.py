"""`distill ...`: parse, build, run, print. Torch is imported by the command that needs it, never for `--help`."""

from __future__ import annotations

import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import typer

from distill.errors import InputError, RunError
from distill.malloc import keep_freed_memory

app = typer.Typer(
    name="distill",
    help="Distil a small network that gives a large one's answers for the large one's reasons.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Split = Literal["test", "validation"]
Target = Literal["label", "teacher"]
Device = Literal["auto", "cpu", "cuda"]

ConfigAndPairs = Annotated[
    list[str],
    typer.Argument(metavar="CONFIG... [key=value ...]", help="YAML files, then single keys; the last one wins."),
]


@app.command()
def train(
    arguments: ConfigAndPairs,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace another run of the same name.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the resolved configuration and stop.")] = False,
) -> None:
    """Train a teacher, a baseline or a student.

    Without a `teacher` section this is plain supervised training. The same command again goes on where the run
    stopped, or says that it is done.
    """
    from distill.cli.train import run

    run(arguments, overwrite=overwrite, dry_run=dry_run)


def _print_schema(asked: bool) -> None:
    if asked:
        import json

        from distill.report import schema

        print(json.dumps(schema(), indent=2))
        raise typer.Exit


@app.command()
def evaluate(
    runs: Annotated[list[str], typer.Argument(metavar="[LABEL=]RUN...", help="Run directories, in the table's order.")],
    reference: Annotated[
        str | None,
        typer.Option(metavar="[LABEL=]RUN", help="The teacher: agreement and maps are compared with its own."),
    ] = None,
    ceiling: Annotated[
        str | None,
        typer.Option(
            metavar="[LABEL=]RUN", help="The teacher trained with another seed: the best agreement to ask for."
        ),
    ] = None,
    on: Annotated[
        list[str] | None,
        typer.Option(
            metavar="key=value[,key=value]",
            help="A test set: the run's own with other keys of its data section; may be given several times.",
        ),
    ] = None,
    split: Annotated[Split, typer.Option(help="Split that is measured.")] = "test",
    method: Annotated[str, typer.Option(help="How maps are made, see `distill list methods`.")] = "grad_cam_pp",
    layer: Annotated[str, typer.Option(help="Layer that is explained.")] = "final",
    target: Annotated[
        Target, typer.Option(help="Class that is explained: the label, or the teacher's choice.")
    ] = "label",
    held_out: Annotated[
        list[str] | None,
        typer.Option(metavar="METHOD", help="Another explainer to compare by; several times; `none` for none."),
    ] = None,
    perturbed: Annotated[int, typer.Option(min=0, help="Images for deletion and insertion; 0 leaves them out.")] = 256,
    explained: Annotated[int, typer.Option(min=0, help="Images for held-out explainers; 0 leaves them out.")] = 64,
    sanity: Annotated[bool, typer.Option(help="Compare with maps of random weights, on 64 images.")] = True,
    network: Annotated[
        str | None,
        typer.Option(
            metavar="package.module:callable",
            help="Builds the network of a run whose student was passed as a Python object.",
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Use only the first images of each test set.")] = None,
    device: Annotated[Device, typer.Option(help="Where to compute.")] = "auto",
    batch_size: Annotated[int | None, typer.Option(min=1, help="Images at a time; 256 of 32 x 32 pixels.")] = None,
    gallery: Annotated[int, typer.Option(min=0, help="Pictures in the report, all test sets together.")] = 48,
    output: Annotated[Path | None, typer.Option(help="Folder of the results; the run's own, or their parent.")] = None,
    title: Annotated[str, typer.Option(help="Headline of the report.")] = "Evaluation",
    schema: Annotated[
        bool,
        typer.Option("--schema", callback=_print_schema, is_eager=True, help="Print the JSON schema of the record."),
    ] = False,
) -> None:
    """Measure runs on the test split: answers, agreement with the teacher, and where their maps lie.

    Writes evaluation.json, per_image.parquet, table.md, maps.png and report.html.
    """
    from distill.cli.evaluate import run
    from distill.evaluation import EvaluationSettings, MapSettings

    settings = EvaluationSettings(
        perturbed=perturbed, explained=explained, sanity=EvaluationSettings.sanity if sanity else 0
    )
    if held_out:
        settings = replace(settings, held_out=tuple(name for name in held_out if name != "none"))
    run(
        runs,
        reference=reference,
        ceiling=ceiling,
        on=on or [],
        split=split,
        maps=MapSettings(method=method, layer=layer, target=target),
        settings=settings,
        network=network,
        limit=limit,
        device=device,
        batch_size=batch_size,
        gallery=gallery,
        output=output,
        title=title,
    )


@app.command()
def explain(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Run directory of the student.")],
    images: Annotated[list[str], typer.Argument(metavar="IMAGE...", help="Image files, of any size.")],
    reference: Annotated[
        str | None, typer.Option(metavar="RUN", help="The teacher, if it is not the run's own.")
    ] = None,
    no_reference: Annotated[bool, typer.Option("--no-reference", help="Show the student alone.")] = False,
    method: Annotated[str, typer.Option(help="How maps are made, see `distill list methods`.")] = "grad_cam_pp",
    layer: Annotated[str, typer.Option(help="Layer that is explained.")] = "final",
    target: Annotated[
        str | None,
        typer.Option("--class", metavar="NAME_OR_NUMBER", help="Class to explain; the student's first choice if not."),
    ] = None,
    top_k: Annotated[int, typer.Option(min=1, help="So many classes are printed for each image.")] = 5,
    size: Annotated[int | None, typer.Option(min=1, help="Pixels the network is given; as in training if not.")] = None,
    crop: Annotated[bool, typer.Option("--crop", help="Look at the square in the middle only.")] = False,
    output: Annotated[Path | None, typer.Option(help="Folder of the pictures; RUN/explained if not.")] = None,
) -> None:
    """Show what a run and its teacher make of image files, and where they look.

    Writes a PNG for every image: the image, the teacher's map and the student's, of the same class.
    """
    from distill.cli.explain import run as explain_files

    explain_files(
        run,
        images,
        reference=reference,
        no_reference=no_reference,
        method=method,
        layer=layer,
        target=target,
        top_k=top_k,
        size=size,
        crop=crop,
        output=output,
    )


@app.command()
def export(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Run directory of the student.")],
    format: Annotated[str, typer.Option(metavar="onnx|pt2", help="ONNX, or a program of torch.export.")] = "onnx",
    maps: Annotated[bool, typer.Option("--maps", help="Let the file give Grad-CAM++ maps beside the logits.")] = False,
    layer: Annotated[str | None, typer.Option(help="Layer of the maps; `final` if not said.")] = None,
    opset: Annotated[int | None, typer.Option(help="Version of the ONNX operators.")] = None,
    output: Annotated[Path | None, typer.Option(help="The file; RUN/student.onnx or RUN/student.pt2 if not.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file of that name.")] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Check on so many test images only.")] = None,
) -> None:
    """Write the student alone to a file, and check it against the student on the test split.

    The file takes images in [0, 1] and is kept only if it gives the same logits, first choices and maps.
    """
    from distill.cli.export import run as export_file

    export_file(
        run, format=format, maps=maps, layer=layer, opset=opset, output=output, overwrite=overwrite, limit=limit
    )


@app.command()
def ablate(
    arguments: Annotated[
        list[str],
        typer.Argument(metavar="ABLATION [key=value ...]", help="An ablation file, then single keys of it."),
    ],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List the runs and what is left of them, estimate the time, and stop.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Run more than `max_runs` runs.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace runs of another configuration in the folders of these.")
    ] = False,
) -> None:
    """Run a grid of differences under several seeds, and compare the rows.

    The same command again goes on where it stopped; a run whose result is known is never run twice. Writes
    ablation.json, table.md, table.csv and report.html.
    """
    from distill.cli.ablate import run

    run(arguments, dry_run=dry_run, yes=yes, overwrite=overwrite)


@app.command()
def cache(arguments: ConfigAndPairs) -> None:
    """Compute the teacher's answers for every view that training will meet, ahead of the runs that share them.

    Sets teacher.cache=disk; runs use it with the same setting.
    """
    from distill.cli.cache import run

    run(arguments)


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(metavar="RUN_OR_ABLATION", help="Folder of a measured run or an ablation.")],
) -> None:
    """Write the page of a run or an ablation again, from what was measured.

    Reads evaluation.json or ablation.json; the tables, and an ablation's drawings, are made again as well.
    """
    from distill.cli.report import run

    run(folder)


@app.command("list")
def list_(
    what: Annotated[str, typer.Argument(metavar="models|datasets|terms|methods|metrics", help="What to list.")],
) -> None:
    """List what a configuration can name."""
    from distill.cli.listing import run

    run(what)


def main() -> None:
    """Run a command; a user's mistake is one message and exit 2, a failed run exit 1."""
    keep_freed_memory()
    # Lightning's own, about torch's internals; nothing a user could do.
    warnings.filterwarnings("ignore", message=r".*isinstance\(treespec, LeafSpec\).*")
    sys.path.append(str(Path.cwd()))  # where a user's own networks lie, as with `python -m`
    try:
        app()
    except (InputError, RunError) as error:
        from rich.console import Console

        Console(stderr=True, soft_wrap=True).print(f"[bold red]distill:[/] {_plain(error)}", highlight=False)
        sys.exit(error.exit_code)


def _plain(error: BaseException) -> str:
    from rich.markup import escape

    return escape(str(error))
