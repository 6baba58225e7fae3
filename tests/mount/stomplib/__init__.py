"""What the tests through the kernel stand on: a mounted workspace and its writers."""

from .workspace import Workspace, find_build
from .writer import Writer, WriterDied, WriterHung

__all__ = ["Workspace", "Writer", "WriterDied", "WriterHung", "find_build"]
