"""HTML and Markdown pages, built from runs and figures."""
