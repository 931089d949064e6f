"""Flags, then variables, then workflow.toml; everything that is wrong is told with the place that said so."""

from pathlib import Path
from typing import Any

import pytest

from engine import Sharing
from engine.cli.faults import Refusal
from engine.cli.settings import (
    Settings,
    from_environment,
    from_file,
    from_flags,
    from_table,
    gather,
    unknown_variables,
)


def of(flags: dict[str, Any] | None = None, env: dict[str, str] | None = None, **table: Any) -> Settings:
    return gather([from_flags(flags or {}), from_environment(env or {}), from_table(table, "workflow.toml")])


def refusal(*args: Any, **table: Any) -> str:
    with pytest.raises(Refusal) as refused:
        of(*args, **table)
    return str(refused.value)


def test_nothing_given_means_the_defaults() -> None:
    assert of() == Settings(store="sqlite:///runs.db", backend="asyncio", log_level="warning")


def test_flags_come_before_variables_and_variables_before_the_file() -> None:
    flags, env = {"max_runs": 1}, {"WORKFLOW_MAX_RUNS": "2", "WORKFLOW_MAX_QUEUED": "3"}

    found = of(flags, env, max_runs=4, max_queued=5, threads=6)

    assert (found.max_runs, found.max_queued, found.threads) == (1, 3, 6)
    assert found.origins == {
        "max_runs": "--max-runs",
        "max_queued": "WORKFLOW_MAX_QUEUED",
        "threads": "threads in workflow.toml",
    }


def test_flags_that_were_not_given_decide_nothing() -> None:
    assert of({"store": None, "graphs": ()}, {"WORKFLOW_GRAPHS": "a.py:b, c"}).graphs == ("a.py:b", "c")


def test_empty_variables_are_not_there() -> None:
    assert of(None, {"WORKFLOW_MAX_RUNS": ""}).max_runs is None


def test_all_that_is_wrong_is_told_with_its_place() -> None:
    said = refusal({"backend": "trioo"}, {"WORKFLOW_MAX_RUNS": "ten"}, prune="perhaps", thread=3)

    assert "--backend must be asyncio or trio; did you mean 'trio'?, found 'trioo'" in said
    assert "WORKFLOW_MAX_RUNS must be a whole number of at least 1, found 'ten'" in said
    assert "prune in workflow.toml must be true or false, found 'perhaps'" in said
    assert "workflow.toml: there is no setting 'thread'; did you mean 'threads'?" in said


@pytest.mark.parametrize("value", [0, -1, True, 1.5, "2.5", "-2"])
def test_a_count_is_a_whole_number_of_at_least_one(value: Any) -> None:
    assert "max_runs in workflow.toml must be a whole number" in refusal(max_runs=value)


@pytest.mark.parametrize(("value", "read"), [("true", True), ("0", False), (False, False)])
def test_a_switch_is_read_from_text_too(value: Any, read: bool) -> None:
    assert of(prune=value).prune is read


def test_how_a_store_is_shared_is_settled_by_its_own_settings() -> None:
    shared = of(store="postgresql://host/db", shared=True, lease=30, takeovers=7).sharing

    assert isinstance(shared, Sharing)
    assert (shared.lease, shared.renew, shared.takeovers) == (30, 10, 7)


@pytest.mark.parametrize(
    ("value", "store"), [("memory:", "memory:"), ("memory", "memory:"), ("memory://", "memory://")]
)
def test_a_store_may_be_none(value: str, store: str) -> None:
    assert of({"store": value}).store == store
    assert of({"store": value}).in_memory == (store == "memory:")


def test_a_store_that_is_a_file_name_is_refused_with_what_was_meant() -> None:
    assert "did you mean 'sqlite:///runs.db'?" in refusal({"store": "runs.db"})


def test_passwords_are_shown_nowhere() -> None:
    secret = "postgresql://me:hush@host/db?sslpassword=hush"

    assert "hush" not in repr(of(store=secret))
    assert "hush" not in refusal({"store": secret.replace("://", ":/")})
    assert "hush" not in refusal(store=[secret])


def test_unknown_variables_are_told_with_what_was_meant() -> None:
    env = {"WORKFLOW_MAX_RUN": "1", "WORKFLOW_STORE": "memory:", "PATH": "x"}

    assert list(unknown_variables(env)) == ["WORKFLOW_MAX_RUN is no setting; did you mean 'WORKFLOW_MAX_RUNS'?"]


def test_a_file_is_looked_for_in_the_working_directory(folder: Path) -> None:
    (folder / "workflow.toml").write_text('store = "memory:"\ngraphs = ["flows.py:a"]\n')

    found = gather([from_file(None)])

    assert (found.store, found.graphs) == ("memory:", ("flows.py:a",))


def test_no_file_is_fine_unless_it_was_asked_for(folder: Path) -> None:
    assert gather([from_file(None)]) == Settings()
    with pytest.raises(Refusal, match=r"--config: there is no file 'other\.toml'"):
        from_file("other.toml")


def test_a_file_that_is_no_toml_is_told_with_its_place(folder: Path) -> None:
    (folder / "workflow.toml").write_text("store = memory:\n")

    with pytest.raises(Refusal, match=r"workflow\.toml is not TOML: .*line 1, column 9"):
        from_file(None)


def test_numbers_that_are_too_long_are_refused_in_our_words(folder: Path) -> None:
    digits = "9" * 5000

    told = refusal(env={"WORKFLOW_MAX_RUNS": digits})
    assert told.startswith("WORKFLOW_MAX_RUNS must be a whole number of at least 1, found '999")
    assert len(told) < 250
    for text, said in ((f"max_runs = {digits}", "a number has too many digits"), ("x = " + "[" * 100_000, "too deep")):
        (folder / "workflow.toml").write_text(text)
        with pytest.raises(Refusal, match=said):
            from_file(None)


def test_each_engine_leaves_other_runs_alone() -> None:
    assert of(threads=3).for_engine.threads == 3
    assert not of().for_engine.recover
