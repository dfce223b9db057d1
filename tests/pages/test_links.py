"""What a link shows: always the generator that it names, or a notice, and never another picture."""

import json
import re
import shutil
from pathlib import Path
from random import Random
from urllib.parse import parse_qsl

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from tests.pages import address, check, open_app, refresh, words
from tests.sample_run import STEPS_PER_EPOCH, manifest, model_config, write_checkpoint, write_epoch, write_run
from trainer.run_store import GENERATOR_FILE, open_store
from trainer.ship import ship
from webapp import catalog
from webapp.environment import RUNS_VARIABLE

CORPUS = Path(__file__).resolve().parent.parent / "links" / "v1.txt"
DRAWING = ("explore", "interpolate")


def pictures(app: AppTest) -> list[str]:
    """Return the pictures of a page that draws; none if it draws nothing."""
    components = [json.loads(component.proto.json) for component in app.get("bidi_component")]
    return [component["pictures"] for component in components if component.get("pictures")]


def forget() -> None:
    """Empty all caches, as a restart of the app does."""
    st.cache_data.clear()
    st.cache_resource.clear()


def shown(app: AppTest) -> list[str]:
    """Return the pictures on a page, which must have some."""
    found = pictures(app)
    assert found
    return found


def is_refused(app: AppTest) -> bool:
    """Return whether a page says that the generator is missing, and shows no picture."""
    return not pictures(app) and "This generator is not here" in words(app)


@pytest.mark.parametrize("kind", DRAWING)
def test_another_run_of_the_same_name_is_not_shown_in_its_place(runs: Path, kind: str) -> None:
    write_run(runs, keeps_generators=True)
    link = address(open_app(kind, step="100"))
    g = link["g"]
    shutil.rmtree(runs / "quick-1")
    write_run(runs, keeps_generators=True, seed=1)
    forget()
    app = open_app(kind, **link)
    assert is_refused(app)
    for text in (g, "at step 100", "**quick-1**", "That step holds another generator now", "No run that this app"):
        assert text in words(app)
    app.button(key="notice.checkpoint").click()
    check(app.run())
    assert address(app)["step"] == "100"
    assert address(app)["g"] != g
    assert "does not pin" not in words(app)


@pytest.mark.parametrize(("kind", "name"), [("explore", "runs/elsewhere"), ("interpolate", "pretrained/quick-1")])
def test_a_generator_that_has_moved_is_found(runs: Path, tmp_path: Path, kind: str, name: str) -> None:
    write_run(runs, keeps_generators=True)
    link = address(open_app(kind, step="100"))
    before = shown(open_app(kind, **link))
    store, _, run = name.partition("/")
    (tmp_path / store).mkdir(exist_ok=True)
    (runs / "quick-1").rename(tmp_path / store / run)
    for replaced in (False, True):  # the link's run is not here; another one has its name
        if replaced:
            write_run(runs, keeps_generators=True, seed=1)
        forget()
        app = open_app(kind, **link)
        assert shown(app) == before
        assert address(app) == link | {"run": name}
        assert f"is not at step 100 of **runs/quick-1**. It was found at step 100 of **{name}**" in words(app)
        assert shown(check(app.run())) == before
        assert address(open_app("training", session=app))["run"] == name  # the other pages show the same run


def test_a_run_and_a_generator_that_are_not_here(runs: Path) -> None:
    write_run(runs)
    app = open_app(run="runs/never", step="100", g="0123456789ab")
    assert "This run is not here" in words(app)
    assert "`0123456789ab` at step 100. No run that this app can see holds" in words(app)
    assert not pictures(app)


@pytest.mark.parametrize("kind", DRAWING)
def test_a_link_from_a_live_run_holds_when_it_has_ended(runs: Path, kind: str) -> None:
    run = write_run(runs, epochs=1, total_epochs=6, phase="training", keeps_generators=True)
    app = open_app(kind)
    link, before = address(app), shown(app)
    assert link["step"] == str(STEPS_PER_EPOCH)
    for epoch in range(2, 7):
        write_epoch(run, epoch, model_config(), keeps_generator=True)
        write_checkpoint(run, epoch, model_config())
        run.prune_checkpoints(3)
    assert address(refresh(app))["step"] == str(6 * STEPS_PER_EPOCH)  # the page itself follows the run
    forget()
    later = open_app(kind, **link)
    assert shown(later) == before
    assert address(later) == link
    assert "step 50" in " ".join(map(str, later.selectbox(key="scope.step").options))


