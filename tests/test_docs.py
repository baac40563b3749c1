"""What is written down: commands, flags, targets, modules and files that the documentation names exist."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from lplan.cli import cli, every_command

COMMANDS = every_command()

ROOT = Path(__file__).parents[1]
LOG = ROOT / "docs" / "log.md"  # history: may name what is gone
PAGES = sorted([*ROOT.glob("*.md"), *(page for page in ROOT.glob("docs/**/*.md") if page != LOG)])
SOURCES = [
    path for room in ("planner", "profiles", "report", "trainer") for path in (ROOT / room).rglob("*.py")
]

FENCED = re.compile(r"^```(?:sh|console)\n(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\((?!https?://|#)([^)#]+)")
FILE = re.compile(r"(?:[\w.-]+/)+[\w.-]+\.(?:py|toml|md|json|txt)")
TARGET = re.compile(r"^([a-z][a-z-]*):", re.MULTILINE)

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def command_lines(page: Path) -> Iterator[list[str]]:
    """Every command in a page, as words: lines of shell blocks, and code that begins like a command."""
    text = page.read_text(encoding="utf-8")
    for block in FENCED.findall(text):
        for line in block.replace("\\\n", " ").splitlines():
            yield shlex.split(line.removeprefix("$ "), comments=True)
    for code in INLINE.findall(FENCED.sub("", text)):
        if re.match(r"(\.venv/bin/)?(lplan|make|python) [\w-]", code):
            yield shlex.split(code)


def program(words: list[str]) -> str:
    return Path(words[0]).name if words else ""


def documented(name: str) -> list[list[str]]:
    return [words for page in PAGES for words in command_lines(page) if program(words) == name]


def flags(command: click.Command) -> set[str]:
    context = click.Context(command, help_option_names=["-h", "--help"])
    return {option for parameter in command.get_params(context) for option in parameter.opts}


def targets() -> set[str]:
    return set(TARGET.findall((ROOT / "Makefile").read_text(encoding="utf-8")))


@pytest.mark.parametrize("words", documented("lplan"), ids=" ".join)
def test_a_documented_command_and_its_flags_exist(words: list[str]) -> None:
    names = [word for word in words[1:] if not word.startswith("-")][:1]
    command = COMMANDS[names[0]] if names else cli
    given = {word.split("=")[0] for word in words[1:] if word.startswith("-")}
    assert given <= flags(command) | flags(cli)


@pytest.mark.parametrize("words", documented("make"), ids=" ".join)
def test_a_documented_target_exists(words: list[str]) -> None:
    assert {word for word in words[1:] if "=" not in word} <= targets()


@pytest.mark.parametrize("words", documented("python"), ids=" ".join)
def test_a_documented_module_exists(words: list[str]) -> None:
    module = words[words.index("-m") + 1]
    place = ROOT.joinpath(*module.removeprefix("lplan.").split("."))
    assert place.with_suffix(".py").is_file() or (place / "__main__.py").is_file() or module == "lplan"


def test_every_command_and_every_target_is_documented() -> None:
    assert {words[1] for words in documented("lplan") if len(words) > 1} >= set(COMMANDS)
    assert {word for words in documented("make") for word in words[1:]} >= targets() - {"help"}


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_flag_of_a_command_is_documented(name: str) -> None:
    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    named = set(re.findall(r"--[a-z][a-z0-9-]*", page))
    assert {flag for flag in flags(COMMANDS[name]) if flag.startswith("--")} - named == set()


@pages
def test_links_lead_somewhere(page: Path) -> None:
    dead = [
        link for link in LINK.findall(page.read_text(encoding="utf-8")) if not (page.parent / link).exists()
    ]
    assert dead == []


@pages
def test_files_that_a_page_names_exist(page: Path) -> None:
    named = [code for code in INLINE.findall(page.read_text(encoding="utf-8")) if FILE.fullmatch(code)]
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_pages_that_the_code_refers_to_exist() -> None:
    named = {
        name
        for path in SOURCES
        for name in re.findall(r"(?<![\w/])docs/[\w/.-]+\.md", path.read_text("utf-8"))
    }
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_the_changelog_knows_this_version() -> None:
    version = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text("utf-8"), re.MULTILINE)
    assert version is not None
    headings = re.findall(r"^## (.+)", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert any(version[1] in heading for heading in headings[:2])
