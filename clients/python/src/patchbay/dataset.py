"""A request over the rows of a file, whose results are written beside it: to be stopped and gone on with at any time."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from .arrays import is_array, native, to_numpy
from .client import Patchbay
from .results import Results

#: Results whose rows are another axis than the first.
ROWS_AT = {"activations": 1, "patterns": 1}


def run_dataset(
    bay: Patchbay,
    rows: str | Path | Iterable[dict[str, Any]],
    request: dict[str, Any],
    into: str | Path,
    batch_size: int = 64,
    format: str = "safetensors",
    rows_at: dict[str, int] | None = None,
    progress: Any = None,
) -> Path:
    """Runs a request for all rows, so many at a time, and writes what comes of each batch into the folder `into`.

    `rows` is a JSONL or Parquet file, or dictionaries. `request` is the body of a trace (it has a `graph`), of a generation (`max_new_tokens`) or of a recipe
    (`recipe` names it); a string in it that is `{column}` and nothing else stands for that column of the batch: `{"recipe": "activations", "model": "smollm2",
    "input": "{text}"}`. `format` is `safetensors` (`part-00000.safetensors`, the rest of the answer as its metadata) or `parquet` (a line a row: the row's own
    columns, and each result's part). `rows_at` says on which axis of a result the rows are, where it is not the first one.

    Batches whose files are there are not run again. Raises `ValueError` where the folder belongs to another request, other rows or another batch size.
    """
    folder = Path(into)
    folder.mkdir(parents=True, exist_ok=True)
    if format not in ("safetensors", "parquet"):
        raise ValueError(f"the format is safetensors or parquet, found {format!r}")
    _claim(folder, rows, request, batch_size, format)
    batches: Any = enumerate(_batches(_read(rows), batch_size))
    if progress:
        from .jobs import _tqdm

        batches = (_tqdm() if progress is True else progress)(batches)
    for number, batch in batches:
        file = folder / f"part-{number:05}.{format}"
        if file.exists():
            continue
        found = _run(bay, _filled(request, batch))
        part = file.with_suffix(".part")
        if format == "safetensors":
            _write_safetensors(part, found)
        else:
            _write_parquet(part, found, batch, ROWS_AT | (rows_at or {}))
        # a file is there as a whole or not at all
        os.replace(part, file)
    return folder


def load_dataset(folder: str | Path, name: str, rows_at: int | None = None) -> Any:
    """A result of all rows, of a folder of safetensors."""
    axis = ROWS_AT.get(name, 0) if rows_at is None else rows_at
    files = sorted(Path(folder).glob("part-*.safetensors"))
    if not files:
        raise FileNotFoundError(f"there are no parts in {folder}")
    parts = []
    for file in files:
        with safe_open(file, "np") as tensors:
            parts.append(tensors.get_tensor(name))
    return native(np.concatenate(parts, axis))


def _claim(folder: Path, rows: Any, request: dict[str, Any], batch_size: int, format: str) -> None:
    """Says what the folder is for, or sees that it is for the same."""
    told: dict[str, Any] = {"request": request, "batch_size": batch_size, "format": format}
    if isinstance(rows, (str, Path)):
        told["rows"] = hashlib.sha256(Path(rows).read_bytes()).hexdigest()
    told = json.loads(json.dumps(told, default=lambda tensor: to_numpy(tensor).tolist()))
    manifest = folder / "manifest.json"
    if not manifest.exists():
        part = manifest.with_suffix(".part")
        part.write_text(json.dumps(told, indent=1))
        os.replace(part, manifest)
        return
    before = json.loads(manifest.read_text())
    other = [name for name in {*told, *before} if told.get(name) != before.get(name)]
    if other:
        raise ValueError(
            f"{folder} has parts of another run: its {' and '.join(sorted(other))} differ; take another folder"
        )


def _read(rows: Any) -> Iterator[dict[str, Any]]:
    if not isinstance(rows, (str, Path)):
        yield from rows
    elif Path(rows).suffix == ".parquet":
        for batch in _pyarrow("parquet").ParquetFile(rows).iter_batches():
            yield from batch.to_pylist()
    else:
        with open(rows, encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    try:
                        yield json.loads(line)
                    except ValueError as error:
                        raise ValueError(f"line {number} of {rows} is not JSON: {error}") from None


def _batches(rows: Iterator[dict[str, Any]], size: int) -> Iterator[list[dict[str, Any]]]:
    while batch := list(islice(rows, size)):
        yield batch


def _filled(value: Any, batch: list[dict[str, Any]]) -> Any:
    """The request with the batch's columns in it."""
    if isinstance(value, dict):
        return {name: _filled(inner, batch) for name, inner in value.items()}
    if isinstance(value, list):
        return [_filled(inner, batch) for inner in value]
    if isinstance(value, str) and value.startswith("{") and value.endswith("}"):
        column = value[1:-1]
        missing = [number for number, row in enumerate(batch) if column not in row]
        if missing:
            raise ValueError(f"row {missing[0]} of a batch has no {column!r}; it has {', '.join(batch[missing[0]])}")
        return [row[column] for row in batch]
    return value


def _run(bay: Patchbay, request: dict[str, Any]) -> Results:
    fields = dict(request)
    recipe, model = fields.pop("recipe", None), fields.pop("model", None)
    if recipe is not None:
        return bay.recipe(recipe, model, **fields)
    input = fields.pop("input", None) or fields.pop("inputs", None)
    if "graph" in fields and "max_new_tokens" not in fields:
        return bay.trace(model, input, fields.pop("graph"), **fields)
    answer = bay.generate(model, input, **fields)
    texts = {
        "text": [output["text"] for output in answer["outputs"]],
        "ids": [output["ids"] for output in answer["outputs"]],
    }
    return Results(answer["results"] | texts, answer)


def _write_safetensors(file: Path, found: Results) -> None:
    tensors = {name: np.ascontiguousarray(to_numpy(value)) for name, value in found.items() if is_array(value)}
    rest = {name: value for name, value in found.items() if not is_array(value)}
    save_file(tensors, file, {"results": json.dumps(rest), "response": json.dumps(found.response)})


def _write_parquet(file: Path, found: Results, batch: list[dict[str, Any]], rows_at: dict[str, int]) -> None:
    table: list[dict[str, Any]] = [dict(row) for row in batch]
    for name, value in found.items():
        if is_array(value):
            axis = rows_at.get(name, 0)
            array = to_numpy(value)
            if array.ndim <= axis or array.shape[axis] != len(batch):
                raise ValueError(
                    f"`{name}` of the shape {array.shape} has no axis of {len(batch)} rows at {axis}: say which with `rows_at`"
                )
            parts = [part.tolist() for part in np.moveaxis(array, axis, 0)]
        elif isinstance(value, list) and len(value) == len(batch):
            parts = value
        else:
            raise ValueError(f"`{name}` has no part for each of the {len(batch)} rows")
        for row, part in zip(table, parts, strict=True):
            row[name] = part
    _pyarrow("parquet").write_table(_pyarrow("").Table.from_pylist(table), file)


def _pyarrow(module: str) -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise ImportError("Parquet needs pyarrow: pip install pyarrow") from None
    return pyarrow.parquet if module else pyarrow
