"""What every test stands on: its own cache folder, no settings of the person who runs it, the installed package."""

from __future__ import annotations

import importlib.util
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
OURS = {"COGEVAL_CLIPS_DIR", "COGEVAL_HOME", "COGEVAL_REFERENCE_DIR", "COGEVAL_TEST_INSTALLED"}
CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
AXE_TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
# Two frames, so that a change that was just made is on the page, and then every transition at its end. Words change
# their colour with the theme at once and the ground of a button in 120 ms: halfway there is no contrast to measure.
SETTLE = """async () => {
    const frame = () => new Promise((go) => requestAnimationFrame(go));
    await frame();
    await frame();
    for (const one of document.getAnimations())
        if (Number.isFinite(one.effect.getComputedTiming().endTime)) one.finish();
    await frame();
}"""


def pytest_configure(config: pytest.Config) -> None:
    """Before anything is imported, and before workers start, so that they inherit it."""
    for name in [name for name in os.environ if name.startswith("COGEVAL_") and name not in OURS]:
        del os.environ[name]
    for name in ("COLUMNS", "LINES"):  # tox sets them, and readline does behind Python's back: output would be cut
        os.environ.pop(name, None)
        os.unsetenv(name)
    if "COGEVAL_HOME" not in os.environ:
        home = tempfile.mkdtemp(prefix="cogeval-tests-")
        os.environ["COGEVAL_HOME"] = home
        config.add_cleanup(lambda: shutil.rmtree(home, ignore_errors=True))
    if os.environ.get("COGEVAL_TEST_INSTALLED"):
        found = importlib.util.find_spec("cogeval")
        if found is None or found.origin is None or Path(found.origin).parent == REPOSITORY:
            raise pytest.UsageError("COGEVAL_TEST_INSTALLED is set, but Python finds the checkout and not the wheel")


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout: documentation, settings and sources, even when the wheel is what is tested."""
    return REPOSITORY


def absent(what: str) -> None:
    """Skip, or fail where the tests are told that it has to be there (STUDY_TESTS_REQUIRE=chromium,postgres)."""
    if what.split()[0].lower() in os.environ.get("STUDY_TESTS_REQUIRE", "").split(","):
        pytest.fail(f"{what}: it is required here")
    pytest.skip(what)


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of a Chromium, driven by Playwright."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None or importlib.util.find_spec("playwright") is None:
        absent("chromium is not installed (Debian: apt-get install chromium; pip install playwright)")
    return path


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Any]:
    """One Chromium for the tests of a file; each test has its own window.

    Not for longer: Playwright keeps an event loop in its thread, and neither a second one nor asyncio can live beside.
    """
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_FLAGS)
        yield started
        started.close()


@pytest.fixture(scope="session")
def axe() -> Callable[[Any], list[str]]:
    """Violations of WCAG A and AA on a page that has come to rest."""

    def run(page: Any) -> list[str]:
        module = pytest.importorskip("axe_playwright_python.sync_playwright")
        page.evaluate(SETTLE)
        found = module.Axe().run(page, options={"runOnly": {"type": "tag", "values": AXE_TAGS}})
        return [f"{one['id']}: {one['nodes'][0]['html'][:160]}" for one in found.response["violations"]]

    return run
