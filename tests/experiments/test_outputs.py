import json
import math

import pytest

from normlab.experiments.outputs import strict, write_bytes, write_csv, write_json


def test_json_is_strict_and_pythons_float_reads_it(tmp_path):
    value = {"a": (1.5, math.nan), "b": [math.inf, -math.inf], "c": None}
    write_json(tmp_path / "x.json", value)

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    read = json.loads((tmp_path / "x.json").read_text(), parse_constant=refuse)
    assert read == {"a": [1.5, "NaN"], "b": ["Infinity", "-Infinity"], "c": None}
    assert math.isnan(float(read["a"][1]))
    assert float(read["b"][1]) == -math.inf


def test_floats_survive_exactly(tmp_path):
    values = [0.1, 1 / 3, 5e-324, 1.7976931348623157e308]
    write_json(tmp_path / "x.json", values)
    assert json.loads((tmp_path / "x.json").read_text()) == values


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "x.json"
    write_json(path, {"old": 1})
    before = path.read_bytes()

    def full_disk(self, target):
        raise OSError("no space left on device")

    monkeypatch.setattr("pathlib.Path.replace", full_disk)
    with pytest.raises(OSError, match="no space"):
        write_json(path, {"new": 2})
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


def test_what_cannot_be_encoded_writes_nothing(tmp_path):
    with pytest.raises(TypeError):
        write_json(tmp_path / "x.json", {"f": lambda: None})
    assert list(tmp_path.iterdir()) == []


def test_csv(tmp_path):
    write_csv(tmp_path / "x.csv", ("a", "b"), [(1, "x, y"), (0.5, "")])
    assert (tmp_path / "x.csv").read_text() == 'a,b\n1,"x, y"\n0.5,\n'


def test_files_are_readable_by_others(tmp_path):
    write_bytes(tmp_path / "sub" / "x", b"1")
    assert (tmp_path / "sub" / "x").stat().st_mode & 0o777 == 0o644


def test_strict_leaves_the_rest():
    assert strict({"x": [True, 1, "NaN"]}) == {"x": [True, 1, "NaN"]}
