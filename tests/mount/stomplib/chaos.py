"""Random changes of a tree by several writers, and telling what a tree holds."""

import os
import random
import stat

from stomplib.calls import RENAME_EXCHANGE


def tell(root):
    """Everything below a folder: type, mode, target or content, by relative path."""
    found = {}
    for folder, folders, files in os.walk(root):
        for name in folders + files:
            path = os.path.join(folder, name)
            st = os.lstat(path)
            kind = stat.S_IFMT(st.st_mode)
            if stat.S_ISLNK(st.st_mode):
                what = os.readlink(path)
            elif stat.S_ISREG(st.st_mode):
                with open(path, "rb") as f:
                    what = (f.read(), st.st_size)
            else:
                what = None
            mode = None if stat.S_ISLNK(st.st_mode) else stat.S_IMODE(st.st_mode)
            found[os.path.relpath(path, root)] = (kind, mode, what)
    return found


class Chaos:
    """Random changes by two writers; a refusal or a clash of names is part of it."""

    def __init__(self, workspace, writers, seed):
        self.workspace, self.writers = workspace, writers
        self.random = random.Random(seed)

    def paths(self, folders):
        found = ["."] if folders else []
        for folder, names, files in os.walk(self.workspace.path):
            for name in names if folders else files:
                found.append(os.path.relpath(os.path.join(folder, name), self.workspace.path))
        return sorted(found)

    def folder(self):
        return self.random.choice(self.paths(True))

    def new_name(self):
        name = self.random.choice(["a", "b", "c", "d", "e.txt", "f\n", "g\udcff"])
        return os.path.normpath(os.path.join(self.folder(), name))

    def data(self):
        lines = self.random.randint(0, 30)
        return b"".join(b"%d\n" % self.random.randint(0, 99) for _ in range(lines))

    def step(self):
        w, r = self.random.choice(self.writers), self.random
        files = self.paths(False) or ["a"]
        name = r.choice(files)
        steps = [
            (8, lambda: w.writefile(name, self.data())),
            (6, lambda: w.writefile(self.new_name(), self.data())),
            (4, lambda: w.append(name, self.data())),
            (2, lambda: w.truncate(name, r.randint(0, 20))),
            (5, lambda: w.save_by_rename(name, self.data())),
            (4, lambda: w.unlink(name)),
            (4, lambda: w.rename(name, self.new_name())),
            (3, lambda: w.rename(name, r.choice(files))),
            (4, lambda: w.mkdir(self.new_name())),
            (2, lambda: w.sh(f"rm -rf '{self.folder()}'") if r.random() < 0.3 else None),
            (5, lambda: w.rename(self.folder(), self.new_name())),
            (2, lambda: w.rename(self.folder(), self.folder(), flags=RENAME_EXCHANGE)),
            (1, lambda: w.rename(name, r.choice(files), flags=RENAME_EXCHANGE)),
            (3, lambda: w.symlink("to/" + str(r.randint(0, 9)), self.new_name())),
            (3, lambda: w.chmod(name, r.choice([0o600, 0o644, 0o755]))),
            (3, lambda: w.chmod(self.folder(), r.choice([0o755, 0o700, 0o711]))),
        ]
        weights = [weight for weight, _ in steps]
        try:
            r.choices([do for _, do in steps], weights)[0]()
        except OSError:
            pass


def lay(root, rng):
    """A tree from before the mount."""
    for folder in (".", "src", "src/deep", "docs", "quiet", "quiet/below"):
        os.makedirs(root / folder, exist_ok=True)
        for name in ("one", "two", "e.txt"):
            (root / folder / name).write_bytes(b"%d\n" % rng.randint(0, 9) * rng.randint(0, 9))
    (root / "src/link").symlink_to("one")
    (root / "docs/two").chmod(0o640)
    (root / "quiet").chmod(0o750)
