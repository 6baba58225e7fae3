"""What the programs among the workloads work on: made once, on the bare disk."""

import io
import json
import tarfile

from systems import run

GIT = ("git", "-c", "user.name=bench", "-c", "user.email=bench@example.org",
       "-c", "init.defaultBranch=main", "-c", "gc.auto=0", "-c", "maintenance.auto=false")
MAKEFILE = """\
objs = $(patsubst %.c,%.o,$(wildcard f*.c) main.c)
CFLAGS = -O1
prog: $(objs)
\t$(CC) -o $@ $(objs)
"""


class Fixtures:
    """source: a git repository of a C program; source.tar; npm: packages to install."""

    def __init__(self, base, sources, others, packages):
        self.base = base
        self.source = base / "source"
        self.tar = base / "source.tar"
        self.npm = base / "npm"
        self.npm_cache = base / "npm-cache"
        self._make_source(sources, others)
        self._make_npm(packages)

    def _make_source(self, sources, others):
        self.source.mkdir()
        for i in range(sources):
            text = "#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n"
            text += "".join(f"int f{i}_{k}(int x)\n{{\n\treturn x * {k} + {i};\n}}\n"
                            for k in range(60))
            (self.source / f"f{i}.c").write_text(text)
        for i in range(others):
            folder = self.source / f"doc{i // 40}"
            folder.mkdir(exist_ok=True)
            (folder / f"{i}.txt").write_text(f"chapter {i}\n" + "word " * (100 + i % 700))
        (self.source / "main.c").write_text("int main(void)\n{\n\treturn 0;\n}\n")
        (self.source / "Makefile").write_text(MAKEFILE)
        (self.source / ".gitignore").write_text("*.o\nprog\n")
        run([*GIT, "init", "-q"], cwd=self.source)
        run([*GIT, "add", "."], cwd=self.source)
        run([*GIT, "commit", "-qm", "all"], cwd=self.source)
        run(["tar", "cf", self.tar, "--exclude=.git", "-C", self.source, "."])

    def _make_npm(self, packages):
        self.npm.mkdir()
        wanted = {}
        for i in range(packages):
            name = f"bench-package-{i}"
            file = self.npm / f"{name}.tgz"
            with tarfile.open(file, "w:gz") as tar:
                def put(path, text):
                    data = text.encode()
                    info = tarfile.TarInfo(f"package/{path}")
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
                put("package.json", json.dumps({"name": name, "version": "1.0.0"}))
                for k in range(40):
                    put(f"lib/m{k}.js", f"exports.n = {k};\n" * (5 + k * 5))
            wanted[name] = f"file:{file}"
        self.project = json.dumps({"name": "bench", "version": "1.0.0",
                                   "dependencies": wanted})
