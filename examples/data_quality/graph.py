"""The job as a graph: seven stages in a loop, one of them five detectors side by side. data_quality.json is equal."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from engine import Graph, Retry

from . import tools

DEFINITION: Final = Path(__file__).with_name("data_quality.json")

DETECTORS: Final = {
    "find_nulls": tools.detect_nulls,
    "find_invalid_emails": tools.detect_invalid_emails,
    "find_outliers": tools.detect_outliers,
    "find_inconsistencies": tools.detect_inconsistencies,
    "find_duplicates": tools.detect_duplicates,
}


def data_quality() -> Graph:
    """Initialise; profile, detect, generate rules, apply them, evaluate, until it is good enough; report."""
    disk = Retry(attempts=3, delay=0.1, on=OSError)
    graph = Graph("data_quality", state=tools.Job)
    graph.add_node("initialise", tools.load_data, retry=disk)
    graph.add_node("profile", tools.profile_data)
    for name, detector in DETECTORS.items():
        graph.add_node(name, detector)
    graph.add_node("identify", tools.identify_anomalies)
    graph.add_node("generate_rules", tools.generate_rules)
    graph.add_node("apply_rules", tools.apply_rules, retry=disk)
    graph.add_node("evaluate", tools.evaluate_quality)
    graph.add_node("report", tools.write_report, retry=disk)

    detectors = list(DETECTORS)
    graph.add_edge("initialise", "profile").add_edge("profile", detectors).add_edge(detectors, "identify")
    graph.add_edge("identify", "generate_rules").add_edge("generate_rules", "apply_rules")
    graph.add_edge("apply_rules", "evaluate")
    again = "state.quality < state.target and state.iteration < state.limit"
    graph.add_edge("evaluate", "profile", when=again, max_iterations=99)
    graph.add_edge("evaluate", "report", otherwise=True)
    return graph.set_entry_point("initialise")
