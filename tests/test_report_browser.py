"""The report in a browser: what moves, how it looks on a phone and in the dark, and that it asks for nothing."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from report_example import example
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.actions import interaction
from selenium.webdriver.common.actions.action_builder import ActionBuilder
from selenium.webdriver.common.actions.pointer_input import PointerInput
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.select import Select

from eval.report.html import write_report

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
HOSTILE = "</script><img src=x onerror=alert(1)><script>alert(2)</script>"
PROMPTS, PAIRS = 14, 28
VISIBLE = "return [...document.querySelectorAll(arguments[0])].filter((e) => e.checkVisibility()).length"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("report")


@pytest.fixture(scope="module")
def report(folder):
    """The example, with markup where people write."""
    report = example(folder, PROMPTS)
    first = replace(report.prompts[0], text=f"{HOSTILE} {report.prompts[0].text}")
    pair = replace(report.pairs[1], tuned=replace(report.pairs[1].tuned, caption=HOSTILE))
    return replace(report, prompts=(first, *report.prompts[1:]), pairs=(report.pairs[0], pair, *report.pairs[2:]))


@pytest.fixture(scope="module")
def address(report, folder):
    return write_report(report, folder).as_uri()


@pytest.fixture(scope="module")
def driver():
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    service = shutil.which("chromedriver")
    if browser is None or service is None:
        pytest.skip("no browser: install chromium and chromedriver (in Debian: chromium, chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(service))
    yield driver
    driver.quit()


def show(driver, address, *, width=1280, scheme="light", scripts=True):
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    features = [
        {"name": "prefers-color-scheme", "value": scheme},
        {"name": "prefers-reduced-motion", "value": "reduce"},
    ]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": not scripts})
    driver.get(address)


@pytest.fixture
def page(driver, address):
    """The open report; whatever a test does, nothing complains and nothing is asked for but the page itself."""
    show(driver, address)
    yield driver
    assert driver.get_log("browser") == []
    events = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    asked = {event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"}
    assert {url for url in asked if not url.startswith("data:")} == {address}


def one(driver, selector):
    return driver.find_element(By.CSS_SELECTOR, selector)


def visible(driver, selector):
    return driver.execute_script(VISIBLE, selector)


def style(driver, selector, name):
    return driver.execute_script(
        "return getComputedStyle(document.querySelector(arguments[0]))[arguments[1]]", selector, name
    )


def order(driver):
    """The numbers of the prompts, in the order on the page."""
    return [int(e.get_attribute("data-order")) for e in driver.find_elements(By.CSS_SELECTOR, "#pictures .prompt")]


def changes(report, name):
    """Mean change of each prompt."""
    return [
        np.mean([getattr(p.tuned, name) - getattr(p.base, name) for p in report.pairs if p.prompt == prompt])
        for prompt in range(PROMPTS)
    ]


def luminance(colour):
    """Of a CSS colour `rgb(...)`: WCAG 2.2's relative luminance, from 0 (black) to 1 (white)."""
    values = np.array([float(part) for part in colour.split("(")[1].rstrip(")").split(",")[:3]]) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def split(driver, selector="#pictures .split"):
    """Where a slider stands, and from where on its second picture is seen, both in percent."""
    clip = style(driver, "#pictures .frames.two .frame.tuned", "clipPath")
    return int(one(driver, selector).get_property("value")), float(clip.split()[-1].rstrip("%)"))


def test_the_page_opens_and_runs_nobody_elses_script(page):
    assert one(page, "h1").text == "Worked"
    assert HOSTILE in one(page, "#pictures h3").text
    assert HOSTILE in one(page, "#pictures .pair:nth-child(2) .captions").text
    assert page.execute_script("return [...document.images].every((image) => image.naturalWidth > 0)")
    with pytest.raises(Exception, match="no such alert"):
        _ = page.switch_to.alert.text


