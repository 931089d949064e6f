"""The ends and options of edges: what is sound goes into the plan, what is not is reported."""

from __future__ import annotations

from typing import Any, Literal

import attrs

from .checks import Loose
from .errors import ConditionInvalid, GraphProblem, pointed
from .faults import name_fault
from .options import edge_option_faults
from .plan import ChoiceDecl, EdgeDecl
from .reading import Reader
from .schema import Hints
from .typecheck import shown
from .values import RESERVED
from .written import Written


class Edges:
    """Judges the edges of one graph as written. `loose` gathers where faulty ones hang."""

    def __init__(self, written: Written, reader: Reader, problems: list[GraphProblem], hint: Hints) -> None:
        self.written = written
        self.hint = hint
        self.reader = reader
        self.problems = problems
        names: list[Any] = [node.name for node in written.nodes]
        self.known = {name for name in names if is_name(name)}
        self._wrong = {name for name in names if isinstance(name, str)} - self.known - RESERVED
        self._ends = [*sorted(self.known), *sorted(RESERVED)]
        self.loose = Loose()

    def problem(self, code: str, where: str, message: str, hint: str = "") -> None:
        self.problems.append(GraphProblem(code, where, message, hint))

    def entries(self) -> tuple[str, ...]:
        entries: list[str] = []
        for name in self.written.entries:
            if self._is_wrong(name):
                self.loose.anywhere = True
            elif name not in self.known:
                hint = self.hint(name, self.known)
                self.problem("unknown_node", str(name), f"the entry point {name!r} is no node", hint)
                self.loose.anywhere = True
            elif name in entries:
                self.problem("duplicate_edge", name, "it is an entry point twice", "name it once")
            else:
                entries.append(name)
        if not self.written.entries:
            first = self.written.nodes[0].name if self.written.nodes else "first"
            hint = f"say graph.set_entry_point({first!r})"
            self.problem("no_entry_point", str(self.written.name), "the graph has no entry point", hint)
        return tuple(entries)

    def edges(self) -> tuple[EdgeDecl | ChoiceDecl, ...]:
        """The edges whose ends exist, faulty options left out."""
        sound: list[EdgeDecl | ChoiceDecl] = []
        plain: set[tuple[str, str]] = set()
        for edge in self.written.edges:
            if isinstance(edge, ChoiceDecl):
                if (choice := self._choice(edge)) is not None:
                    sound.append(choice)
                continue
            if not self._ends_exist(edge):
                continue
            if edge.when is None and not edge.otherwise and edge.on_error is None:
                ends = (edge.source, edge.target)
                if ends in plain:
                    hint = "draw it once, or give each a condition"
                    where = f"{edge.source} -> {edge.target}"
                    self.problem("duplicate_edge", where, "there are two unconditional edges here", hint)
                    continue
                plain.add(ends)
            sound.append(self._sound_edge(edge))
        return tuple(sound)

    def _ends_exist(self, edge: EdgeDecl) -> bool:
        source, target = edge.source, edge.target
        if source in self.known and (target in self.known or target in RESERVED):
            return True
        where = f"{source} -> {target}"
        there = self._source_exists(source, where)
        return self.target_exists(source, target, where) and there

    def _source_exists(self, source: Any, where: str) -> bool:
        if source in self.known:
            return True
        if self._is_wrong(source):
            pass  # said of the node
        elif source in RESERVED:
            hint = "turn the edge round, or leave it out"
            self.problem("edge_from_end", where, f"nothing comes after {source}", hint)
        else:
            self.problem("unknown_node", where, f"there is no node {source!r}", self._name_hint(source))
        self.loose.targets.add(where.rpartition(" -> ")[2])
        return False

    def target_exists(self, source: Any, target: Any, where: str) -> bool:
        if target in self.known or target in RESERVED:
            return True
        if self._is_wrong(target):
            self.loose.sources.add(str(source))
            return False
        hint = self._name_hint(target)
        self.problem("unknown_node", where, f"there is no node {target!r}", hint)
        self.loose.sources.add(str(source))
        if hint.startswith("did you mean"):
            self.loose.targets.update(name for name in self.known if repr(name) in hint)
        return False

    def _is_wrong(self, name: Any) -> bool:
        """Whether it names a node that is left out for its name, which has been said."""
        return isinstance(name, str) and name in self._wrong

    def _name_hint(self, wrong: Any) -> str:
        name = getattr(wrong, "__name__", None)
        if name in self.known:
            return f"give its name, {name!r}"
        return self.hint(wrong, self._ends)

    def _sound_edge(self, edge: EdgeDecl) -> EdgeDecl:
        """The edge without what is wrong with it; nearly always the very same."""
        if (
            edge.when is None
            and edge.on_error is None
            and edge.otherwise is False
            and edge.max_iterations is None
            and edge.on_limit is None
            and edge.capacity is None
        ):
            return edge
        where = f"{edge.source} -> {edge.target}"
        without: dict[str, Any] = {}
        conditions = [n for n in ("when", "otherwise", "on_error") if getattr(edge, n) not in (None, False)]
        if len(conditions) > 1:
            hint = "draw an edge for each"
            self.problem("bad_condition", where, f"it has {' and '.join(conditions)} at once", hint)
            without |= {"otherwise": False, "on_error": None} if edge.when else {"otherwise": False}
        if isinstance(edge.when, str):
            without["when"] = self._compiled("when", edge.when, where)
        elif edge.when is not None and (fault := self.reader.condition_fault(edge.when)):
            hint = "give a plain function of the state, or text: 'state.x < 1'"
            self.problem("bad_condition", where, f"its condition {fault}", hint)
            without["when"] = _always
        for option, fault in edge_option_faults(edge):
            self.problem("bad_option", where, f"{option} {fault}")
            without[option] = Exception if option == "on_error" else False if option == "otherwise" else None
        return attrs.evolve(edge, **without) if without else edge

    def _compiled(self, what: Literal["when", "choose"], text: str, where: str) -> Any:
        """What a condition or router that is text does, or what stands for it."""
        from .conditions import compile_condition, compile_router  # graphs written in Python mostly have functions

        try:
            return (compile_condition if what == "when" else compile_router)(text, self.reader.schema)
        except ConditionInvalid as error:
            for fault in error.faults:
                message = f"column {fault.column}: {fault.message}\n{pointed(error.text, fault.column)}"
                self.problem(fault.code, where, message, fault.hint)
            return _always

    def _choice(self, choice: ChoiceDecl) -> ChoiceDecl | None:
        if not choice.targets:
            hint = "list the nodes that the router may choose"
            where = f"{choice.source} -> ?"
            self.problem("bad_condition", where, f"its router has no targets, found {shown(choice.targets)}", hint)
            return None
        wheres = {target: f"{choice.source} -> {target}" for target in choice.targets.values()}
        first = next(iter(wheres.values()))
        there = self._source_exists(choice.source, first)
        router = choice.router
        if isinstance(router, str):
            router = self._compiled("choose", router, first)
        elif fault := self.reader.condition_fault(router):
            hint = "give a plain function of the state, or text: 'state.x'"
            self.problem("bad_condition", first, f"its router {fault}", hint)
            router = _always
        targets = {
            label: target
            for label, target in choice.targets.items()
            if self.target_exists(choice.source, target, wheres[target])
        }
        return ChoiceDecl(source=choice.source, router=router, targets=targets) if there and targets else None


def is_name(name: Any) -> bool:
    """Whether a node may be called so. `/` and `#` separate the parts of an activation's address: `sub#1/inner#2`."""
    return not name_fault(name) and name not in RESERVED and "/" not in name and "#" not in name


def _always(state: Any) -> bool:
    """Stands for a condition that cannot be used."""
    return True
