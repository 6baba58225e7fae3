"""A headless Chromium, driven through chromedriver's plain WebDriver protocol."""

import base64
import json
import os
import re
import shutil
import subprocess
import urllib.error
import urllib.request

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
MISSING = None if CHROMIUM and DRIVER else "chromium and chromium-driver are not installed (scripts/check report)"
LIMIT_S = 60


class Browser:
    def __init__(self, folder, width=1280, height=900):
        self._driver = subprocess.Popen(
            [DRIVER, "--port=0"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "HOME": str(folder)},
        )
        self._session = None
        try:
            self._url = self._address()
            arguments = [
                "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
                "--no-first-run", "--disable-background-networking",
                "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
                f"--user-data-dir={folder}/profile", f"--window-size={width},{height}",
            ]
            options = {"binary": CHROMIUM, "args": arguments}
            made = self._call("POST", "/session", {"capabilities": {"alwaysMatch": {
                "browserName": "chrome",
                "goog:chromeOptions": options,
                "goog:loggingPrefs": {"browser": "ALL"},
            }}})
            self._session = f"/session/{made['sessionId']}"
        except BaseException:
            self.close()
            raise

    def _address(self):
        for line in self._driver.stdout:
            found = re.search(r"started successfully on port (\d+)", line)
            if found:
                return f"http://127.0.0.1:{found.group(1)}"
        raise AssertionError("chromedriver ended before it listened")

    def _call(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            self._url + path, data, {"Content-Type": "application/json"}, method=method
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=LIMIT_S) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError(error.read().decode()[:2000]) from error

    def open(self, path):
        self._call("POST", self._session + "/url", {"url": path.as_uri()})

    def run(self, script, *args):
        body = {"script": script, "args": list(args)}
        return self._call("POST", self._session + "/execute/sync", body)

    def after_frame(self):
        """Return once the page has drawn what was asked of it so far."""
        body = {"script": "const f = arguments[0]; requestAnimationFrame(() => "
                          "requestAnimationFrame(() => f(1)));", "args": []}
        self._call("POST", self._session + "/execute/async", body)

    def _act(self, *actions, kind="pointer"):
        device = {"type": kind, "id": kind, "actions": list(actions)}
        self._call("POST", self._session + "/actions", {"actions": [device]})
        self.after_frame()

    def move(self, x, y):
        self._act({"type": "pointerMove", "duration": 0, "x": int(x), "y": int(y)})

    def click(self, x, y):
        self._act(
            {"type": "pointerMove", "duration": 0, "x": int(x), "y": int(y)},
            {"type": "pointerDown", "button": 0},
            {"type": "pointerUp", "button": 0},
        )

    def drag(self, x, y, by):
        self._act(
            {"type": "pointerMove", "duration": 0, "x": int(x), "y": int(y)},
            {"type": "pointerDown", "button": 0},
            {"type": "pointerMove", "duration": 20, "x": int(x + by), "y": int(y)},
            {"type": "pointerUp", "button": 0},
        )

    def wheel(self, x, y, by):
        self._act({"type": "scroll", "x": int(x), "y": int(y), "deltaX": 0, "deltaY": by,
                   "duration": 0, "origin": "viewport"}, kind="wheel")

    def press(self, key):
        self._act({"type": "keyDown", "value": key}, {"type": "keyUp", "value": key}, kind="key")

    def prefer(self, scheme):
        """The user prefers "light" or "dark"."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self._call("POST", self._session + "/goog/cdp/execute", {
            "cmd": "Emulation.setEmulatedMedia", "params": {"features": features}})
        self.after_frame()

    def said(self):
        """Lines of the console since the last time; not its advice on how fast tests
        read pixels."""
        lines = self._call("POST", self._session + "/se/log", {"type": "browser"})
        return [line for line in lines if "getImageData" not in line["message"]]

    def screenshot(self, path):
        path.write_bytes(base64.b64decode(self._call("GET", self._session + "/screenshot")))

    def close(self):
        try:
            if self._session:
                self._call("DELETE", self._session)
        finally:
            self._driver.terminate()
            self._driver.wait(LIMIT_S)
            self._driver.stdout.close()