def test_the_verdict_is_the_largest_and_on_the_first_screen(page):
    sizes = page.execute_script(
        "const size = (e) => parseFloat(getComputedStyle(e).fontSize);"
        "return [...document.querySelectorAll('body *')].map((e) => [size(e), e.tagName])"
    )
    assert max(sizes)[1] == "H1"
    assert page.execute_script("return document.querySelector('.sentence').getBoundingClientRect().bottom") < 450


def test_keys_move_the_slider(page):
    one(page, "button[data-view=slider]").click()
    one(page, "#pictures .split").send_keys(Keys.ARROW_RIGHT * 5)
    assert split(page) == (55, 55.0)
    one(page, "#pictures .split").send_keys(Keys.HOME)
    assert split(page) == (0, 0.0)


@pytest.mark.parametrize("kind", [interaction.POINTER_MOUSE, interaction.POINTER_TOUCH])
def test_mouse_and_finger_drag_the_slider(page, kind):
    one(page, "button[data-view=slider]").click()
    frames = one(page, "#pictures .frames")
    width = frames.rect["width"]
    page.execute_script("arguments[0].scrollIntoView({block: 'center'})", frames)
    actions = ActionBuilder(page, mouse=PointerInput(kind, kind), duration=50)
    actions.pointer_action.move_to(frames).pointer_down().move_to(frames, round(0.3 * width)).pointer_up()
    actions.perform()
    value, clip = split(page)
    assert value == pytest.approx(80, abs=2)
    assert clip == value


def test_one_slider_moves_all(page):
    one(page, "button[data-view=slider]").click()
    one(page, ".split-all").send_keys(Keys.END)
    values = [e.get_property("value") for e in page.find_elements(By.CSS_SELECTOR, ".split")]
    assert len(values) > PAIRS and set(values) == {"100"}
    assert split(page)[1] == 100


def test_side_by_side_has_no_slider(page):
    first, second = (one(page, f"#pictures .frame.{name}").rect for name in ("base", "tuned"))
    assert first["y"] == second["y"] and first["x"] + first["width"] <= second["x"]
    assert visible(page, ".split") == 0
    one(page, "button[data-view=slider]").click()
    first, second = (one(page, f"#pictures .frame.{name}").rect for name in ("base", "tuned"))
    assert first == second
    assert one(page, "button[data-view=slider]").get_attribute("aria-pressed") == "true"


def test_sorting_follows_the_numbers(page, report):
    style, content = changes(report, "style"), changes(report, "content")
    expected = {
        "style change, highest first": sorted(range(PROMPTS), key=lambda k: -style[k]),
        "style change, lowest first": sorted(range(PROMPTS), key=lambda k: style[k]),
        "content change, lowest first": sorted(range(PROMPTS), key=lambda k: content[k]),
        "prompt, as given": list(range(PROMPTS)),
    }
    for name, prompts in expected.items():
        Select(one(page, "#pictures .sort")).select_by_visible_text(name)
        assert order(page) == [prompt + 1 for prompt in prompts]


def test_the_filter_leaves_the_flagged(page, report):
    one(page, ".show-all").click()
    flags = [pair.flags for pair in report.pairs]
    for name, kept in (
        ("copy", [pair for pair in flags if "copy" in pair]),
        ("flagged", [pair for pair in flags if pair]),
        ("all pairs", flags),
    ):
        Select(one(page, "#pictures .filter")).select_by_visible_text(name)
        assert visible(page, "#pictures .pair") == len(kept)
        assert one(page, "#pictures .count").text == f"{len(kept)} of {PAIRS} pairs"
    Select(one(page, "#pictures .filter")).select_by_visible_text("copy")
    assert visible(page, "#pictures .prompt") == len({p.prompt for p in report.pairs if "copy" in p.flags})


def test_more_than_twelve_prompts_are_asked_for(page):
    assert visible(page, "#pictures .prompt") == 12
    button = one(page, "#pictures .show-all")
    assert button.text == f"Show all {PROMPTS} prompts"
    button.click()
    assert visible(page, "#pictures .prompt") == PROMPTS and not button.is_displayed()


