"""Open every page of the built book in a browser and report its faults.

Each page is opened at the width of a desktop and of a phone, and in dark mode. A page has a fault if the console shows
an error, if the page sends a request to another host, if it is wider than the screen, if an image does not load or has
no alternative text, if a link inside the book leads nowhere, if a slider ignores the mouse or the keyboard, or if
axe-core finds a serious accessibility problem. The search must find two words, each of which is on a page of the book.
The check needs Chromium (Debian: apt install chromium) and, for axe-core, npm. With --if-possible, a check whose
program is missing is reported and skipped.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urldefrag

from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).resolve().parents[1]
HTML = ROOT / "build" / "_build" / "html"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SCREENS = {"1400 pixels": (1400, "light"), "390 pixels": (390, "light"), "1400 pixels, dark": (1400, "dark")}
SEARCHES = ("Gauss", "Whippet")
JOBS = 2  # number of browsers
MOST_BOOK, MOST_PAGE = 25e6, 3e6  # bytes


def main() -> None:
    command = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    command.add_argument("--if-possible", action="store_true", help="skip checks that lack Chromium or npm")
    possible = command.parse_args().if_possible
    if not (HTML / "index.html").exists():
        sys.exit("the book is not built; run: python3 run.py book")
    browser_path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser_path is None:
        report_missing("cannot check the book without Chromium: apt install chromium", possible)
        return
    axe = axe_script()
    if not axe:
        report_missing("cannot check accessibility without axe-core, which npm installs: apt install npm", possible)
    problems = inspect(browser_path, axe)
    for problem in problems:
        print(problem, file=sys.stderr)
    print(f"{len(problems)} problems")
    sys.exit(bool(problems))


def report_missing(message: str, possible: bool) -> None:
    """Print which check is skipped. Exits with code 1 unless `--if-possible` was given."""
    print(f"run.py check: {message}", file=sys.stderr)
    if not possible:
        sys.exit(1)


def axe_script() -> str:
    """The source of axe-core, which npm installs on first use. The source is empty if npm is missing or fails."""
    folder = ROOT / "build" / "axe"
    script = folder / "node_modules" / "axe-core" / "axe.min.js"
    npm = shutil.which("npm")
    if not script.exists() and npm:
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run([npm, "install", "--silent", "--no-fund", "--no-audit", "--prefix", str(folder), "axe-core@4"])
    return script.read_text(encoding="utf-8") if script.exists() else ""


class Report(NamedTuple):
    """What the browser found on one page: faults, anchors, and the targets of links inside the book."""

    faults: list[str]
    anchors: set[str]
    links: list[str]


def inspect(browser_path: str, axe: str) -> list[str]:
    """All faults of the book. Several browsers share the pages."""
    pages = [page for page in sorted(HTML.rglob("*.html")) if not page.is_relative_to(HTML / "_static")]
    pages.remove(HTML / "index.html")  # this page only redirects to the first page
    with ThreadPoolExecutor(JOBS) as pool:
        groups = [pages[number::JOBS] for number in range(JOBS)]
        found = pool.map(inspect_pages, groups, [browser_path] * JOBS, [axe] * JOBS)
        reports = {file: report for group in found for file, report in group.items()}
    problems = [*size_faults(pages), *(fault for page in pages for fault in reports[page].faults)]
    with browser_at(browser_path) as browser:
        problems += [f"search does not find {word}" for word in SEARCHES if not search_finds(browser, word)]
    links = [(file, target) for file in pages for target in reports[file].links]
    return problems + broken_links(links, {file: report.anchors for file, report in reports.items()})


def inspect_pages(pages: list[Path], browser_path: str, axe: str) -> dict[Path, Report]:
    """Open pages one after another in one browser."""
    reports = {}
    with browser_at(browser_path) as browser:
        for file in pages:
            name = file.relative_to(HTML)
            print(name, flush=True)
            faults = [
                f"{name} at {screen}: {fault}"
                for screen, (width, colours) in SCREENS.items()
                for fault in page_faults(browser, file, width, colours, axe)
            ]
            reports[file] = Report(faults, *anchors_and_links(browser, file))
    return reports


@contextmanager
def browser_at(path: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


def size_faults(pages: list[Path]) -> Iterator[str]:
    """Faults of a book or of pages that are too large."""
    everything = sum(file.stat().st_size for file in HTML.rglob("*") if file.is_file())
    if everything > MOST_BOOK:
        yield f"the book weighs {everything / 1e6:.1f} MB"
    for page in pages:
        if page.stat().st_size > MOST_PAGE:
            yield f"{page.relative_to(HTML)} weighs {page.stat().st_size / 1e6:.1f} MB"


def page_faults(browser: Browser, file: Path, width: int, colours: Any, axe: str) -> Iterator[str]:
    """Faults of one page on one screen."""
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=colours)
    seen: list[str] = []
    page.on("console", lambda message: seen.append(f"console: {message.text}") if message.type == "error" else None)
    page.on("pageerror", lambda error: seen.append(f"script: {error}"))
    page.on("request", lambda request: seen.append(f"asks {request.url}") if is_external(request.url) else None)
    page.goto(file.as_uri(), wait_until="load")
    page.evaluate("() => window.MathJax?.startup?.promise")  # formulas are rendered after the page has loaded
    yield from page.evaluate("""() => {
        const found = [];
        const wide = document.documentElement.scrollWidth - window.innerWidth;
        if (wide > 1) found.push(`page is ${wide} pixels wider than the screen`);
        for (const image of document.images) {
            const name = image.currentSrc.slice(0, 80);
            if (!image.complete || !image.naturalWidth) found.push(`image does not load: ${name}`);
            if (!image.alt.trim()) found.push(`image without alternative text: ${name}`);
        }
        return found;
    }""")
    yield from slider_faults(page)
    yield from seen
    if axe:
        page.add_style_tag(content="* { transition: none !important; }")  # freeze transitions before checking contrast
        page.evaluate(axe)
        report = page.evaluate("() => axe.run({resultTypes: ['violations'], preload: false})")
        for found in report["violations"]:
            if found["impact"] in ("serious", "critical"):
                yield f"axe: {found['help']} ({found['nodes'][0]['target']}, {len(found['nodes'])} of them)"
    page.close()


def slider_faults(page: Page) -> Iterator[str]:
    """Faults of sliders that ignore a key or a click, or that move without changing an image."""
    shown = "() => [...document.images].filter(image => image.checkVisibility()).map(image => image.src).join()"
    for slider in page.locator("input[type=range]").all():
        box = slider.bounding_box() or {"width": 0, "height": 0}
        states = []
        slider.click(position={"x": 0.02 * box["width"], "y": box["height"] / 2})
        states.append((slider.input_value(), page.evaluate(shown)))
        slider.press("ArrowRight")
        states.append((slider.input_value(), page.evaluate(shown)))
        slider.click(position={"x": 0.98 * box["width"], "y": box["height"] / 2})
        states.append((slider.input_value(), page.evaluate(shown)))
        for how, before, after in zip(("keyboard", "mouse"), states, states[1:], strict=False):
            if before[0] == after[0] or before[1] == after[1]:
                yield f"slider does not follow the {how}"


def is_external(url: str) -> bool:
    """True if the URL leads out of the built book."""
    return not url.startswith(("file:", "data:", "blob:", "about:"))


def anchors_and_links(browser: Browser, file: Path) -> tuple[set[str], list[str]]:
    """The anchors of a page and the targets of its links inside the book."""
    page: Page = browser.new_page()
    page.goto(file.as_uri(), wait_until="domcontentloaded")
    names = page.evaluate("() => [...document.querySelectorAll('[id], a[name]')].map(e => e.id || e.name)")
    links = page.evaluate("() => [...document.querySelectorAll('a[href]')].map(e => e.href)")
    page.close()
    return set(names), [link for link in links if link.startswith("file:")]


def broken_links(links: list[tuple[Path, str]], anchors: dict[Path, set[str]]) -> list[str]:
    """Links to files or anchors that do not exist."""
    found = set()
    for file, link in links:
        address, anchor = urldefrag(link)
        target = Path(unquote(address.removeprefix("file://").split("?")[0]))
        if not target.exists():
            found.add(f"{file.relative_to(HTML)}: link to nothing, {link}")
        elif anchor and target in anchors and unquote(anchor) not in anchors[target]:
            found.add(f"{file.relative_to(HTML)}: link to a missing anchor, {link}")
    return sorted(found)


def search_finds(browser: Browser, word: str) -> bool:
    """True if the search page lists a result for the word."""
    page = browser.new_page()
    try:
        page.goto(f"{(HTML / 'search.html').as_uri()}?q={word}")
        page.wait_for_selector("#search-results li a", timeout=10_000)
        return True
    except Exception:  # the search timed out without a result
        return False
    finally:
        page.close()


if __name__ == "__main__":
    main()
