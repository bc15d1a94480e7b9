"""Open every page of the built book in a browser, as its readers do, and say what is wrong with it.

On a desktop and on a phone: no error in the console, no request to another host, no page wider than the screen, every
picture loads and has an alternative text, every link inside the book leads somewhere, the search finds what is there,
and axe-core finds no serious barrier. Needs Chromium (Debian: apt install chromium) and, for axe-core, npm.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urldefrag

from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).resolve().parents[1]
HTML = ROOT / "build" / "_build" / "html"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
WIDTHS = (1400, 390)
SEARCHES = ("Gauss", "Whippet")
MOST_BOOK, MOST_PAGE = 25e6, 3e6  # bytes


def main() -> None:
    browser_path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser_path is None:
        sys.exit("run.py check needs Chromium: apt install chromium")
    if not (HTML / "index.html").exists():
        sys.exit("there is no book yet: python3 run.py book")
    axe = axe_script()
    pages = [page for page in sorted(HTML.rglob("*.html")) if not page.is_relative_to(HTML / "_static")]
    pages.remove(HTML / "index.html")  # only leads to the first page
    anchors: dict[Path, set[str]] = {}
    links: list[tuple[Path, str]] = []
    problems: list[str] = list(too_heavy(pages))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        for number, file in enumerate(pages, start=1):
            name = file.relative_to(HTML)
            print(f"[{number}/{len(pages)}] {name}", flush=True)
            for width in WIDTHS:
                problems += [f"{name} at {width} pixels: {found}" for found in faults(browser, file, width, axe)]
            anchors[file], targets = anchors_and_links(browser, file)
            links += [(file, target) for target in targets]
        problems += [f"search does not find {word}" for word in SEARCHES if not search_finds(browser, word)]
        browser.close()
    problems += broken(links, anchors)
    for problem in problems:
        print(problem, file=sys.stderr)
    print(f"{len(pages)} pages checked, {len(problems)} problems")
    sys.exit(bool(problems))


def axe_script() -> str:
    """The source of axe-core, from npm once; nothing where npm is missing."""
    folder = ROOT / "build" / "axe"
    script = folder / "node_modules" / "axe-core" / "axe.min.js"
    npm = shutil.which("npm")
    if not script.exists() and npm is None:
        print("no npm: accessibility is not checked", file=sys.stderr)
        return ""
    if not script.exists():
        folder.mkdir(parents=True, exist_ok=True)
        command = [npm, "install", "--silent", "--no-fund", "--no-audit", "--prefix", str(folder), "axe-core@4"]
        subprocess.run([str(part) for part in command], check=True)
    return script.read_text(encoding="utf-8")


def too_heavy(pages: list[Path]) -> Iterator[str]:
    everything = sum(file.stat().st_size for file in HTML.rglob("*") if file.is_file())
    if everything > MOST_BOOK:
        yield f"the book weighs {everything / 1e6:.1f} MB"
    for page in pages:
        if page.stat().st_size > MOST_PAGE:
            yield f"{page.relative_to(HTML)} weighs {page.stat().st_size / 1e6:.1f} MB"


def faults(browser: Browser, file: Path, width: int, axe: str) -> Iterator[str]:
    """What is wrong with one page at one width of the screen."""
    page = browser.new_page(viewport={"width": width, "height": 900})
    seen: list[str] = []
    page.on("console", lambda message: seen.append(f"console: {message.text}") if message.type == "error" else None)
    page.on("pageerror", lambda error: seen.append(f"script: {error}"))
    page.on("request", lambda request: seen.append(f"asks {request.url}") if foreign(request.url) else None)
    page.goto(file.as_uri(), wait_until="load")
    yield from seen
    yield from page.evaluate("""() => {
        const found = [];
        const wide = document.documentElement.scrollWidth - window.innerWidth;
        if (wide > 1) found.push(`page is ${wide} pixels wider than the screen`);
        for (const image of document.images) {
            const name = image.currentSrc.slice(0, 80);
            if (!image.complete || !image.naturalWidth) found.push(`picture does not load: ${name}`);
            if (!image.alt.trim()) found.push(`picture without alternative text: ${name}`);
        }
        return found;
    }""")
    if axe:
        page.evaluate(axe)
        report = page.evaluate("() => axe.run({resultTypes: ['violations']})")
        for found in report["violations"]:
            if found["impact"] in ("serious", "critical"):
                yield f"axe: {found['help']} ({found['nodes'][0]['target']})"
    page.close()


def foreign(url: str) -> bool:
    return not url.startswith(("file:", "data:", "blob:", "about:"))


def anchors_and_links(browser: Browser, file: Path) -> tuple[set[str], list[str]]:
    """The names that links can point to in a page, and where its own links point, inside the book."""
    page: Page = browser.new_page()
    page.goto(file.as_uri(), wait_until="domcontentloaded")
    names = page.evaluate("() => [...document.querySelectorAll('[id], a[name]')].map(e => e.id || e.name)")
    links = page.evaluate("() => [...document.querySelectorAll('a[href]')].map(e => e.href)")
    page.close()
    return set(names), [link for link in links if link.startswith("file:")]


def broken(links: list[tuple[Path, str]], anchors: dict[Path, set[str]]) -> list[str]:
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
    page = browser.new_page()
    page.goto(f"{(HTML / 'search.html').as_uri()}?q={word}")
    try:
        page.wait_for_selector("#search-results li a", timeout=10_000)
        return True
    except Exception:  # the browser's time-out, or a page without results
        return False
    finally:
        page.close()


if __name__ == "__main__":
    main()
