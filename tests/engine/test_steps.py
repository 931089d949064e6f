"""The short form: steps one after the other, each sequential or parallel."""

from typing import Any

import pytest

from engine.errors import GraphInvalid
from engine.graph import Graph
from engine.plan import JOIN_ALL
from engine.retry import Retry


def task(state: Any, x: int = 0) -> None: ...


TASKS = {f"task_{letter}": task for letter in "abcdefg"}
SAMPLE = {
    "name": "sample",
    "steps": [
        {"execution_type": "sequential", "tasks": [{"name": "task_a", "params": {"x": 1}}, {"name": "task_b"}]},
        {"execution_type": "parallel", "tasks": [{"name": "task_c"}, {"name": "task_d"}]},
    ],
}


def steps(*steps: Any, **more: Any) -> dict[str, Any]:
    """The short form of (kind, tasks) pairs, tasks by their letters."""
    return {
        "name": "s",
        **more,
        "steps": [{"execution_type": k, "tasks": [{"name": f"task_{t}"} for t in tasks]} for k, tasks in steps],
    }


def edges(graph: Graph) -> set[str]:
    return {edge.name.replace("task_", "") for edge in graph.compile(TASKS).edges}


def test_the_sample_of_the_public_face_means_its_graph() -> None:
    graph = Graph.from_steps(SAMPLE, TASKS)

    assert graph.name == "sample"
    assert edges(graph) == {"START -> a", "a -> b", "b -> c", "b -> d"}
    assert graph.compile().by_name["task_a"].decl.options.params == {"x": 1}


def test_what_comes_after_a_parallel_step_joins_it() -> None:
    graph = Graph.from_steps(steps(("sequential", "a"), ("parallel", "bc"), ("sequential", "d")), TASKS)

    assert edges(graph) == {"START -> a", "a -> b", "a -> c", "b -> d", "c -> d"}
    assert graph.compile().by_name["task_d"].join == JOIN_ALL


def test_two_parallel_steps_join_everything_with_everything() -> None:
    graph = Graph.from_steps(steps(("parallel", "ab"), ("parallel", "cd")), TASKS)

    assert edges(graph) == {"START -> a", "START -> b", "a -> c", "a -> d", "b -> c", "b -> d"}


def test_steps_are_sequential_if_they_do_not_say() -> None:
    graph = Graph.from_steps({"name": "s", "steps": [{"tasks": [{"name": "task_a"}, {"name": "task_b"}]}]}, TASKS)

    assert edges(graph) == {"START -> a", "a -> b"}


def test_a_task_may_be_done_several_times() -> None:
    graph = Graph.from_steps(steps(("sequential", "ab"), ("sequential", "aa")), TASKS)

    assert [n.name for n in graph.compile().nodes] == ["task_a", "task_b", "task_a_2", "task_a_3"]


def test_a_task_may_have_the_options_of_a_node() -> None:
    data = {
        "name": "s",
        "steps": [{"tasks": [{"name": "n", "tool": "task_a", "timeout": 3, "retry": {"attempts": 5}}]}],
    }

    node = Graph.from_steps(data, TASKS).compile().by_name["n"]

    assert (node.timeout, node.retry) == (3, (Retry(attempts=5),))


def test_without_functions_tasks_are_tools() -> None:
    graph = Graph.from_steps(SAMPLE)

    assert {p.code for p in graph.validate()} == {"unknown_tool"}
    assert graph.validate(TASKS) == []


def test_settings_of_the_graph_may_be_given_beside() -> None:
    graph = Graph.from_steps(steps(("sequential", "a"), version="3"), TASKS, on_failure="continue")

    assert (graph.version, graph.compile().continue_on_failure) == ("3", True)


def test_every_fault_is_told_at_once_at_its_pointer() -> None:
    data = {
        "name": "s",
        "steps": [
            {"execution_type": "serial", "tasks": [{"name": "task_x"}]},
            {"execution_type": "parallel", "tasks": []},
            {"tasks": [{"name": ""}, {"name": "task_a", "tool": 5}, {"nam": "task_a"}, "task_a"]},
            {"task": []},
            {"tasks": [{"name": "task_b", "retry": {"attempt": 3}}]},
        ],
    }

    with pytest.raises(GraphInvalid) as caught:
        Graph.from_steps(data, TASKS)

    assert [(p.code, p.where) for p in caught.value.problems] == [
        ("bad_option", "/steps/0/execution_type"),
        ("unknown_tool", "/steps/0/tasks/0"),
        ("bad_option", "/steps/1/tasks"),
        ("bad_option", "/steps/2/tasks/0/name"),
        ("bad_option", "/steps/2/tasks/1/tool"),
        ("bad_option", "/steps/2/tasks/2/nam"),
        ("bad_option", "/steps/2/tasks/3"),
        ("bad_option", "/steps/3/task"),
        ("bad_option", "/steps/4/tasks/0/retry/attempt"),
    ]


@pytest.mark.parametrize("data", [None, [], {"name": "s"}, {"name": "s", "steps": []}, {"name": "s", "steps": {}}])
def test_what_is_no_short_form_is_refused(data: Any) -> None:
    with pytest.raises(GraphInvalid):
        Graph.from_steps(data, TASKS)


def test_an_unknown_task_gets_a_hint() -> None:
    with pytest.raises(GraphInvalid) as caught:
        Graph.from_steps({"name": "s", "steps": [{"tasks": [{"name": "taska"}]}]}, {"task_a": task})

    assert caught.value.problems[0].hint == "did you mean 'task_a'?"
