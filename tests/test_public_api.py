"""What the two packages say they offer is what is there, documented and typed; and they import light."""

import ast
import importlib
import inspect
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

PACKAGES = ["actors", "engine"]
ROOT = Path(__file__).parent.parent

# What the core may load besides the standard library: its dependencies and what these import.
CORE_DEPENDENCIES = {
    "anyio",
    "attr",
    "attrs",
    "cattr",
    "cattrs",
    "idna",
    "orjson",
    "prometheus_client",
    "sniffio",  # anyio loads it where trio has brought it along
    "typing_extensions",
}


@pytest.fixture(params=PACKAGES)
def package(request: pytest.FixtureRequest) -> ModuleType:
    return importlib.import_module(request.param)


def names_in(package: ModuleType) -> set[str]:
    """The public names of a package, its modules aside."""
    return {
        name for name, value in vars(package).items() if not name.startswith("_") and not isinstance(value, ModuleType)
    }


def faults_of_list(package: ModuleType) -> Iterator[str]:
    """Every difference between `__all__` and what is there."""
    listed = list(getattr(package, "__all__", []))
    if listed != sorted(listed, key=str.casefold):
        yield "__all__ is not in alphabetical order"
    if len(listed) != len(set(listed)):
        yield "__all__ names something twice"
    for name in sorted(names_in(package) - set(listed)):
        yield f"{name} is there, but not in __all__"
    for name in sorted(set(listed) - names_in(package)):
        yield f"{name} is in __all__, but not there"


def statements_out_of_place(source: str) -> Iterator[str]:
    """Every statement of an `__init__` that is not its docstring, an import or `__all__`."""
    body = ast.parse(source).body
    match body[:1]:
        case [ast.Expr(value=ast.Constant(value=str(text)))] if "\n" not in text:
            pass
        case _:
            yield "it does not open with a docstring of one line"
    for statement in body:
        match statement:
            case ast.Expr(value=ast.Constant(value=str())) if statement is body[0]:
                pass
            case ast.Import() | ast.ImportFrom() | ast.Assign(targets=[ast.Name(id="__all__")]):
                pass
            case _:
                yield f"line {statement.lineno} is not an import"


def faults_of(name: str, value: Any) -> Iterator[str]:
    """What an exported object, or something public in it, lacks in documentation or annotations."""
    if inspect.isclass(value):
        if not vars(value).get("__doc__"):
            yield f"{name} has no docstring"
        for attribute, (member, is_static) in public_methods(value).items():
            where = f"{name}.{attribute}"
            if not any(vars(base)[attribute].__doc__ for base in value.__mro__ if attribute in vars(base)):
                yield f"{where} has no docstring"
            yield from missing_annotations(where, member, skip_first=not is_static)
    elif inspect.isroutine(value):
        if not inspect.getdoc(value):
            yield f"{name} has no docstring"
        yield from missing_annotations(name, value)


def public_methods(cls: type) -> dict[str, tuple[Any, bool]]:
    """The public functions of a class, but for what Python gives it, and whether each is static."""
    found = {}
    for base in reversed(cls.__mro__):
        if base.__module__.partition(".")[0] in sys.stdlib_module_names:
            continue
        for name, member in vars(base).items():
            if name.startswith("_"):
                continue
            function = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
            if inspect.isfunction(function):
                found[name] = (function, isinstance(member, staticmethod))
    return found


def missing_annotations(where: str, function: Any, *, skip_first: bool = False) -> Iterator[str]:
    """Every parameter of a function, and its result, that has no annotation."""
    signature = inspect.signature(function)
    for parameter in list(signature.parameters.values())[int(skip_first) :]:
        if parameter.annotation is parameter.empty:
            yield f"{where} has no annotation for {parameter.name!r}"
    if signature.return_annotation is signature.empty:
        yield f"{where} has no annotation for its result"


