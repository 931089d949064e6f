"""What pyproject.toml asks for, and the pins under .ci/ that the README's test command installs."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PINS = (ROOT / ".ci" / "requirements.txt").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]


def asked_for(requirements: list[str]) -> list[Requirement]:
    """The requirements, those which name extras of this project replaced by what these extras ask for."""
    found = []
    for requirement in map(Requirement, requirements):
        if requirement.name == PROJECT["name"]:
            for extra in sorted(requirement.extras):
                found += asked_for(EXTRAS[extra])
        else:
            found.append(requirement)
    return found


def pinned(name: str) -> list[str]:
    """The versions that are pinned of a distribution: several where they differ between platforms."""
    pins = re.findall(r"^([\w.-]+)==([^\s;]+)", PINS, re.MULTILINE)
    return [version for pin, version in pins if canonicalize_name(pin) == canonicalize_name(name)]


@pytest.mark.parametrize(
    "requirement",
    asked_for(PROJECT["dependencies"] + EXTRAS["dev"]),
    ids=lambda requirement: requirement.name,
)
def test_the_pins_satisfy_what_the_tests_need(requirement: Requirement) -> None:
    versions = pinned(requirement.name)

    assert versions, f"{requirement} is not pinned: .ci/requirements.txt says in its head how to write it again"
    assert all(requirement.specifier.contains(version) for version in versions), (requirement, versions)


def test_every_pin_has_hashes() -> None:
    entries = [line for line in PINS.replace("\\\n", " ").splitlines() if "==" in line]

    assert entries
    assert [entry for entry in entries if "--hash=sha256:" not in entry] == []


@pytest.mark.parametrize("file", ["pyproject.toml", ".ci/requirements.txt", ".ci/run"])
def test_no_file_names_where_packages_come_from(file: str) -> None:
    found = re.findall(r"\S*(?:://|index-url|find-links|trusted-host)\S*", (ROOT / file).read_text())

    assert found == []


def test_all_means_every_extra_but_those_for_developers() -> None:
    (everything,) = map(Requirement, EXTRAS["all"])

    assert everything.extras == EXTRAS.keys() - {"all", "dev", "bench"}


def test_what_is_measured_beside_us_is_pinned_and_asked_for_by_nothing_else() -> None:
    rivals = {requirement.name for requirement in asked_for(EXTRAS["bench"])}
    others = {requirement.name for extra in EXTRAS.keys() - {"bench"} for requirement in asked_for(EXTRAS[extra])}

    assert all(re.fullmatch(r"==[\d.]+", str(requirement.specifier)) for requirement in asked_for(EXTRAS["bench"]))
    assert rivals.isdisjoint(others | {requirement.name for requirement in asked_for(PROJECT["dependencies"])})
