"""Files that come with Descent: configurations to start from, topologies for Accelerate, small data.

In a checkout the folders beside this file are links to `configs/`, `accelerate_configs/` and `data/`; a wheel holds
the files themselves.
"""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent
"""Where the shipped files are, whether from a checkout or a wheel."""
