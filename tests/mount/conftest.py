"""Fixtures for tests through the kernel (see stomplib).

workspace   a private directory with stompfs mounted over it
unmounted   the same, not mounted yet: lay files first, then unmounted.mount()
writer      factory: writer("alice") is a process under `stomp run alice`
tree        POSIX tests: a folder, once bare ("native") and once mounted ("stompfs")

@pytest.mark.mount_options("wait=300ms", …) gives the mount's -o options;
@pytest.mark.timeout(S) moves the moment at which a hung mount is aborted as well.
"""


import pytest

from stomplib import transports
from stomplib.workspace import Workspace
from stomplib.writer import AGENT, PYTHON, Writer

DEFAULT_DEADLINE_S = 60


def pytest_configure(config):
    config.addinivalue_line("markers", "mount_options(*options): -o options of the mount")
    config.addinivalue_line("markers", "timeout(seconds): limit of the test (pytest-timeout)")
    config.addinivalue_line("markers", "slow: takes more than ten seconds")


def deadline_of(node):
    """The watchdog bites before pytest-timeout does: it can end an uninterruptible call."""
    marker = node.get_closest_marker("timeout")
    limit = marker.args[0] if marker and marker.args else None
    limit = limit or getattr(node.config.option, "timeout", None) or DEFAULT_DEADLINE_S
    return max(float(limit) * 0.8, float(limit) - 15)


@pytest.fixture
def unmounted(request, tmp_path):
    options = []
    for marker in request.node.iter_markers("mount_options"):
        options = list(marker.args) + options
    path = tmp_path / "w"
    path.mkdir()
    made = Workspace(path, tmp_path, options, deadline_s=deadline_of(request.node))
    ring = getattr(request, "param", None) == "uring"  # transports.over_both
    if ring and not transports.built(made):
        pytest.skip("built without liburing")
    if ring:
        made.given.insert(0, "uring")
    request.node.stomp_workspace = made
    yield made
    failed = getattr(request.node, "stomp_failed", False)
    if ring and made.daemon and not failed:
        assert transports.transport(made).startswith("io_uring")
    made.close(failed)


@pytest.fixture
def workspace(unmounted):
    unmounted.mount()
    return unmounted


@pytest.fixture
def writer(unmounted, tmp_path):
    made = []

    def make(name, run=True, argv=(), env=None, **popen):
        """A writer; run=False: without `stomp run`, argv: another launcher before it."""
        launcher = [str(unmounted.stomp), "run", name, "--"] if run else []
        with open(tmp_path / f"writer-{len(made)}-{name}.err", "wb") as log:
            w = Writer(
                name,
                launcher + list(argv) + [PYTHON, str(AGENT)],
                popen.pop("cwd", unmounted.path),
                env,
                log,
                **popen,
            )
        made.append(w)
        return w

    yield make
    for w in made:
        w.stop()


@pytest.fixture(params=["native", "stompfs"])
def tree(request, tmp_path):
    if request.param == "native":
        path = tmp_path / "n"
        path.mkdir()
        return path
    return request.getfixturevalue("workspace").path


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    made = getattr(item, "stomp_workspace", None)
    if report.failed and made is not None:
        item.stomp_failed = True
        report.sections.append(("stompfs", made.tail()))
        for path in sorted(made.scratch.glob("writer-*.err")):
            text = path.read_text(errors="replace")
            if text:
                report.sections.append((path.name, text[-2000:]))


def pytest_sessionfinish(session):
    """A mount left behind under our folder is a failure of the run."""
    factory = getattr(session.config, "_tmp_path_factory", None)
    if factory is None or getattr(factory, "_basetemp", None) is None:
        return
    base = str(factory.getbasetemp())
    left = []
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
        left = [line.split()[4] for line in table if line.split()[4].startswith(base + "/")]
    if left:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        print("\nleft mounted:", *left)
