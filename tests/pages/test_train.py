"""The Train page: what it starts, what it refuses, and that links and visitors without permission start nothing."""

import shlex
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from tests.pages import address, check, open_app, refresh, words
from tests.sample_run import manifest, run_record, write_run
from trainer.recipes import RECIPES
from trainer.run_store import NETWORKS_FILE, Progress, open_store
from trainer.train_command import parse
from webapp import plug, trainings
from webapp.asgi import is_from_this_machine
from webapp.trainings import TRAININGS, Job, Launch, Trainings


@pytest.fixture
def allowed(runs: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A server that may train, and has not trained yet."""
    for name, value in vars(Trainings()).items():
        monkeypatch.setattr(TRAININGS, name, value)
    monkeypatch.setattr(TRAININGS, "is_allowed", True)
    yield runs
    TRAININGS.close(lambda text: None)


def wait_for_the_end(job: Job) -> None:
    deadline = time.monotonic() + 120
    while not job.has_ended:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def button(app: AppTest, key: str) -> bool:
    """Return whether a button can be pressed."""
    return not app.button(key=key).disabled


def test_without_permission_the_page_says_how_to_allow_it_and_has_nothing_to_press(runs: Path) -> None:
    app = open_app("train", recipe="forge", name="mine")
    assert "python -m webapp --allow-training" in words(app)
    assert not app.button
    assert TRAININGS.job is None


def test_a_link_fills_the_form_shows_the_command_and_starts_nothing(allowed: Path) -> None:
    app = open_app("train", recipe="forge", name="mine", workers="3", cpu_minutes="7")
    commands = [shlex.split(line)[3:] for code in app.code for line in code.value.splitlines()]
    command = parse(commands[0])
    assert command.config == RECIPES["forge"].config
    assert (command.name, command.workers, command.cpu_minutes, command.runs) == ("mine", "3", 7.0, str(allowed))
    undisturbed, struck = (parse(words) for words in commands[1:])
    assert undisturbed.config == struck.config
    assert undisturbed.config.seed == struck.config.seed
    assert struck.name != undisturbed.name
    assert TRAININGS.job is None
    assert not allowed.exists()
    assert address(app) == {"recipe": "forge", "name": "mine", "workers": "3", "cpu_minutes": "7"}


@pytest.mark.slow
def test_the_trainers_own_words_are_shown_when_it_refuses(allowed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = open_app("train", recipe="writers")  # its data are fetched, and are not here
    check(app.button(key="train.start").click().run())
    assert TRAININGS.job
    assert "writers-1 is starting" in words(app)
    with pytest.raises(ValueError, match="writers-1 is being trained by this server; stop it first"):
        TRAININGS.start([Launch("quick", "other")], str(allowed))
    assert not button(app, "plug.start")
    wait_for_the_end(TRAININGS.job)
    text = words(refresh(app))
    assert "writers-1 has ended with an error" in text
    assert "trainer: " in text
    assert "python -m trainer fetch writers" in text


@pytest.mark.parametrize(
    ("phase", "label", "can_start"), [("stopped", "Resume mine", True), ("finished", "Start mine", False)]
)
def test_an_unfinished_run_is_resumed_and_a_finished_one_is_not_started(
    allowed: Path, phase: str, label: str, can_start: bool
) -> None:
    run = open_store(allowed).run("mine")
    run.create(run_record())
    run.write_progress(Progress(phase=phase))
    app = open_app("train", name="mine")
    assert app.button(key="train.start").label == label
    assert button(app, "train.start") == can_start


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("recipe", "<script>alert(1)</script>"),
        ("name", "../../etc/passwd"),
        ("name", "a b; rm -rf ~"),
        ("workers", "0"),
        ("workers", "9" * 13),
        ("cpu_minutes", "nan"),
        ("cpu_minutes", "-1"),
        ("start", "1"),
    ],
)
def test_a_hostile_value_of_a_link_is_named_and_left_out(allowed: Path, name: str, value: str) -> None:
    app = open_app("train", **{name: value})
    assert "A value in this link cannot be used" in words(app)
    assert app.button(key="train.start").label == "Start quick-1"
    assert app.code[0].value == open_app("train").code[0].value
    assert TRAININGS.job is None


def test_a_recipe_that_does_not_exist_is_replaced(allowed: Path) -> None:
    app = open_app("train", recipe="no-such")
    assert "There is no recipe 'no-such'. Chosen instead: quick." in words(app).replace("\\", "")
    assert app.button(key="train.start").label == "Start quick-1"


def test_a_bad_name_starts_nothing(allowed: Path) -> None:
    app = open_app("train")
    app.text_input(key="train.name").set_value("../x").run()
    assert "cannot be a name" in words(check(app))
    assert "train.start" not in [each.key for each in app.button]


def test_a_server_that_ends_starts_no_training(allowed: Path) -> None:
    assert TRAININGS.close(lambda text: None) is None
    with pytest.raises(ValueError, match="the server is ending"):
        TRAININGS.start([Launch("quick", "quick-1")], str(allowed))


def test_the_lines_of_a_kill_are_those_of_the_trainer() -> None:
    source = (Path(trainings.__file__).parents[1] / "trainer" / "supervise.py").read_text()
    assert "The training goes on from {where}." in source
    assert "worker(s) train again." in source
    text = "Worker 1 died (killed). The training goes on from step 40.\n2 worker(s) train again.\n"
    assert trainings.FAULT.findall(text) == [("Worker 1 died (killed).", "40")]
    assert trainings.TRAIN_AGAIN.search(text)


def test_equal_curves_have_no_difference_and_one_changed_bit_is_seen() -> None:
    curve = {"step": [1.0, 2.0, 3.0], "d_loss": [0.1, None, 0.3], "g_loss": [1.0, 2.0, 3.0]}
    speed = {"images_per_second": [5.0, 6.0, 7.0]}
    assert plug.compare([curve], [curve | speed]) == plug.Comparison(steps=3, columns=2, largest=0.0)
    changed = curve | {"g_loss": [1.0, 2.0, 3.0000000000000004]}
    assert plug.compare([curve], [changed]).largest == 4.440892098500626e-16
    assert plug.compare([curve], [{"step": [1.0], "d_loss": [0.1], "g_loss": [1.0]}]).steps == 1
    assert plug.compare([curve], [curve | {"d_loss": [0.1, 0.2, 0.3]}]).largest == float("inf")
    assert plug.compare([], []).steps == 0


def test_demonstrations_are_numbered(runs: Path) -> None:
    assert plug.newest(["quick-1", "plug-2", "plug-10-undisturbed", "plug-x", "plug-"]) == 10
    assert [launch.name for launch in plug.launches(3)] == ["plug-3-undisturbed", "plug-3"]


def test_the_weights_at_the_end_are_compared_when_both_runs_have_ended(runs: Path) -> None:
    one, other = write_run(runs, "plug-1-undisturbed"), write_run(runs, "plug-1")
    one.publish_checkpoint(manifest(200), {NETWORKS_FILE: b"weights"})
    assert plug.same_weights(one, other) is None  # the other one ends with a checkpoint without them
    other.publish_checkpoint(manifest(200), {NETWORKS_FILE: b"weights"})
    assert plug.same_weights(one, other) is True
    other.publish_checkpoint(manifest(201), {NETWORKS_FILE: b"weights"})
    assert plug.same_weights(one, other) is False
    other.write_progress(Progress(phase="training"))
    assert plug.same_weights(one, other) is None


@pytest.mark.parametrize(
    ("client", "headers", "is_own"),
    [
        ("127.0.0.1", {"host": "localhost:8501"}, True),
        ("127.0.0.1", {"host": "127.0.0.1:8501", "origin": "http://127.0.0.1:8501"}, True),
        ("::1", {"host": "[::1]:8501"}, True),
        ("192.0.2.7", {"host": "localhost:8501"}, False),
        ("127.0.0.1", {"host": "192.0.2.7:8501"}, False),
        ("127.0.0.1", {"host": "evil.example"}, False),
        ("127.0.0.1", {}, False),
        ("127.0.0.1", {"host": "localhost:8501", "origin": "http://evil.example"}, False),
        ("127.0.0.1", {"host": "localhost:8501", "origin": "http://localhost:3000"}, False),
        ("127.0.0.1", {"host": "localhost:8501", "origin": "null"}, False),
        ("127.0.0.1", {"host": "localhost:8501", "x-forwarded-for": "127.0.0.1"}, False),
    ],
)
def test_only_browsers_of_this_machine_may_train(client: str, headers: dict[str, str], is_own: bool) -> None:
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    assert is_from_this_machine({"type": "websocket", "client": (client, 5000), "headers": raw}) == is_own


def test_the_page_knows_each_recipe() -> None:
    assert list(trainings.recipes()) == list(RECIPES)
