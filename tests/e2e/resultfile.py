"""`result.json` of a folder that ring9-bench left, plain or compressed with gzip, as `bench/src/result/json.rs` reads it."""

import gzip
import json
import os
import zlib

NAME = "result.json"
# Of a result of `runtimes`: it is committed, and most of a clone would else be numbers.
BYTES_MAX = 300_000


def path_in(folder: str) -> str | None:
    """The file that the folder has; none if it has neither form."""
    there = [path for path in (os.path.join(folder, NAME), os.path.join(folder, NAME + ".gz")) if os.path.exists(path)]
    if len(there) > 1:
        raise ValueError(f"{folder} has both {NAME} and {NAME}.gz")
    return there[0] if there else None


def text(path: str) -> str:
    """What is in the file. A ValueError names a file that is damaged."""
    try:
        with gzip.open(path, "rt", encoding="utf-8") if path.endswith(".gz") else open(path, encoding="utf-8") as file:
            return file.read()
    except (EOFError, gzip.BadGzipFile, zlib.error, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error


def read(folder: str) -> dict:
    """The result of the folder."""
    path = path_in(folder)
    if path is None:
        raise ValueError(f"{folder} has neither {NAME} nor {NAME}.gz")
    try:
        return json.loads(text(path))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is no JSON: {error}") from error
