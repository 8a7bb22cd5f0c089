"""The commands `distill ...` and their options. Commands import torch when they run, so `--help` does not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from distill.cli.entry import run_app
from distill.cli.options import (
    ConfigAndPairs,
    DataName,
    Device,
    LayerLayout,
    LayerName,
    MaybeConfigAndPairs,
    MethodName,
    NetworkName,
    Schema,
    Split,
    Target,
    Trusted,
)

app = typer.Typer(
    name="distill",
    help="Train a small network that gives a large network's answers for the same reasons.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command()
def train(
    arguments: MaybeConfigAndPairs = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing run of the same name.")] = False,
    extend: Annotated[
        bool, typer.Option("--extend", help="Continue a run that was started with a smaller trainer.max_epochs.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the resolved configuration and exit.")] = False,
    replay: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="Repeat the step in failed_step.ckpt of a run whose loss was not finite, and print it."
        ),
    ] = None,
    trust: Trusted = False,
) -> None:
    """Train a teacher, a baseline or a student.

    Without a `teacher` section, this is plain supervised training. The same command resumes a stopped run, and prints
    a message if the run is finished.
    """
    from distill.cli.train import repeat_failed_step, run

    if replay is not None:
        if arguments or overwrite or extend or dry_run:
            raise typer.BadParameter(
                "it takes no other argument: the run's own config.yaml is used.", param_hint="--replay"
            )
        repeat_failed_step(replay, trust=trust)
        return
    if not arguments:
        raise typer.BadParameter("give a YAML file, or key=value.", param_hint="CONFIG")
    run(arguments, overwrite=overwrite, extend=extend, dry_run=dry_run, trust=trust)


@app.command()
def evaluate(
    runs: Annotated[
        list[str], typer.Argument(metavar="[LABEL=]RUN...", help="Run directories, in the order of the table.")
    ],
    reference: Annotated[
        str | None,
        typer.Option(
            metavar="[LABEL=]RUN", help="The teacher. The other runs' predictions and maps are compared with it."
        ),
    ] = None,
    ceiling: Annotated[
        str | None,
        typer.Option(
            metavar="[LABEL=]RUN",
            help="The teacher trained with another seed. No student can be expected to agree more with the teacher.",
        ),
    ] = None,
    on: Annotated[
        list[str] | None,
        typer.Option(
            metavar="key=value[,key=value]",
            help="A test set: the run's test set with changed keys of its data section. Can be repeated.",
        ),
    ] = None,
    split: Annotated[Split, typer.Option(help="Split to evaluate on.")] = "test",
    method: MethodName = "grad_cam_pp",
    layer: LayerName = "final",
    layout: LayerLayout = "auto",
    target: Annotated[
        Target, typer.Option(help="Class to explain: the label, or the class that the teacher predicts.")
    ] = "label",
    held_out: Annotated[
        list[str] | None,
        typer.Option(
            metavar="METHOD",
            help="Held-out explainer; can be repeated. Default: input_x_gradient, smooth_grad. `none` disables them.",
        ),
    ] = None,
    perturbed: Annotated[
        int, typer.Option(min=0, help="Number of images for the deletion and insertion metrics; 0 disables them.")
    ] = 256,
    explained: Annotated[
        int, typer.Option(min=0, help="Number of images for the held-out explainers; 0 disables them.")
    ] = 64,
    sanity: Annotated[
        bool, typer.Option(help="Compare with the maps of networks with random weights, on 64 images.")
    ] = True,
    network: NetworkName = None,
    data: DataName = None,
    trust: Trusted = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Use only the first LIMIT images of each test set.")] = None,
    device: Annotated[Device, typer.Option(help="Device to compute on.")] = "auto",
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Batch size. Default: chosen from the image size; 256 at 32 x 32 pixels.")
    ] = None,
    gallery: Annotated[int, typer.Option(min=0, help="Number of pictures in the report, over all test sets.")] = 48,
    output: Annotated[
        Path | None,
        typer.Option(help="Output folder. Default: the run directory, or the common parent of several runs."),
    ] = None,
    title: Annotated[str, typer.Option(help="Title of the report.")] = "Evaluation",
    schema: Schema = False,
) -> None:
    """Evaluate runs on the test split: accuracy, agreement with the teacher, and quality of the maps.

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
        maps=MapSettings(method=method, layer=layer, target=target, layout=layout),
        settings=settings,
        network=network,
        data=data,
        trust=trust,
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
        str | None, typer.Option(metavar="RUN", help="The teacher. Default: the teacher that the run was trained with.")
    ] = None,
    no_reference: Annotated[bool, typer.Option("--no-reference", help="Show the student without a teacher.")] = False,
    method: MethodName = "grad_cam_pp",
    layer: LayerName = "final",
    layout: LayerLayout = "auto",
    target: Annotated[
        str | None,
        typer.Option("--class", metavar="NAME_OR_NUMBER", help="Class to explain. Default: the student's prediction."),
    ] = None,
    top_k: Annotated[int, typer.Option(min=1, help="Number of classes to print for each image.")] = 5,
    size: Annotated[
        int | None, typer.Option(min=1, help="Height and width of the network's input. Default: as in training.")
    ] = None,
    crop: Annotated[bool, typer.Option("--crop", help="Use only the central square of each image.")] = False,
    network: NetworkName = None,
    trust: Trusted = False,
    output: Annotated[Path | None, typer.Option(help="Output folder. Default: RUN/explained.")] = None,
) -> None:
    """Show the predictions and maps of a run and its teacher for image files.

    Writes a PNG for each image: the image, the teacher's map and the student's map of the same class.
    """
    from distill.cli.explain import run as explain_files

    explain_files(
        run,
        images,
        reference=reference,
        no_reference=no_reference,
        method=method,
        layer=layer,
        layout=layout,
        target=target,
        top_k=top_k,
        size=size,
        crop=crop,
        network=network,
        trust=trust,
        output=output,
    )