def loaded_by(code: str) -> set[str]:
    """The packages outside the standard library which running a line of code in a new process loads."""
    script = (
        "import sys; before = set(sys.modules)\n"
        f"{code}\n"
        "print(*{name.partition('.')[0] for name in set(sys.modules) - before})"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    return set(ran.stdout.split()) - sys.stdlib_module_names


def test_the_list_of_names_is_what_is_there(package: ModuleType) -> None:
    assert list(faults_of_list(package)) == []


def test_init_holds_a_docstring_imports_and_the_list_of_names(package: ModuleType) -> None:
    assert package.__file__ is not None
    assert list(statements_out_of_place(Path(package.__file__).read_text())) == []


def test_what_is_exported_is_documented_and_annotated(package: ModuleType) -> None:
    faults = [fault for name in names_in(package) for fault in faults_of(name, getattr(package, name))]

    assert not faults, "\n".join(sorted(faults))


def test_the_types_are_there_for_users(package: ModuleType) -> None:
    assert package.__file__ is not None
    assert Path(package.__file__).with_name("py.typed").exists()


@pytest.mark.parametrize("name", PACKAGES)
def test_importing_a_package_loads_the_core_dependencies_only(name: str) -> None:
    assert loaded_by(f"import {name}") - CORE_DEPENDENCIES - set(PACKAGES) == set()


# What only some engines use is loaded by those: `import engine` is what every program and command waits for.
NOT_AT_ONCE = {"anyio.from_thread", "anyio.to_thread", "concurrent.futures", "engine.stores", "engine.web", "orjson"}


def test_what_only_some_engines_use_is_not_loaded_at_once() -> None:
    script = "import sys; import engine; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert NOT_AT_ONCE & set(ran.stdout.split()) == set()


# The rest shows that the tests above can fail.


def module(**names: Any) -> ModuleType:
    made = ModuleType("made")
    vars(made).update(names)
    return made


@pytest.mark.parametrize(
    ("made", "fault"),
    [
        (module(__all__=["b", "A"], A=1, b=2), "__all__ is not in alphabetical order"),
        (module(__all__=["a", "a"], a=1), "__all__ names something twice"),
        (module(__all__=["a"], a=1, b=2), "b is there, but not in __all__"),
        (module(__all__=["a"]), "a is in __all__, but not there"),
        (module(a=1), "a is there, but not in __all__"),
    ],
)
def test_a_wrong_list_is_found(made: ModuleType, fault: str) -> None:
    assert list(faults_of_list(made)) == [fault]


def test_a_right_list_is_left_alone() -> None:
    assert list(faults_of_list(module(__all__=["Actor", "END", "run"], Actor=1, END=2, run=3, _x=4, sub=ast))) == []


@pytest.mark.parametrize("source", ["import a", '"""Doc."""\nx = 1', '"""Doc."""\ndef f(): ...', '"""Two\nlines."""'])
def test_an_init_with_more_in_it_is_found(source: str) -> None:
    assert len(list(statements_out_of_place(source))) == 1


def test_what_lacks_documentation_or_annotations_is_found() -> None:
    class Bare:
        def method(self, x):  # type: ignore[no-untyped-def]
            return x

        @property
        def size(self):  # type: ignore[no-untyped-def]
            """Documented."""

        @staticmethod
        def make(x) -> None:  # type: ignore[no-untyped-def]
            """Documented."""

        def _private(self, x):  # type: ignore[no-untyped-def]
            return x

    def bare(x: int):  # type: ignore[no-untyped-def]
        return x

    assert list(faults_of("Bare", Bare)) == [
        "Bare has no docstring",
        "Bare.method has no docstring",
        "Bare.method has no annotation for 'x'",
        "Bare.method has no annotation for its result",
        "Bare.size has no annotation for its result",
        "Bare.make has no annotation for 'x'",
    ]
    assert list(faults_of("bare", bare)) == ["bare has no docstring", "bare has no annotation for its result"]


def test_what_is_documented_and_annotated_is_left_alone() -> None:
    class Base:
        """Documented."""

        def method(self, x: int) -> int:
            """Documented."""
            return x

    class Full(Base):
        """Documented."""

        def method(self, x: int) -> int:  # documented by its base
            return x

        @classmethod
        def make(cls, *names: str) -> "Full":
            """Documented."""
            return cls()

    assert list(faults_of("Full", Full)) == []


def test_a_heavy_import_is_found() -> None:
    assert "trio" in loaded_by("import trio")
