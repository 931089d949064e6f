"""What data from outside may look like: shapes that find every fault, and that write themselves down as JSON Schema.

One description serves both. So what the published schema says is what is read, and every fault is told at its JSON
pointer, with a hint, whatever else is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

import attrs

from .errors import GraphProblem
from .faults import is_finite
from .schema import Hints
from .typecheck import shown

FAULTY: Final[Any] = attrs.NOTHING
"""What reading gives where nothing can be used."""


LARGEST: Final = 2**53
"""Of integers up to here no reader of JSON loses a digit; and of anything that is counted there are fewer."""
MOST_PROBLEMS: Final = 500
"""More are counted, not listed: they come from a program, not from a slip."""
TOO_MANY: Final = "a definition this large is better made in Python"


class Faults:
    """Gathers what is wrong."""

    def __init__(self) -> None:
        self.problems: list[GraphProblem] = []
        self.hint = Hints()

    def add(self, at: str, message: str, hint: str = "", code: str = "bad_option") -> Any:
        self.problems.append(GraphProblem(code, at or "/", message, hint))
        return FAULTY

    def told(self, data: Any) -> list[GraphProblem]:
        """Each problem once, in the order in which the data is read; of very many the first."""
        once = list(dict.fromkeys(self.problems))
        told = sorted(once[:MOST_PROBLEMS], key=lambda problem: _position(data, problem.where))
        if len(once) > MOST_PROBLEMS:
            more = f"there are {len(once) - MOST_PROBLEMS:,} more problems"
            told.append(GraphProblem("bad_definition", "/", more))
        return told


def _position(data: Any, pointer: str) -> tuple[int, ...]:
    """Where a place stands in its definition, to tell faults in the order in which they are read."""
    position = []
    for part in pointer.split("/")[1:]:
        part = part.replace("~1", "/").replace("~0", "~")
        if isinstance(data, Mapping) and part in data:
            position.append(list(data).index(part))
            data = data[part]
        elif isinstance(data, list | tuple) and part.isdigit() and int(part) < len(data):
            position.append(int(part))
            data = data[int(part)]
        else:
            break
    return tuple(position)


class Shape(Protocol):
    """How a value may look."""

    def read(self, value: Any, at: str, faults: Faults) -> Any:
        """The value, or what is sound of it, or `FAULTY`; `at` is its JSON pointer."""

    def schema(self) -> dict[str, Any]:
        """The same as JSON Schema."""


def below(at: str, part: str | int) -> str:
    """The JSON pointer of something inside."""
    return f"{at}/{str(part).replace('~', '~0').replace('/', '~1')}"


@attrs.frozen
class Anything:
    """Any JSON."""

    def read(self, value: Any, at: str, faults: Faults) -> Any:
        return value

    def schema(self) -> dict[str, Any]:
        return {}


@attrs.frozen
class Text:
    """A string that is not empty, unless that means something too."""

    may_be_empty: bool = False

    def read(self, value: Any, at: str, faults: Faults) -> Any:
        if isinstance(value, str) and (value or self.may_be_empty):
            return value
        return faults.add(at, f"expected text, found {shown(value)}")

    def schema(self) -> dict[str, Any]:
        return {"type": "string"} if self.may_be_empty else {"type": "string", "minLength": 1}


@attrs.frozen
class Number:
    """A number above 0 or from a least one on, whole if asked; 3.0 is whole, as in JSON Schema."""

    whole: bool = False
    least: int | None = None

    def read(self, value: Any, at: str, faults: Faults) -> Any:
        fits = isinstance(value, int | float) and not isinstance(value, bool) and is_finite(value)
        if fits and (value > 0 if self.least is None else value >= self.least) and value <= LARGEST:
            if not self.whole:
                return value
            if isinstance(value, int) or value.is_integer():
                return int(value)
        wanted = "above 0" if self.least is None else f"of at least {self.least}"
        return faults.add(at, f"expected a {'whole ' if self.whole else ''}number {wanted}, found {shown(value)}")

    def schema(self) -> dict[str, Any]:
        bound = {"exclusiveMinimum": 0} if self.least is None else {"minimum": self.least}
        return {"type": "integer" if self.whole else "number", **bound, "maximum": LARGEST}


@attrs.frozen
class Flag:
    """True or false."""

    def read(self, value: Any, at: str, faults: Faults) -> Any:
        return value if isinstance(value, bool) else faults.add(at, f"expected true or false, found {shown(value)}")

    def schema(self) -> dict[str, Any]:
        return {"type": "boolean"}


@attrs.frozen
class Null:
    """Nothing, said on purpose."""

    def read(self, value: Any, at: str, faults: Faults) -> Any:
        return None if value is None else faults.add(at, f"expected null, found {shown(value)}")

    def schema(self) -> dict[str, Any]:
        return {"type": "null"}


@attrs.frozen
class OneOf:
    """One of some words."""

    words: Sequence[str]

    def read(self, value: Any, at: str, faults: Faults) -> Any:
        if isinstance(value, str) and value in self.words:
            return value
        known = ", ".join(map(repr, self.words))
        hint = faults.hint(value, self.words) if isinstance(value, str) and len(self.words) > 8 else ""
        if len(self.words) > 8:
            return faults.add(at, f"there is nothing called {shown(value)}", hint or f"known are {known}")
        return faults.add(at, f"expected one of {known}, found {shown(value)}", hint)

    def schema(self) -> dict[str, Any]:
        return {"enum": list(self.words)}


@attrs.frozen
class ListOf:
    """A list, each item of one shape. With a faulty item it is faulty, unless what is sound of it says something."""

    item: Shape
    least: int = 0
    most: int | None = None
    partly: bool = False

    def read(self, value: Any, at: str, faults: Faults) -> Any:
        if not isinstance(value, list | tuple):
            return faults.add(at, f"expected a list, found {shown(value)}")
        if len(value) < self.least:
            return faults.add(at, "expected a list that is not empty")
        if self.most is not None and len(value) > self.most:
            return faults.add(at, f"there are {len(value):,} here, and at most {self.most:,} are read", TOO_MANY)
        found = [self.item.read(item, below(at, index), faults) for index, item in enumerate(value)]
        sound = [item for item in found if item is not FAULTY]
        return sound if self.partly or len(sound) == len(found) else FAULTY

    def schema(self) -> dict[str, Any]:
        least = {"minItems": self.least} if self.least else {}
        most = {} if self.most is None else {"maxItems": self.most}
        return {"type": "array", "items": self.item.schema(), **least, **most}


@attrs.frozen
class MapOf:
    """An object with any keys, each value of one shape. With a faulty value it is faulty, unless `partly`."""

    value: Shape
    least: int = 0
    most: int | None = None
    partly: bool = False

    def read(self, value: Any, at: str, faults: Faults) -> Any:
        if not isinstance(value, Mapping):
            return faults.add(at, f"expected an object, found {shown(value)}")
        if len(value) < self.least:
            return faults.add(at, "expected an object that is not empty")
        if self.most is not None and len(value) > self.most:
            return faults.add(at, f"there are {len(value):,} here, and at most {self.most:,} are read", TOO_MANY)
        found = {key: self.value.read(item, below(at, key), faults) for key, item in value.items()}
        sound = {key: item for key, item in found.items() if item is not FAULTY}
        return sound if self.partly or len(sound) == len(found) else FAULTY

    def schema(self) -> dict[str, Any]:
        least = {"minProperties": self.least} if self.least else {}
        most = {} if self.most is None else {"maxProperties": self.most}
        return {"type": "object", "additionalProperties": self.value.schema(), **least, **most}


class Found(dict[str, Any]):
    """What is sound of an object, where it stood, and the keys whose values are not sound."""

    def __init__(self, found: Mapping[str, Any], at: str) -> None:
        super().__init__((key, value) for key, value in found.items() if value is not FAULTY)
        self.at = at
        self.faulty = found.keys() - self.keys()


@attrs.frozen
class Record:
    """An object with these keys and no others; read as `Found`."""

    title: str
    keys: Mapping[str, Shape]
    required: Sequence[str] = ()

    def read(self, value: Any, at: str, faults: Faults) -> Any:
        if not isinstance(value, Mapping):
            return faults.add(at, f"expected an object ({self.title}), found {shown(value)}")
        meant = ""
        for key in value:
            if key not in self.keys:
                hint = faults.hint(key, self.keys) or f"known are {', '.join(map(repr, self.keys))}"
                meant += hint if hint.startswith("did you mean") else ""
                faults.add(below(at, key), f"{self.title} has nothing called {key!r}", hint)
        found = {
            key: shape.read(value[key], below(at, key), faults) for key, shape in self.keys.items() if key in value
        }
        for key in self.required:
            if key not in value and repr(key) not in meant:
                faults.add(at, f"{self.title} needs {key!r}", f"add {key!r}")
        return Found(found, at)

    def schema(self) -> dict[str, Any]:
        return {
            "type": "object",
            "properties": {key: shape.schema() for key, shape in self.keys.items()},
            **({"required": list(self.required)} if self.required else {}),
            "additionalProperties": False,
        }


@attrs.frozen
class Cases:
    """One of several records: the first of those that a key is the mark of, or the one without a mark."""

    marked: Sequence[tuple[Sequence[str], Shape]]
    otherwise: Record

    def read(self, value: Any, at: str, faults: Faults) -> Any:
        return self._case(value).read(value, at, faults)

    def _case(self, value: Any) -> Shape:
        if isinstance(value, Mapping):
            for marks, shape in self.marked:
                if any(mark in value for mark in marks):
                    return shape
        return self.otherwise

    def schema(self) -> dict[str, Any]:
        found = self.otherwise.schema()
        for marks, shape in reversed(self.marked):
            condition = {"anyOf": [{"required": [mark]} for mark in marks]}
            # What is no object has no keys, and is none of these.
            found = {"type": "object", "if": condition, "then": shape.schema(), "else": found}
        return found


@attrs.frozen
class Either:
    """One of several shapes, told apart by the JSON type that each begins with."""

    shapes: Sequence[Shape]

    def read(self, value: Any, at: str, faults: Faults) -> Any:
        fitting = [shape for shape in self.shapes if _begins_as(shape, value)]
        if len(fitting) == 1:
            return fitting[0].read(value, at, faults)
        for shape in fitting:
            trial = Faults()
            if (found := shape.read(value, at, trial)) is not FAULTY and not trial.problems:
                return found
        if fitting:
            return fitting[-1].read(value, at, faults)
        wanted = " or ".join(dict.fromkeys(_begins(shape) for shape in self.shapes))
        return faults.add(at, f"expected {wanted}, found {shown(value)}")

    def schema(self) -> dict[str, Any]:
        return {"anyOf": [shape.schema() for shape in self.shapes]}


@attrs.frozen
class Named:
    """A shape that is written once in the schema and named wherever it is used, so it may contain itself."""

    name: str
    find: Callable[[], Shape]

    def read(self, value: Any, at: str, faults: Faults) -> Any:
        return self.find().read(value, at, faults)

    def schema(self) -> dict[str, Any]:
        return {"$ref": f"#/$defs/{self.name}"}


def _begins(shape: Shape) -> str:
    """What a shape's values are in JSON, in words."""
    match shape:
        case Named():
            return _begins(shape.find())
        case Text():
            return "text"
        case OneOf():
            return " or ".join(map(repr, shape.words)) if len(shape.words) <= 8 else "a known word"
        case Number():
            return "a number"
        case Flag():
            return "true or false"
        case Null():
            return "null"
        case ListOf():
            return "a list"
        case _:
            return "an object"


def _begins_as(shape: Shape, value: Any) -> bool:
    match shape:
        case Named():
            return _begins_as(shape.find(), value)
        case Either():
            return any(_begins_as(one, value) for one in shape.shapes)
        case Anything():
            return True
        case Text() | OneOf():
            return isinstance(value, str)
        case Number():
            return isinstance(value, int | float) and not isinstance(value, bool)
        case Flag():
            return isinstance(value, bool)
        case Null():
            return value is None
        case ListOf():
            return isinstance(value, list | tuple)
        case _:
            return isinstance(value, Mapping)
