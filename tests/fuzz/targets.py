"""The files that are damaged, made once by tiny runs, and how each is read."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from distill.ablation.file import read_ablation_file
from distill.ablation.results import Results
from distill.ablation.statistics import summarise
from distill.build import run_identity
from distill.build.finished_run import load_run
from distill.checksums import hash_values, save_checked
from distill.cli.report import run as report
from distill.data.idx import read_pair
from distill.data.image_files import decode_images
from distill.errors import InputError
from distill.evaluation import ONE_PASS
from distill.export import FORMATS
from distill.models import StagedNetwork, load_model, load_network
from distill.models.damage import add_checksum
from distill.report import load_record, read_curves
from distill.report.ablation.page import read_facts
from distill.report.ablation.record import load_ablation, save_ablation
from distill.teachers.journal import open_journal
from distill.teachers.store import ViewStore
from distill.training import RunDirectory
from distill.training.checkpoint_files import read_checkpoint
from distill.training.csv_log import MetricsFile
from distill.workflows.evaluate import evaluate
from distill.workflows.export import export_model
from distill.workflows.train import make_config, train
from tests.ablation.records import swept
from tests.ablation.test_results import MEASURED, result

SCALING = {"mean": [0.5] * 3, "std": [0.25] * 3}
KEY = {"teacher": "abc", "images": "3-00000000"}
IMAGES = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


class Target(NamedTuple):
    """A file, and a function of its folder that reads it and returns everything that may not change.

    ``record``: the file is JSON or YAML. ``free``: any readable content is valid, as in a user's configuration.
    """

    name: str
    path: str
    read: Callable[[Path], Any]
    record: bool = False
    free: bool = False


def make_targets(folder: Path) -> list[Target]:
    """Write the files into a folder, and return the targets."""
    done = train(
        student="wrn_10_1",
        data={"size": 16, "count": 20, "batch_size": 10},
        epochs=1,
        output_dir=str(folder),
        name="run",
        trainer={"enable_progress_bar": False, "precision": "32-true", "accelerator": "cpu"},
        loggers={"tensorboard": False},
    )
    run = done.directory
    evaluate(run, settings=ONE_PASS, gallery=0, limit=4, device="cpu")
    for kind in FORMATS:
        export_model(run, format=kind, limit=4)
    torch.save(done.student.network.state_dict(), folder / "weights.pth")
    (folder / "user.yaml").write_text("seed: 3\noptimizer: {lr: 0.1}\ndata: {name: fashion_scenes, size: 16}\n")
    (folder / "ablation.yaml").write_text("name: a\nbase: b.yaml\nseeds: 2\nmetrics: [test/accuracy]\nrows: {a: {}}\n")
    record = swept()
    save_ablation(record, folder / "ablation.json")
    save_checked({"swept": {"torch": "2.6", "seed": 1}, "configuration": "a: 1"}, folder / "facts.json")
    summary = summarise(record)
    save_checked(summary, folder / "summary.json")
    results = Results([folder / "results"])
    stored = results.save(result())
    identity = run_identity(done.config)
    results.save_run_path(identity, run)
    rows = torch.arange(12.0).reshape(3, 4)
    _store(folder).add(torch.arange(3), torch.zeros(3, dtype=torch.int64), rows)
    (cache,) = (folder / "cache").iterdir()
    for name, array in (("train-images-idx3-ubyte", np.zeros((5, 4, 4))), ("train-labels-idx1-ubyte", np.arange(5))):
        content = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.astype("u1").tobytes()
        for place, data in (("idx", content), ("idx_gz", gzip.compress(content, mtime=0))):
            (folder / place).mkdir(exist_ok=True)
            (folder / place / name).write_bytes(data)
    resumed = (run / "metrics.csv").read_text()
    (folder / "resumed").mkdir()
    (folder / "resumed" / "metrics.csv").write_text(resumed)

    def resumed_metrics(at: Path) -> str:
        file = MetricsFile(at / "resumed" / "metrics.csv", first_step=1000, record=resumed)
        return file.text()

    for suffix in ("png", "jpg"):
        Image.fromarray(np.arange(768, dtype=np.uint8).reshape(16, 16, 3)).save(folder / f"image.{suffix}")

    def summary_made_again(at: Path) -> str:
        return save_checked(summary, at / "summary.json").read_text()

    def find_note(at: Path) -> str:
        path = Results([at / "results"]).find_run(identity)
        try:
            found = path is not None and RunDirectory(path).state(identity) == "done"
        except InputError:  # as an ablation does
            found = False
        if not found:
            raise InputError(f"{identity}: the run is trained again")
        return "done"

    def ablation_file(at: Path) -> Any:
        return read_ablation_file(at / "ablation.yaml", [])

    def evaluation(at: Path) -> Any:
        return load_record(at / "run" / "evaluation.json")

    return [
        Target("student.safetensors", "run/student.safetensors", lambda at: _network(load_model(at / "run"))),
        Target("student.json", "run/student.json", lambda at: _network(load_model(at / "run")), record=True),
        Target("last.ckpt", "run/checkpoints/last.ckpt", lambda at: _checkpoint(at / "run/checkpoints/last.ckpt")),
        Target("best.ckpt", "run/checkpoints/best.ckpt", lambda at: _checkpoint(at / "run/checkpoints/best.ckpt")),
        Target("state dict (.pth)", "weights.pth", _plain),
        Target("config.yaml", "run/config.yaml", lambda at: load_run(at / "run").config.model_dump(), record=True),
        Target("environment.json", "run/environment.json", lambda at: RunDirectory(at / "run").facts(), record=True),
        Target("metrics.csv", "run/metrics.csv", lambda at: read_curves(at / "run", run="a").series),
        Target("metrics.csv, resumed", "resumed/metrics.csv", resumed_metrics),
        Target("user's YAML", "user.yaml", lambda at: make_config([at / "user.yaml"], {}, ()), record=True, free=True),
        Target("ablation file", "ablation.yaml", ablation_file, record=True, free=True),
        Target(
            "evaluation.json", "run/evaluation.json", lambda at: load_record(at / "run/evaluation.json"), record=True
        ),
        Target("per_image.parquet", "run/per_image.parquet", _report),
        Target("ablation.json", "ablation.json", lambda at: load_ablation(at / "ablation.json"), record=True),
        Target("result", str(stored.relative_to(folder)), _find_result, record=True),
        Target("summary.json", "summary.json", summary_made_again, record=True),
        Target("facts.json", "facts.json", read_facts, record=True),
        Target("note of a run path", f"results/.runs/{identity}", find_note),
        Target("cache key", f"cache/{cache.name}/key.json", _rows, record=True),
        Target("cache rows", f"cache/{cache.name}/rows.bin", _rows),
        Target("IDX images", "idx/train-images-idx3-ubyte", lambda at: _idx(at / "idx"), free=True),
        Target("IDX labels", "idx/train-labels-idx1-ubyte", lambda at: _idx(at / "idx"), free=True),
        Target("IDX labels, gzip", "idx_gz/train-labels-idx1-ubyte", lambda at: _idx(at / "idx_gz")),
        Target("PNG", "image.png", lambda at: decode_images([at / "image.png"], 8).shape),
        Target("JPEG", "image.jpg", lambda at: decode_images([at / "image.jpg"], 8).shape),
        Target("ONNX", "run/student.onnx", lambda at: _exported(at / "run", "onnx")),
        Target("pt2", "run/student.pt2", lambda at: _exported(at / "run", "pt2")),
    ]


def _network(network: StagedNetwork) -> list[Any]:
    return [_content(network.state_dict()), str(network.spec), network.classes]


def _content(content: Any) -> str:
    return str(add_checksum(content)["content_sha256"])


def _checkpoint(path: Path) -> str:
    load_network(path)
    return _content(read_checkpoint(path))


def _plain(folder: Path) -> str:
    network = load_network(folder / "weights.pth", name="wrn_10_1", num_classes=10, normalisation=SCALING)
    return _content(network.state_dict())


def _report(folder: Path) -> bytes:
    report(folder / "run")
    path = folder / "run" / "per_image.parquet"
    if not path.is_file():
        raise InputError(f"{path} is gone, and nothing was read from it")
    return path.read_bytes()


def _find_result(folder: Path) -> Any:
    found = Results([folder / "results"]).find("abc", MEASURED, ["test/accuracy"])
    if found is None:
        raise InputError("results: the run is measured again")
    return found


def _store(folder: Path) -> ViewStore:
    return ViewStore(images=3, views=1, width=4, journal=open_journal(folder / "cache", KEY, width=4))


def _rows(folder: Path) -> list[list[float]]:
    found = _store(folder).lookup(torch.arange(3), torch.zeros(3, dtype=torch.int64))
    if not found.hits.all():
        raise InputError("rows.bin: the rows are computed again")
    rows: list[list[float]] = found.rows.tolist()
    return rows


def _idx(folder: Path) -> str:
    images, labels = read_pair(folder, "train")
    return hash_values([images.shape, labels.tolist()])


def _exported(run: Path, kind: str) -> list[list[float]]:
    outputs = FORMATS[kind].open(run / f"student.{kind}")(IMAGES)
    logits: list[list[float]] = next(iter(outputs.values())).tolist()
    return logits
