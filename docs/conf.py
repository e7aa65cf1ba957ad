"""Sphinx: how `make docs` builds the documentation."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

project = "genreclf"
author = "The genreclf authors"
copyright = "2026, The genreclf authors"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "generate"]
root_doc = "index"
exclude_patterns = ["examples/*/README.md"]  # howto/own_parts shows the files
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_member_order = "bysource"
autodoc_mock_imports = ["wandb_workspaces"]
smartquotes = False  # would change -- in commands
html_theme = "furo"
html_title = "genreclf"
html_copy_source = False
