"""`workflow-engine tools`."""

from __future__ import annotations

from typing import Any

import click

from ..tools import Tool, get_tool_registry
from .faults import SUCCESS
from .loading import load_tools
from .setup import Setup, json_option, prepared, tools_option


@click.command()
@tools_option
@json_option
@prepared
def tools(setup: Setup, as_json: bool) -> int:
    """List the tools that definitions may name, with their parameters.

    \b
    Examples:
        workflow-engine tools --tools my_tools
        workflow-engine tools --tools my_package.tools:registry --json | jq '.[].parameters'

    Those of installed packages (entry points `workflow_engine.tools`) are there without --tools.
    """
    load_tools(setup.settings.tools)
    found = get_tool_registry().tools()
    if as_json or not setup.terminal.is_read_by_people:
        setup.terminal.result([tool.to_dict() for tool in found])
    elif found:
        setup.terminal.table(
            ["tool", "parameters", "description"], [[tool.id, _parameters(tool), tool.description] for tool in found]
        )
    if not found:
        setup.terminal.say("there are no tools; name a module that has some: --tools my_tools")
    return SUCCESS


def _parameters(tool: Tool) -> str:
    """As a signature shows them: `column: string, mode="lenient"`."""
    schema = tool.parameters
    required = schema.get("required", ())
    shown = ["state"] if tool.state is not None else []
    for name, of in schema.get("properties", {}).items():
        kind = _kind(of)
        optional = f"={of['default']!r}" if "default" in of else "" if name in required else "?"
        shown.append(f"{name}: {kind}{optional}" if kind else f"{name}{optional}")
    if schema.get("additionalProperties"):
        shown.append("…")
    return ", ".join(shown)


def _kind(schema: Any) -> str:
    if not isinstance(schema, dict):
        return ""
    if "enum" in schema:
        return " | ".join(map(repr, schema["enum"]))
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    kind = schema.get("type", "")
    return " | ".join(map(str, kind)) if isinstance(kind, list) else str(kind)
