"""`distill list`."""

from __future__ import annotations

from collections.abc import Callable

from rich.table import Table

from distill.console import PlainConsole, print_table
from distill.errors import InputError, unknown_name


def run(kind: str, part: str | None = None) -> None:
    """Print a table of the available names of one kind, such as ``models``.

    Args:
        kind: The kind.
        part: Part of the names of networks to search for.
    """
    if kind not in _LISTS:
        raise InputError(unknown_name("list", kind, [*_LISTS, "layers"]))
    if part is not None and kind != "models":
        raise InputError(f"`distill list {kind}` takes no name, got {part!r}; remove it.")
    columns, rows = _LISTS[kind]() if part is None else _networks(part)
    table = Table(*columns, box=None, header_style="bold", pad_edge=False)
    for row in rows:
        table.add_row(*row)
    print_table(PlainConsole(soft_wrap=False), table)


_Listing = tuple[tuple[str, ...], list[tuple[str, ...]]]


def _models() -> _Listing:
    from distill.models import FAMILIES

    return ("name", "description", "layers"), [(f.name, f.about, ", ".join(f.layers)) for f in FAMILIES]


def _networks(part: str) -> _Listing:
    """Return the networks of the libraries whose names contain a part, with the names of their weights."""
    from distill.models import FAMILIES, library_names, library_weights_names

    pattern = part if "*" in part else f"*{part}*"
    rows: list[tuple[str, ...]] = [(f.name, "") for f in FAMILIES if part in f.name]
    missing = ""
    for library in ("torchvision", "timm"):
        try:
            names = library_names(library, pattern)
        except InputError as error:
            missing = f" ({error})"
            continue
        rows += [(f"{library}:{name}", ", ".join(library_weights_names(f"{library}:{name}"))) for name in names]
    if not rows:
        raise InputError(f"no network contains {part!r}{missing}; see `distill list models`.")
    return ("name", "weights"), rows


def _datasets() -> _Listing:
    from distill.data import dataset_info

    rows = dataset_info()
    about = [(r.name, r.description, ", ".join(r.options)) for r in rows]
    own = ("package.module:callable", "Your own function that returns a torch data set; docs/data.md.", "its arguments")
    return ("name", "description", "keys of the data section"), [*about, own]


def _terms() -> _Listing:
    from distill.build import term_options
    from distill.config import BUILT_IN_TERMS, Term
    from distill.losses import registered_terms

    def keys(record: type[Term]) -> str:
        fields = {name: field for name, field in record.model_fields.items() if name != "term"}
        return ", ".join(f"{n}: {'required' if f.is_required() else f.default}" for n, f in fields.items())

    rows: list[tuple[str, ...]] = []
    for name, term in registered_terms().items():
        built_in = BUILT_IN_TERMS.get(name)
        about = (built_in or term).__doc__ or ""
        rows.append((name, about.strip().partition("\n")[0], keys(built_in or term_options(term).record)))
    own = "your own torch.nn.Module, as `term: package.module:Class` or by distill.losses.register_term; docs/terms.md"
    rows.append(("package.module:Class", own, keys(Term) + ", and the keyword arguments of its __init__"))
    return ("name", "description", "keys and defaults"), rows


def _methods() -> _Listing:
    from distill.explain import ATTRIBUTIONS, METHODS

    rows: list[tuple[str, ...]] = []
    rows += [(name, m.formula, m.source, "training, evaluation") for name, m in METHODS.items()]
    rows += [(name, a.formula, a.source, "evaluation only") for name, a in ATTRIBUTIONS.items()]
    return ("name", "formula", "source", "use"), rows


def _metrics() -> _Listing:
    from distill.metrics import METRICS
    from distill.metrics.names import METRIC_INFO

    rows = [("accuracy", METRIC_INFO["accuracy"].about)]
    return ("name", "description"), [*rows, *((name, about) for name, (_, about) in METRICS.items())]


def _optimizers() -> _Listing:
    from distill.training.optim import argument_names, optimizer_classes

    rows: list[tuple[str, ...]] = []
    for name, kind in sorted(optimizer_classes().items()):
        rows.append((name, f"torch.optim.{kind.__name__}", ", ".join(argument_names(kind, ("params",)))))
    rows.append(("package.module:Class", "your own torch.optim.Optimizer", "the arguments of its class"))
    return ("name", "class", "arguments"), rows


def _schedules() -> _Listing:
    from distill.training.optim import argument_names, scheduler_classes

    rows: list[tuple[str, ...]] = [
        ("constant", "the same learning rate in every step", ""),
        ("multi_step", "multiplied by gamma at some epochs", "milestones, gamma"),
        ("cosine", "half a cosine from the learning rate to 0, in steps", ""),
        ("one_cycle", "up to the learning rate and down again, in steps", ""),
    ]
    for name, kind in sorted(scheduler_classes().items()):
        about = f"torch.optim.lr_scheduler.{name}"
        rows.append((name, about, ", ".join(argument_names(kind, ("optimizer", "last_epoch")))))
    return ("name", "description", "arguments"), rows


def _augmentations() -> _Listing:
    from distill.data.named_transforms import transform_arguments, transform_classes

    rows: list[tuple[str, ...]] = []
    for name, kind in transform_classes().items():
        arguments = transform_arguments(kind).items()
        rows.append((name, ", ".join(f"{key}: {default}" for key, default in arguments)))
    return ("name", "arguments and defaults"), rows


_LISTS: dict[str, Callable[[], _Listing]] = {
    "models": _models,
    "datasets": _datasets,
    "terms": _terms,
    "methods": _methods,
    "metrics": _metrics,
    "optimizers": _optimizers,
    "schedules": _schedules,
    "augmentations": _augmentations,
}