def test_a_link_to_a_checkpoint_within_an_epoch_holds_when_it_is_removed(runs: Path) -> None:
    run = write_run(runs, epochs=1, total_epochs=2, phase="training", keeps_generators=True)
    write_checkpoint(run, 1, model_config(), seed=7, step=70)
    link = address(open_app(step="70"))
    before = shown(open_app(**link))
    write_checkpoint(run, 2, model_config())
    run.prune_checkpoints(1, archive=True)
    forget()
    app = open_app(**link)
    assert shown(app) == before
    assert "found at" not in words(app)
    assert address(app) == link


@pytest.mark.parametrize("swaps", [6, pytest.param(60, marks=pytest.mark.long)])
def test_swapping_generators_never_shows_another_picture(runs: Path, swaps: int) -> None:
    random = Random(0)
    seeds = {run: {epoch: 0 for epoch in (1, 2, 3)} for run in ("a", "b")}
    for name in seeds:
        write_run(runs, name, keeps_generators=True, seed=int(name, 16))
    links = {}
    for name in seeds:
        for epoch in (1, 2, 3):
            app = open_app(run=f"runs/{name}", step=str(epoch * STEPS_PER_EPOCH), digits="7", count="2")
            links[name, epoch] = (address(app), shown(app))
    assert len({link["g"] for link, _ in links.values()}) == 6
    missing = 0
    for _ in range(swaps):
        name, epoch = random.choice(list(links))
        run, other = (open_store(runs).run(each) for each in (name, random.choice(["a", "b"])))
        contents = [other.read_generator(each.paths[0], each.sha256) for each in other.generators()]
        run.storage.remove_folder(f"{name}/step_{epoch * STEPS_PER_EPOCH:08d}")
        run.publish_checkpoint(manifest(epoch * STEPS_PER_EPOCH), {GENERATOR_FILE: random.choice(contents)})
        if random.random() < 0.5:
            run.storage.remove_file(f"{name}/epochs/{epoch:04d}/{GENERATOR_FILE}")
        if random.random() < 0.5:
            forget()
        for link, before in links.values():
            app = open_app(**link)
            assert pictures(app) == before or is_refused(app)
            missing += is_refused(app)
    assert 0 < missing < swaps * 6


@pytest.mark.parametrize("kind", DRAWING)
def test_a_link_without_a_generator_opens_and_says_that_it_is_not_pinned(runs: Path, kind: str) -> None:
    write_run(runs, keeps_generators=True)
    app = open_app(kind, run="runs/quick-1", step="100")
    assert shown(app)
    assert "This link does not pin its generator" in words(app)
    pinned = open_app(kind, **address(app))
    assert shown(pinned) == shown(app)
    assert "does not pin" not in words(pinned)
    app.selectbox(key="scope.step").set_value(150)
    assert "does not pin" not in words(check(app.run()))
    assert address(app)["g"] == catalog.generators("runs/quick-1")[-1].sha256[:12]
    assert "does not pin" not in words(open_app(kind, run="runs/quick-1"))  # it asks for the newest


@pytest.mark.usefixtures("sample")
def test_an_invalid_generator_is_named_and_not_pinned() -> None:
    app = open_app(step="100", g="0123")
    assert "**g** must be the first 12 hex digits of a SHA-256\\: got '0123'. Shown instead" in words(app)
    assert "does not pin" in words(app)


def test_every_epoch_can_be_opened(runs: Path) -> None:
    run = write_run(runs, keeps_generators=True)
    run.prune_checkpoints(1)
    app = open_app()
    seen = []
    for step in (0, 50, 100, 150):
        app.selectbox(key="scope.step").set_value(step)
        seen.append(tuple(shown(check(app.run()))))
        assert address(app)["step"] == str(step)
        assert tuple(shown(open_app(**address(app)))) == seen[-1]
    assert len(set(seen)) == 4


