"""The MCP file system server under an identity, spoken to over its stdin and stdout.

One JSON-RPC message per line. A call that fails for the tool raises ToolError with the
text that the model behind it would read.
"""

import json
import os
import select
import subprocess
import time

from stomplib.writer import clean_environment

from .packages import node_package

SERVER = "@modelcontextprotocol/server-filesystem"
CALL_LIMIT_S = 20


class ToolError(Exception):
    pass


class McpServer:
    """The server's own process is the agent: `stomp run NAME -- node …`."""

    def __init__(self, workspace, name, log, launch=True):
        program = node_package(SERVER) / "dist" / "index.js"
        launcher = [str(workspace.stomp), "run", name, "--"] if launch else []
        self.name, self.workspace = name, workspace
        self._buffer, self._id = b"", 0
        self._process = subprocess.Popen(
            [*launcher, "node", str(program), str(workspace.path)],
            cwd=workspace.scratch,
            env=clean_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
        )

    def initialize(self):
        """After the start, so that several can start at a time."""
        client = {"name": "stompfs-tests", "version": "1"}
        params = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": client}
        answer = self.request("initialize", **params)
        self.send({"method": "notifications/initialized"})
        return answer

    # ------------------------------------------------------------ JSON-RPC

    def send(self, message):
        line = json.dumps({"jsonrpc": "2.0", **message}) + "\n"
        self._process.stdin.write(line.encode())
        self._process.stdin.flush()

    def request(self, method, **params):
        self._id += 1
        self.send({"id": self._id, "method": method, "params": params})
        deadline = time.monotonic() + CALL_LIMIT_S
        while True:
            message = json.loads(self._line(deadline, method))
            if message.get("id") != self._id or "method" in message:
                self._answer_request(message)
                continue
            assert "error" not in message, message
            return message["result"]

    def _answer_request(self, message):
        """The server asks for roots only of clients that have said they know some."""
        if "id" in message and "method" in message:
            error = {"code": -32601, "message": "not here"}
            self.send({"id": message["id"], "error": error})

    def _line(self, deadline, method):
        out = self._process.stdout.fileno()
        while b"\n" not in self._buffer:
            left = deadline - time.monotonic()
            assert left > 0 and select.select([out], [], [], left)[0], f"{method} hangs"
            piece = os.read(out, 1 << 16)
            assert piece, f"the server ended in {method}"
            self._buffer += piece
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    # ------------------------------------------------------------ tools

    def call(self, tool, **arguments):
        """The text of the answer."""
        result = self.request("tools/call", name=tool, arguments=arguments)
        text = "\n".join(c["text"] for c in result["content"] if c["type"] == "text")
        if result.get("isError"):
            raise ToolError(text)
        return text

    def path(self, name):
        return str(self.workspace / name)

    def read(self, name):
        return self.call("read_text_file", path=self.path(name))

    def write(self, name, content):
        return self.call("write_file", path=self.path(name), content=content)

    def edit(self, name, find, put):
        edits = [{"oldText": find, "newText": put}]
        return self.call("edit_file", path=self.path(name), edits=edits)

    def move(self, name, to):
        return self.call("move_file", source=self.path(name), destination=self.path(to))

    def stop(self):
        """The end of its input ends it."""
        self._process.stdin.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(timeout=10)
        self._process.stdout.close()
