"""What the README shows works as shown.

A fence that says `python` is a complete program: it is run on its own, and if the next fence says `output`,
that is what it prints. `python fragment` illustrates and only has to be Python. `sh commands` are run in a folder with
the files that fences such as `json file graph.json` hold, and print what the next fence says likewise. The two commands
stand in the fences `sh run` and `sh test`, where .ci/run finds them too.
"""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCUMENTS = [
    ROOT / "README.md",
    *sorted(ROOT.glob("[!.]*/README.md")),
    *sorted(ROOT.glob("engine/*/README.md")),
    *sorted(ROOT.glob("examples/*/README.md")),
]


def fences(text: str) -> list[tuple[str, str]]:
    """What each fenced block of a document says it is, and its text."""
    return re.findall(r"^```([^\n`]+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def programs(text: str) -> list[tuple[str, str | None]]:
    """Each complete program of a document, and what it should print where the document says so."""
    found = fences(text)
    following = [*found[1:], ("", "")]
    return [
        (body, after if kind_after == "output" else None)
        for (kind, body), (kind_after, after) in zip(found, following, strict=False)
        if kind == "python"
    ]


def run(program: str, folder: Path) -> str:
    """What a program prints, pasted into a file in an empty folder; a failure or a warning is an error."""
    file = folder / "pasted.py"
    file.write_text(program)
    ran = subprocess.run([sys.executable, "-W", "error", file], cwd=folder, capture_output=True, text=True, timeout=180)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@pytest.mark.parametrize(
    ("program", "output"),
    [
        pytest.param(program, output, id=f"{document.relative_to(ROOT)}-{number}")
        for document in DOCUMENTS
        for number, (program, output) in enumerate(programs(document.read_text()), 1)
    ],
)
def test_an_example_runs_as_pasted(program: str, output: str | None, tmp_path: Path) -> None:
    printed = run(program, tmp_path)

    assert output is None or printed == output


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: str(document.relative_to(ROOT)))
def test_commands_work_as_pasted(document: Path, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin" / "workflow-engine"
    command.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -W error -m engine "$@"\n')
    command.chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WORKFLOW_")}
    environment["PATH"] = f"{command.parent}:{environment['PATH']}"
    for lines, output in prepared_commands(document.read_text(), tmp_path):
        ran = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", lines],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=180,
        )

        assert ran.returncode == 0, ran.stderr
        assert output is None or ran.stdout == output, ran.stderr


def prepared_commands(text: str, folder: Path) -> Iterator[tuple[str, str | None]]:
    """Each fence of commands and what it should print, the files before it written."""
    found = fences(text)
    for (kind, body), (kind_after, after) in zip(found, [*found[1:], ("", "")], strict=False):
        if name := re.fullmatch(r"\w+ file ([\w.]+)", kind):
            (folder / name[1]).write_text(body)
        if kind == "sh commands":
            yield body, after if kind_after == "output" else None


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: str(document.relative_to(ROOT)))
def test_fragments_are_python(document: Path) -> None:
    for kind, body in fences(document.read_text()):
        if kind == "python fragment":
            compile(body, str(document), "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)


def test_the_readme_opens_with_an_example_and_its_output() -> None:
    (_, output), *_ = programs(DOCUMENTS[0].read_text())

    assert output


def test_the_picture_is_of_the_example(tmp_path: Path) -> None:
    (program, _), *_ = programs(DOCUMENTS[0].read_text())
    file = tmp_path / "pasted.py"
    file.write_text(program.partition("async def main")[0] + "open('drawn.svg', 'w').write(graph.draw('svg'))\n")
    subprocess.run([sys.executable, file], cwd=tmp_path, check=True, timeout=180)

    drawn, shown = (tmp_path / "drawn.svg").read_text(), (ROOT / "examples" / "review.svg").read_text()

    assert drawn == shown, "write it again: graph.draw('svg') of the README's example into examples/review.svg"


@pytest.mark.parametrize("kind", ["sh run", "sh test"])
def test_each_command_is_one_line_that_makes_its_own_environment(kind: str) -> None:
    (command,) = [body for found, body in fences(DOCUMENTS[0].read_text()) if found == kind]

    assert command.count("\n") == 1
    assert command.startswith("python3 -m venv .venv && .venv/bin/pip install ")


def test_the_map_names_every_folder() -> None:
    named = set(re.findall(r"^\| `([\w.]+)/` \|", DOCUMENTS[0].read_text(), re.MULTILINE))
    there = {path.name for path in ROOT.glob("[!.]*/") if any(path.rglob("*.py"))}

    assert there - named == set()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: str(document.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    assert list(dead_links(document)) == []


def dead_links(document: Path) -> Iterator[str]:
    """The links to files that are not there, and to headings that no document has."""
    for link in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"^```.*?^```$", "", document.read_text(), flags=re.M | re.S)):
        path, _, heading = link.partition("#")
        target = document.parent / path if path else document
        if link.startswith(("http://", "https://")):
            continue
        if not target.exists() or (heading and heading not in headings(target.read_text())):
            yield link


def headings(text: str) -> set[str]:
    """The headings of a document as links name them."""
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    }


# The rest shows that the tests above can fail.


def test_a_link_to_nothing_is_found(tmp_path: Path) -> None:
    document = tmp_path / "README.md"
    document.write_text("# Here, it is\n[a](#here-it-is) [b](#there) [c](README.md) [d](none.md) [e](README.md#no)\n")

    assert list(dead_links(document)) == ["#there", "none.md", "README.md#no"]


def test_programs_are_told_from_fragments_and_paired_with_their_output() -> None:
    text = "```python\na\n```\n```output\n1\n```\n```python fragment\nb\n```\n```python\nc\n```\n```sh\nd\n```\n"

    assert programs(text) == [("a\n", "1\n"), ("c\n", None)]


def test_commands_find_their_files_and_their_output(tmp_path: Path) -> None:
    text = "```json file a.json\n{}\n```\n```sh commands\ncat a.json\n```\n```output\n{}\n```\n"

    assert list(prepared_commands(text, tmp_path)) == [("cat a.json\n", "{}\n")]
    assert (tmp_path / "a.json").read_text() == "{}\n"


@pytest.mark.parametrize("program", ["raise SystemExit(1)", "import warnings; warnings.warn('old')"])
def test_a_program_that_fails_or_warns_is_found(program: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        run(program, tmp_path)