def test_a_generator_that_is_not_kept_is_missing_and_the_nearest_is_offered(runs: Path) -> None:
    run = write_run(runs, keeps_generators=True)
    link = address(open_app(step="50"))
    run.prune_checkpoints(1)
    run.prune_generators(2)
    forget()
    app = open_app(**link)
    assert is_refused(app)
    assert "That step holds" not in words(app)
    app.button(key="notice.checkpoint").click()
    assert address(check(app.run()))["step"] == "100"


def test_a_damaged_file_gives_way_to_an_intact_one_of_the_same_generator(runs: Path) -> None:
    run = write_run(runs, keeps_generators=True)
    link = address(open_app(step="100"))
    before = shown(open_app(**link))
    checkpoint, epoch = (Path(run.path, path) for path in catalog.generators("runs/quick-1")[2].paths)
    for path in (checkpoint, epoch):
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        forget()
        app = open_app(**link)
        if path == checkpoint:
            assert shown(app) == before
    assert "This checkpoint is damaged" in words(app)
    assert "runs/quick-1/step_00000100/generator.safetensors" in words(app)
    assert str(runs) not in words(app)
    assert not pictures(app)


def test_a_link_to_an_epoch_that_was_trained_again_holds(runs: Path) -> None:
    run = write_run(runs, checkpoints=False, keeps_generators=True)
    link = address(open_app(step="100"))
    before = shown(open_app(**link))
    write_epoch(run, 2, model_config(), keeps_generator=True, seed=1)
    for is_fresh in (False, True):  # a page that listed the run before, and a new one
        if is_fresh:
            forget()
        st.cache_resource.clear()
        assert shown(open_app(**link)) == before
    again = open_app(run="runs/quick-1", step="100")
    assert shown(again) != before
    assert address(again)["g"] != link["g"]


def test_a_generator_that_was_shipped_once_stays(runs: Path, tmp_path: Path) -> None:
    pretrained = open_store(tmp_path / "pretrained").run("forge")
    ship(write_run(runs, "older", keeps_generators=True), pretrained)
    links = [address(open_app(run="pretrained/forge", step=str(step))) for step in (0, 100, 150)]
    before = [shown(open_app(**link)) for link in links]
    ship(write_run(runs, "newer", keeps_generators=True, seed=1), pretrained, replaces=True)
    shutil.rmtree(runs)
    forget()
    for link, wanted in zip(links, before, strict=True):
        app = open_app(**link)
        assert shown(app) == wanted
        assert address(app) == link
        assert "found at" not in words(app)


def test_a_search_that_takes_too_long_ends_and_says_so(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_run(runs, keeps_generators=True)
    write_run(runs, "other", keeps_generators=True, seed=1)
    link = address(open_app(run="runs/other", step="100")) | {"run": "runs/quick-1"}
    forget()
    monkeypatch.setattr(catalog, "SEARCH_SECONDS", 0.0)
    app = open_app(**link)
    assert is_refused(app)
    assert "not all runs could be searched in time" in words(app)
    monkeypatch.setattr(catalog, "SEARCH_SECONDS", 60.0)
    assert address(check(app.run()))["run"] == "runs/other"


def test_a_late_click_brings_no_old_address_back_but_a_link_does(runs: Path) -> None:
    for name in ("first", "second"):
        write_run(runs, name)
    app = open_app("training", run="runs/first")
    old = address(app)
    app.selectbox(key="scope.run").set_value("runs/second")
    new = address(check(app.run()))
    assert new == old | {"run": "runs/second", "g": new["g"]}

    app.query_params.update(old)  # a click that was sent before the new URL had reached the browser
    assert address(check(app.run())) == new
    assert address(check(app.run())) == new  # the browser has it now
    app.query_params.update(old)  # so this is a link
    assert address(check(app.run())) == old


SHIPPED = [
    line.partition(" -> ")[0]
    for line in CORPUS.read_text().splitlines()
    if re.match("generate.*pretrained/.*&g=", line)
]


@pytest.mark.parametrize("link", SHIPPED)
def test_the_generator_of_a_link_to_a_shipped_run_is_there(
    link: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(RUNS_VARIABLE, str(tmp_path))
    query = dict(parse_qsl(link.partition("?")[2]))
    app = open_app(**query)
    assert shown(app)
    assert query.items() <= address(app).items()
