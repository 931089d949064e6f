"""Running a node of a graph through which files travel: its files before, its function, then the files that it made.

What a node made is kept before its answer goes to the scheduler, within its attempt: so the journal never names
contents that are not there, and a disk that is full is a failure of the attempt like any other.

An ephemeral file is in memory only. If it is gone after a crash, the function that made it is called again, on what it
was given then, when somebody asks for the file; where that could not be done, it is refused when it is made.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import attrs

from .bodies import Body, step
from .carried import FILE, NUMBER, ORIGIN, RECIPE, ROLE, Carried, carried
from .errors import EphemeralRefused, FileMismatch, FileMissing
from .file import File
from .filestate import Produced
from .filetyping import told
from .nodespec import NodeSpec
from .plan import PlanNode
from .resolving import Resolver, Task, offer_of
from .tokens import Activation
from .values import Goto, Replace

Keep = Callable[[File], Awaitable[File]]

MOST_RECIPES: Final = 20
"""How many activations one file may need to be made again: what each was given is kept with it, in every record."""


class FileBody:
    """Runs a node's function for one attempt, with files; see `Body`.

    `make` gives the body that runs a function as this node's would be; `of` gives that of another node of its graph.
    """

    __slots__ = ("_function", "_is_map", "_make", "_of", "_spec")

    def __init__(
        self,
        function: Callable[..., Any],
        spec: NodeSpec,
        is_map: bool,
        make: Callable[[Callable[..., Any]], Body],
        of: Callable[[PlanNode], Body],
    ) -> None:
        self._function = function
        self._spec = spec
        self._is_map = is_map
        self._make = make
        self._of = of

    def begin(self, activation: Activation) -> Any:
        """Start it on one."""
        return step(activation.run.tree.owner.variables.copy(), self._run(activation))

    def begin_batch(self, activations: Sequence[Activation]) -> Any:
        """Start it on several, none of which is given files."""
        return step(activations[0].run.tree.owner.variables.copy(), self._run_batch(activations))

    async def _run(self, activation: Activation) -> Any:
        task, resolver = self._task(activation), _resolver_of(activation)
        function = self._function
        if self._spec.takes and not self._is_map:
            offers = [offer_of(one) for one in await self._there(activation, carried(activation.values))]
            given = await resolver.gather_inputs(task, offers)
            function = functools.partial(function, **given)
        returned = await _finished(self._make(function).begin(activation))
        return await self._taken(activation, task, returned)

    async def _run_batch(self, activations: Sequence[Activation]) -> Any:
        returned = await _finished(self._make(self._function).begin_batch(activations))
        if not isinstance(returned, list) or len(returned) != len(activations):
            return returned  # which says so itself
        both = zip(activations, returned, strict=True)
        return [await self._taken(activation, self._task(activation), one) for activation, one in both]

    def _task(self, activation: Activation) -> Task:
        spec = self._spec
        return Task(
            run_id=activation.run.root.id,
            graph=activation.run.plan.name,
            node=activation.name,
            activation=activation.number,
            token=activation.token,
            takes=spec.takes,
            makes=spec.makes,
        )

    async def _taken(self, activation: Activation, task: Task, returned: Any) -> Any:
        """What was returned, with all files in it kept."""
        if isinstance(returned, Exception):
            return returned  # of one of a batch
        if isinstance(returned, Goto):
            return attrs.evolve(returned, update=await self._taken(activation, task, returned.update))
        resolver = _resolver_of(activation)

        async def keep(file: File) -> File:
            if file.ephemeral:
                self._check_ephemeral(activation, file)
            return await resolver.save_output(task, file)

        async def keep_value(file: File) -> File:
            if file.ephemeral and _is_durable(activation):
                raise EphemeralRefused(
                    f"node {task.node!r} put the ephemeral file {file.name!r} into the state, which a run that is kept "
                    f"would need after a crash; return it as a file of its own, or make it without ephemeral=True"
                )
            return await resolver.save_output(task, file)

        if self._is_map:
            return await kept_inside(returned, keep_value)
        update, found = split(task.node, self._spec, returned)
        update = await kept_inside(update, keep_value)
        if found is None:
            return Produced(update, () if self._spec.makes else None)
        made: list[Carried] = []
        recipe: tuple[Any, ...] = (dict(activation.values),) if _is_durable(activation) else ()
        for number, (role, file) in enumerate(found):
            told(task.node, self._spec.makes, role, file)
            saved = await keep(file)
            entry: Carried = (role, activation.id, number, saved)
            if saved.ephemeral:
                # The first of them says it for all: they travel together.
                entry, recipe = (*entry, *recipe), ()
            made.append(entry)
        return Produced(update, tuple(made))

    def _check_ephemeral(self, activation: Activation, file: File) -> None:
        if not _is_durable(activation):
            return
        why = ""
        if self._spec.effect:
            why = "it is marked effect=True, so nobody may run it again to make the file anew"
        elif activation.run.parent is not None:
            why = "it is inside of a subgraph, where it cannot be run again by itself"
        elif (others := _recipes(activation.values)) > MOST_RECIPES:
            raise EphemeralRefused(
                f"node {activation.name!r} made the ephemeral file {file.name!r} of others that are ephemeral too, and "
                f"those of others: after a crash {others} activations would have to run again for it, at most "
                f"{MOST_RECIPES} may; make some of the files on the way without ephemeral=True"
            )
        if why:
            raise EphemeralRefused(
                f"node {activation.name!r} made the ephemeral file {file.name!r} in a run that is kept, which would "
                f"need it after a crash, and {why}; make the file without ephemeral=True"
            )

    async def _there(self, activation: Activation, there: Sequence[Carried]) -> list[Carried]:
        """The files that were carried here, those made again that were ephemeral and are gone."""
        gone = dict.fromkeys(one[ORIGIN] for one in there if _is_gone(one[FILE]))
        again = {origin: await self._made_again(activation, origin, there) for origin in gone}
        return [_remade(one, again[one[ORIGIN]]) if _is_gone(one[FILE]) else one for one in there]

    async def _made_again(
        self, activation: Activation, origin: str, there: Sequence[Carried]
    ) -> Mapping[int, File] | None:
        """What an activation makes when it is run again, by number; None if that cannot be done."""
        name, _, number = origin.rpartition("#")
        recipe = next((one[RECIPE] for one in there if one[ORIGIN] == origin and len(one) > RECIPE), None)
        node = activation.run.plan.by_name.get(name)
        if recipe is None or node is None or activation.run.parent is not None:
            return None
        again = Activation(activation.run, node, int(number), recipe, None, None, None, (), node.ins[0], 0)
        again.state = node.input.give(again.values)
        returned = await _finished(self._of(node).begin(again))
        if isinstance(returned, Goto):
            returned = returned.update
        found = (returned.files or ()) if isinstance(returned, Produced) else ()
        return {entry[NUMBER]: entry[FILE] for entry in found}


def _is_gone(file: File) -> bool:
    return file.ephemeral and file.contents is None


def _remade(one: Carried, again: Mapping[int, File] | None) -> Carried:
    """A file that is gone, with the contents that it had; raises `FileMissing` if those are others."""
    file: File = one[FILE]
    if again is None:
        raise FileMissing(file.digest, "memory", f"the ephemeral file {file.name!r} cannot be made again")
    made = again.get(one[NUMBER])
    if made is None or made.digest != file.digest:
        what = "none" if made is None else "another"
        why = f"{one[ORIGIN]} was run again to make {file.name!r} anew, and made {what}"
        raise FileMissing(file.digest, "memory", why)
    return (one[ROLE], one[ORIGIN], one[NUMBER], made, *one[RECIPE:])


def _recipes(values: Mapping[str, Any]) -> int:
    """How many activations would have to run again to make what is ephemeral among these values."""
    return sum(1 + _recipes(one[RECIPE]) for one in carried(values) if len(one) > RECIPE)


def split(node: str, spec: NodeSpec, returned: Any) -> tuple[Any, list[tuple[str, File]] | None]:
    """The update, and the files with their roles, of what a node returned: None if it returned none."""
    roles = {one.role for one in spec.makes if one.role}
    found: list[tuple[str, File]] = []
    update: Any = None
    if isinstance(returned, Mapping):
        named = {key: value for key, value in returned.items() if key in roles and _are_files(value)}
        found = [(key, file) for key, value in named.items() for file in _each(value)]
        others = {key: value for key, value in returned.items() if key not in named}
        update = (others or None) if named else returned
    elif _are_files(returned) and (returned or spec.makes):
        found = [("", file) for file in _each(returned)]
    elif isinstance(returned, tuple) and any(_are_files(part) and part for part in returned):
        rest = [part for part in returned if not _are_files(part)]
        found = [("", file) for part in returned if _are_files(part) for file in _each(part)]
        if len(rest) > 1:
            raise FileMismatch(node, f"it returned files and {len(rest)} updates, expected one", [])
        if rest:
            update, more = split(node, spec, rest[0])
            found += more or []
    else:
        return returned, None
    if found and not spec.gives_files:
        there = [f"{file.name} ({file.media_type})" for _, file in found]
        message = f"it made files, and does not say so; declare them: produces={found[0][1].media_type!r}"
        raise FileMismatch(node, message, there)
    return update, found if found or not isinstance(returned, Mapping) else None


def _are_files(value: Any) -> bool:
    if isinstance(value, File):
        return True
    return isinstance(value, list | tuple) and all(isinstance(item, File) for item in value)


def _each(value: Any) -> Iterator[File]:
    return iter((value,)) if isinstance(value, File) else iter(value)


async def kept_inside(value: Any, keep: Keep) -> Any:
    """A value with the files in it kept; the same object if there are none."""
    if isinstance(value, File):
        return await keep(value)
    if not _has_files(value):
        return value
    if isinstance(value, Mapping):
        return {key: await kept_inside(item, keep) for key, item in value.items()}
    if isinstance(value, list | tuple):
        items = [await kept_inside(item, keep) for item in value]
        return items if isinstance(value, list) else tuple(items)
    if isinstance(value, Replace):
        return Replace(await kept_inside(value.value, keep))
    changed = {field.alias: await kept_inside(getattr(value, field.name), keep) for field in _fields(value)}
    return attrs.evolve(value, **changed)


def _has_files(value: Any, depth: int = 0) -> bool:
    kind = type(value)
    if kind is File:
        return True
    if kind in _LEAVES or depth > 20:
        return False
    if isinstance(value, Mapping):
        return any(_has_files(item, depth + 1) for item in value.values())
    if kind is list or kind is tuple:
        return any(_has_files(item, depth + 1) for item in value)
    if kind is Replace:
        return _has_files(value.value, depth + 1)
    return attrs.has(kind) and any(_has_files(getattr(value, field.name), depth + 1) for field in _fields(value))


def _fields(value: Any) -> list[Any]:
    return [field for field in attrs.fields(type(value)) if field.init and hasattr(value, field.name)]


_LEAVES = frozenset({type(None), bool, int, float, str, bytes})


async def _finished(returned: Any) -> Any:
    return await returned if hasattr(returned, "__await__") else returned


def _is_durable(activation: Activation) -> bool:
    return activation.run.tree.pack is not None


def _resolver_of(activation: Activation) -> Resolver:
    found: Resolver = activation.run.tree.owner.resolver
    return found