def test_a_click_enlarges_and_escape_closes(page, report):
    picture = one(page, "#pictures .frame.tuned img")
    small = picture.rect["width"]
    picture.click()
    assert one(page, "#zoom").is_displayed()
    assert one(page, "#zoom-title").text == report.prompts[0].text
    assert one(page, "#zoom .frame.tuned img").rect["width"] > 2 * small
    assert visible(page, "#zoom .scores") == 1 and visible(page, "main .scores") == 0
    ActionChains(page).send_keys(Keys.ESCAPE).perform()
    assert not one(page, "#zoom").is_displayed()


def test_keys_enlarge_turn_over_and_come_back(page, report):
    one(page, "#pictures .enlarge").send_keys(Keys.ENTER)
    assert one(page, "#zoom .place").text.startswith("seed 0")
    ActionChains(page).send_keys(Keys.ARROW_RIGHT).perform()
    assert one(page, "#zoom .place").text.startswith("seed 1")
    ActionChains(page).send_keys(Keys.ARROW_RIGHT).perform()
    assert one(page, "#zoom-title").text == report.prompts[1].text
    ActionChains(page).send_keys(Keys.ARROW_LEFT * 2).perform()
    assert one(page, "#zoom-title").text == report.prompts[0].text
    assert not one(page, "#zoom .previous").is_enabled()
    ActionChains(page).send_keys(Keys.ESCAPE).perform()
    assert page.switch_to.active_element == one(page, "#pictures .enlarge")


@pytest.mark.parametrize("view", ["beside", "slider"])
def test_a_phone_never_scrolls_sideways(page, address, view):
    show(page, address, width=360)
    one(page, f"button[data-view={view}]").click()
    assert page.execute_script("return document.documentElement.scrollWidth") == 360
    beyond = (
        "const beyond = (e) => e.checkVisibility() && e.getBoundingClientRect().right > 360.5;"
        "return [...document.querySelectorAll('main *:not(.split)')].filter(beyond).map((e) => e.outerHTML)"
    )
    assert page.execute_script(beyond) == []
    page.execute_script("document.querySelector('#pictures .enlarge').click()")
    assert one(page, "#zoom").rect["width"] <= 360
    assert page.execute_script(
        "const zoom = document.getElementById('zoom'); return zoom.scrollWidth <= zoom.clientWidth"
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_in_light_and_dark(page, address, scheme):
    show(page, address, scheme=scheme)
    ground = luminance(style(page, "body", "backgroundColor"))
    assert ground < 0.05 if scheme == "dark" else ground > 0.8
    seen = ("body", "h1", ".lead", ".fact", ".flag", ".caption", ".warnings summary", "nav a", ".missed h2", ".remark")
    colours = {selector: style(page, selector, "color") for selector in seen}
    colours["plot"] = style(page, ".plot svg text", "fill")
    for selector, colour in colours.items():
        high, low = sorted([luminance(colour), ground], reverse=True)
        assert (high + 0.05) / (low + 0.05) >= 4.5, selector


def test_without_scripts_everything_is_there(page, address):
    show(page, address, scripts=False)
    try:
        assert visible(page, "#pictures .prompt") == PROMPTS
        assert visible(page, "#pictures .scores") == PAIRS
        assert visible(page, "details li") == len(page.find_elements(By.CSS_SELECTOR, "details li")) > 2
        assert visible(page, ".tools") + visible(page, ".enlarge") + visible(page, ".split") == 0
    finally:
        show(page, address)


def test_paper_gets_all_prompts_and_no_buttons(page):
    dark = [{"name": "prefers-color-scheme", "value": "dark"}]
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print", "features": dark})
    assert visible(page, "#pictures .prompt") == PROMPTS
    assert visible(page, "button, select, input, nav") == 0
    assert luminance(style(page, "body", "backgroundColor")) == 1
    assert luminance(style(page, ".fact", "color")) < 0.2
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
