"""What importing costs, and that every public name is there."""

import subprocess
import sys

import pytest

import normlab


def modules_after(statement):
    """The top-level modules that a fresh interpreter holds after `statement`."""
    code = f"{statement}\nimport sys\nprint(' '.join({{m.partition('.')[0] for m in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    return set(done.stdout.split())


THIRD_PARTY = {"jaxtyping", "jinja2", "joblib", "matplotlib", "msgspec", "numba", "rich", "scipy", "torch", "typer"}


def test_importing_normlab_is_cheap():
    assert not modules_after("import normlab; normlab.NormSpec('rmsnorm'); dir(normlab)") & (THIRD_PARTY | {"numpy"})


@pytest.mark.parametrize(
    "statement", ["import normlab.norms", "import normlab; normlab.norms.layernorm.forward([1.0, 2.0])"]
)
def test_the_definitions_import_numpy_alone(statement):
    loaded = modules_after(statement)
    assert "numpy" in loaded
    assert not loaded & THIRD_PARTY


def test_layers_load_torch_when_they_are_used():
    assert "torch" in modules_after("import normlab; normlab.RMSNorm")


# models is a package of its own, with its own tests.
NAMES = [name for name in normlab.__all__ if name != "models"]


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_is_listed_and_resolves(name):
    assert name in dir(normlab)
    thing = getattr(normlab, name)
    assert thing.__name__.rpartition(".")[2] == name
    assert thing.__doc__


def test_everything_listed_resolves():
    for name in dir(normlab):
        assert hasattr(normlab, name), name


def test_all_is_sorted_and_without_repeats():
    assert normlab.__all__ == sorted(set(normlab.__all__))


def test_functional_is_the_layers_functional():
    from normlab.layers import functional

    for name in normlab.functional.__all__:
        assert getattr(normlab.functional, name) is getattr(functional, name)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'normlab' has no attribute 'RmsNorm'"):
        _ = normlab.RmsNorm
    assert not hasattr(normlab, "torch")


def test_version():
    assert [part.isdigit() for part in normlab.__version__.split(".")] == [True] * 3
