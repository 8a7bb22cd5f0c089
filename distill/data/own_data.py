"""Data sets that a function of the user returns: `data.name: package.module:callable`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from distill.data.fashion_scenes import SPLITS
from distill.data.folder_splits import SPLIT_NAMES
from distill.data.imageset import ImageSet
from distill.data.partition import check_not_empty, split_rows
from distill.data.torch_dataset import as_image_set
from distill.errors import InputError, unknown_name, without_addresses
from distill.importing import import_attribute
from distill.objects import is_object

#: Options that the callable gets only if it has a parameter of this name. Otherwise they are used here.
OWN_KEYS = ("seed", "validation", "test", "classes")
_SPLIT_OF = {name: split for split, names in SPLIT_NAMES.items() for name in names}


def is_callable_path(name: str) -> bool:
    """Return whether a name of a data set is ``package.module:callable``.

    Example:
        >>> is_callable_path("mydata:photos"), is_callable_path("cifar10"), is_callable_path("object:mydata.Photos#1f")
        (True, False, False)
    """
    return ":" in name and not is_object(name)


def load_own(name: str, split: str, **options: Any) -> ImageSet:
    """Call a function of the user, and read one split of what it returns into memory.

    Convention:
        - The function gets the options as keyword arguments, and ``split`` and ``seed`` if it has parameters of these
          names.
        - With a parameter ``split``, it returns the data set of that split, or None. Otherwise it returns three data
          sets (train, validation, test), of which the last may be None, or a mapping from splits to data sets, or one
          data set, which is divided by the fractions ``validation`` (default: 0.1) and ``test`` (default: 0.1).
        - A data set is one that :func:`distill.data.as_image_set` reads: items are (image, label[, boxes[, masks]]).
          The class names are ``classes`` of the options, or of the training set, or the numbers of its labels.
        - The function is called once for every split, so it must return the same images each time.

    Args:
        name: ``package.module:callable``. The module is imported.
        split: ``train``, ``validation`` or ``test``.
        options: Keyword arguments of the function, and ``validation``, ``test``, ``seed`` and ``classes``.

    Raises:
        InputError: If the function cannot be imported or fails, does not take an option, or its result is not as
            described.
    """
    make, own = _bind(name, options)
    if _accepts(make, "split"):
        read: Callable[[str], Any] = partial(_read_split, make)
    else:
        result = make()
        if not isinstance(result, Mapping) and not (isinstance(result, tuple) and len(result) == len(SPLITS)):
            data = as_image_set(result, classes=own.get("classes"), name=name)
            fractions = {"validation": own.get("validation", 0.1), "test": own.get("test"), "seed": own.get("seed", 0)}
            rows = split_rows(data.labels, None, split, name=name, **fractions)
            check_not_empty(len(rows), split)
            return data.subset(rows)
        read = _by_split(name, result).get
    if unused := next((key for key in ("validation", "test") if key in own), None):
        raise InputError(
            f"data.{unused}: {name} returns a data set for each split, so none is divided; remove the key."
        )
    data = read(split)
    if data is None:
        raise InputError(
            f"{name} returns no data set for the split {split}; return one, or a single data set, which is divided by "
            "the fractions `data.validation` and `data.test`."
        )
    classes = own.get("classes") or getattr(data, "classes", None)
    if classes is None and split != "train":
        classes = as_image_set(read("train"), name=f"{name}, train").classes
    return as_image_set(data, classes=classes, name=f"{name}, {split}")


def check_callable_keys(name: str, options: Mapping[str, Any]) -> None:
    """Check that a callable takes the options of a ``data`` section; it is imported and not called.

    Raises:
        InputError: As :func:`load_own` does.
    """
    _bind(name, options)


def _bind(name: str, options: Mapping[str, Any]) -> tuple[Callable[..., Any], dict[str, Any]]:
    """Return the callable with its options, and the options that are used here."""
    function = _import(name)
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError) as error:
        raise InputError(f"data.name: {name} has no signature; wrap it in a function of your own.") from error
    takes_any = any(one.kind is one.VAR_KEYWORD for one in parameters.values())
    for key in options:
        if key not in parameters and key not in OWN_KEYS and not takes_any:
            known = [*(one for one in parameters if one != "split"), *OWN_KEYS]
            raise InputError(f"data.{key}: {unknown_name(f'argument of {name}', key, known)}")
    passed = {key: value for key, value in options.items() if key in parameters or key not in OWN_KEYS}
    missing = [
        one.name
        for one in parameters.values()
        if one.default is one.empty and one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)
        if one.name not in passed and one.name != "split"
    ]
    if missing:
        raise InputError(f"data.{missing[0]}: {name} requires this argument; add the key.")

    def call(**also: Any) -> Any:
        try:
            return function(**passed, **also)
        except InputError:
            raise
        except Exception as error:  # the user's code may raise anything
            shown = without_addresses(f"{type(error).__name__}: {error}")
            raise InputError(f"data.name: {name} failed with {shown}.") from error

    call.__signature__ = inspect.Signature(list(parameters.values()))  # type: ignore[attr-defined]
    return call, {key: value for key, value in options.items() if key in OWN_KEYS}


def _read_split(make: Callable[..., Any], split: str) -> Any:
    return make(split=split)


def _accepts(function: Callable[..., Any], parameter: str) -> bool:
    return parameter in inspect.signature(function).parameters


def _import(name: str) -> Callable[..., Any]:
    value = import_attribute(name, kind="function", suits=callable, where="data.name")
    if not callable(value):
        raise InputError(f"data.name: {name} is not a function or class, but a {type(value).__name__}.")
    return value


def _by_split(name: str, result: Mapping[Any, Any] | tuple[Any, ...]) -> dict[str, Any]:
    if isinstance(result, tuple):
        return dict(zip(SPLITS, result, strict=True))
    found: dict[str, Any] = {}
    for key, data in result.items():
        split = _SPLIT_OF.get(str(key).lower())
        if split is None or split in found:
            raise InputError(f"{name}: {unknown_name('split', str(key), _SPLIT_OF)}; return one data set per split.")
        found[split] = data
    if found.get("train") is None:
        raise InputError(f"{name} returns no data set for the split train; it returns {', '.join(found) or 'none'}.")
    return found
