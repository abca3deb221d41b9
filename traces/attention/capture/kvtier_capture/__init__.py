"""Records the attention of a causal language model into a `kvtier.attention/1` file (see README.md)."""

VERSION = "0.1.0"
TOOL = f"kvtier-capture {VERSION}"
