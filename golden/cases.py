"""Reads the case list and draws the operands' numbers, exactly as crates/kessen-engine/tests/cases/mod.rs does,
and reads and writes golden files (safetensors)."""

import json
import math
import struct
import sys
import tomllib
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).resolve().parent
MASK = (1 << 64) - 1


def families():
    """Every family's name with its cases."""
    for path in sorted((FOLDER / "cases").glob("*.toml")):
        yield path.stem, tomllib.loads(path.read_text())["case"]


def fnv(text):
    """FNV-1a, 64 bits."""
    h = 0xCBF29CE484222325
    for b in text.encode():
        h = ((h ^ b) * 0x100000001B3) & MASK
    return h


def words(name, count):
    """24 random bits per element: SplitMix64's output function over the seed that the name hashes to."""
    z = (np.uint64(fnv(name)) + np.arange(count, dtype=np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (z ^ (z >> np.uint64(31))) >> np.uint64(40)


def fill(name, text):
    """The operand that the list writes as `text` (`2x3 positive`): f64 with values exact in f32, or i64."""
    shape, *rule = text.split(" ")
    shape = [] if shape == "scalar" else [int(n) for n in shape.split("x")]
    count = math.prod(shape)
    w = words(name, count)
    u = w.astype(np.float64) / 8388608.0 - 1.0
    match rule:
        case []:
            values = u
        case ["spread", s]:
            values = float(s) * u
        case ["positive"]:
            values = 1.0 + u / 2.0
        case ["unit"]:
            values = (1.0 + u) / 2.0
        case ["constant", c]:
            values = np.full(count, float(c))
        case ["distinct"]:
            values = np.empty(count)
            values[np.lexsort((np.arange(count), w))] = (2 * np.arange(count) + 1) / count - 1.0
        case ["ids", n]:
            return ((w * np.uint64(n)) >> np.uint64(24)).astype(np.int64).reshape(shape)
        case _:
            raise ValueError(f"unknown fill in `{text}`")
    return values.astype(np.float32).astype(np.float64).reshape(shape)


NAMES = {"F32": np.dtype("<f4"), "F64": np.dtype("<f8"), "I64": np.dtype("<i8"), "U8": np.dtype("u1")}


def write_safetensors(path, arrays):
    header, blob = {}, b""
    for name, array in arrays.items():
        array = np.asarray(array)
        dtype = next(k for k, d in NAMES.items() if d == array.dtype)
        data = array.tobytes()
        header[name] = {
            "dtype": dtype, "shape": list(array.shape), "data_offsets": [len(blob), len(blob) + len(data)],
        }
        blob += data
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(struct.pack("<Q", len(text)) + text + blob)


def read_safetensors(path):
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header, blob = json.loads(data[8 : 8 + length]), data[8 + length :]
    arrays = {}
    for name, entry in header.items():
        start, end = entry["data_offsets"]
        arrays[name] = np.frombuffer(blob[start:end], NAMES[entry["dtype"]]).reshape(entry["shape"])
    return arrays


def agree(a, b, tolerance):
    """Whether differences are small against the largest finite number, and infinities stand at the same places."""
    finite = np.isfinite(a)
    scale = max(1e-3, float(np.abs(a[finite]).max(initial=0.0)))
    return np.array_equal(a[~finite], b[~finite]) and bool(np.all(np.abs(a[finite] - b[finite]) <= tolerance * scale))


def store_or_check(files, tolerance, check):
    """Writes `{name: arrays}` to values/; with `check` compares instead and exits with 1 where one differs."""
    failures = []
    for name, arrays in files.items():
        path = FOLDER / "values" / f"{name}.safetensors"
        if not check:
            write_safetensors(path, arrays)
            print(f"{path.name}: {len(arrays)} arrays, {path.stat().st_size} bytes")
            continue
        stored = read_safetensors(path)
        if stored.keys() != arrays.keys():
            failures.append(f"{name}: other arrays: {sorted(stored.keys() ^ arrays.keys())}")
        for key in stored.keys() & arrays.keys():
            a, b = stored[key].astype(np.float64), np.asarray(arrays[key]).astype(np.float64)
            if a.shape != b.shape or not agree(a, b, tolerance):
                failures.append(f"{name}: {key} differs")
    print("\n".join(failures) or f"{len(files)} files agree", file=sys.stderr if failures else sys.stdout)
    sys.exit(bool(failures) and check)
