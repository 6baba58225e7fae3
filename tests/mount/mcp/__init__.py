"""The MCP file system server as a client of the tests: its package, and how to speak to it."""
