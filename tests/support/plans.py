"""Ask the server how it answers a statement."""

import json
from typing import Any


async def rows_touched(connection: Any, statement: str, *arguments: Any) -> tuple[float, set[str]]:
    """Run a statement and undo it; return how many rows its scans read, and the tables it read from end to end."""
    undone = connection.transaction()
    await undone.start()
    try:
        text = await connection.fetchval(f"explain (analyze, timing off, format json)\n{statement}", *arguments)
    finally:
        await undone.rollback()
    touched, sequential = 0.0, set()

    def walk(node: dict[str, Any]) -> None:
        nonlocal touched
        if "Relation Name" in node and node["Actual Loops"]:
            touched += (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
            if node["Node Type"] == "Seq Scan":
                sequential.add(node["Relation Name"])
        for child in node.get("Plans", []):
            walk(child)

    walk(json.loads(text)[0]["Plan"])
    return touched, sequential