@app.command()
def export(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Run directory of the student.")],
    format: Annotated[
        str, typer.Option(metavar="onnx|pt2", help="File format: ONNX, or a torch.export program.")
    ] = "onnx",
    maps: Annotated[bool, typer.Option("--maps", help="Output Grad-CAM++ maps in addition to the logits.")] = False,
    layer: Annotated[str | None, typer.Option(help="Layer of the maps. Default: final.")] = None,
    opset: Annotated[
        int | None, typer.Option(help="Version of the ONNX operator set. Default: chosen by torch.")
    ] = None,
    network: NetworkName = None,
    data: DataName = None,
    trust: Trusted = False,
    output: Annotated[
        Path | None, typer.Option(help="Output file. Default: RUN/student.onnx or RUN/student.pt2.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Check only the first LIMIT test images.")] = None,
) -> None:
    """Export the student to a file, and compare the file with the student on the test split.

    The exported network takes images in [0, 1]. The file is kept only if its logits, predictions and maps match
    those of the student.
    """
    from distill.cli.export import run as export_file

    export_file(
        run,
        format=format,
        maps=maps,
        layer=layer,
        opset=opset,
        network=network,
        data=data,
        trust=trust,
        output=output,
        overwrite=overwrite,
        limit=limit,
    )


@app.command()
def ablate(
    arguments: Annotated[
        list[str],
        typer.Argument(metavar="ABLATION [key=value ...]", help="An ablation file, then single keys that override it."),
    ],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List the runs and their state, estimate the remaining time, and exit.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Allow more than `max_runs` runs.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace runs with another configuration in the same folders.")
    ] = False,
    trust: Trusted = False,
) -> None:
    """Train and evaluate a grid of configurations with several seeds, and compare the rows.

    The same command resumes an ablation that was stopped. Runs with a stored result are not repeated. Writes
    ablation.json, table.md, table.csv and report.html.
    """
    from distill.cli.ablate import run

    run(arguments, dry_run=dry_run, yes=yes, overwrite=overwrite, trust=trust)


@app.command()
def cache(arguments: ConfigAndPairs, trust: Trusted = False) -> None:
    """Compute and store the teacher's outputs for all views of a training run.

    Sets teacher.cache=disk. Runs with the same setting read the teacher's outputs from this cache.
    """
    from distill.cli.cache import run

    run(arguments, trust=trust)


@app.command()
def report(
    folder: Annotated[
        Path, typer.Argument(metavar="RUN_OR_ABLATION", help="Folder of an evaluated run or of an ablation.")
    ],
) -> None:
    """Write the report of a run or an ablation again, from its stored results.

    Reads evaluation.json or ablation.json. Also writes the tables, and the figures of an ablation.
    """
    from distill.cli.report import run

    run(folder)


@app.command("list")
def list_(
    kind: Annotated[
        str,
        typer.Argument(
            metavar="models|layers|datasets|terms|methods|metrics|optimizers|schedules|augmentations",
            help="Kind of names to list.",
        ),
    ],
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            help="models: a part of the names of torchvision's and timm's networks. layers: a network or a run.",
        ),
    ] = None,
    size: Annotated[
        int | None, typer.Option(min=1, help="layers: height and width of the images. Default: 32; 224 for libraries.")
    ] = None,
    channels: Annotated[int, typer.Option(min=1, help="layers: number of image channels.")] = 3,
    classes: Annotated[int, typer.Option(min=1, help="layers: number of classes.")] = 10,
    every: Annotated[bool, typer.Option("--all", help="layers: show layers that are no cuts, too.")] = False,
    trust: Trusted = False,
) -> None:
    """List the names that a configuration can use.

    `distill list models convnext` searches torchvision and timm. `distill list layers NETWORK` prints the layers of a
    network or of a run: shape, sign, whether it is a cut, and how its gradient is computed.
    """
    if kind == "layers":
        from distill.cli.layers import run as list_layers

        return list_layers(name, size=size, channels=channels, classes=classes, every=every, trust=trust)
    from distill.cli.listing import run

    return run(kind) if name is None else run(kind, name)


def main() -> None:
    """Run a command. Exit codes: 0 done, 1 the run failed, 2 the input is wrong, 130 interrupted."""
    run_app(app)
