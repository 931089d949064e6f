"""What `workflow-engine serve` is pointed at: `examples.approval.served:graphs`."""

from __future__ import annotations

import os
from pathlib import Path

from .flow import expenses

paid = Path(os.environ.get("APPROVAL_PAID", "paid.txt"))
graphs = [expenses(paid), expenses(paid, "taxis", patience=6.0)]
"""Whoever wants a taxi paid is told within seconds."""
