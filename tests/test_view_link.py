"""Views as text in a URL: canonical, strict, and stable."""

import dataclasses
from pathlib import Path
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.sampling import MAX_SEED
from models.view_link import READERS, View, ViewError, encode, from_link, from_pairs, pairs
from models.views import (
    DRAWING_VIEWS,
    MAX_COUNT,
    PATHS,
    DrawingView,
    ExploreView,
    GenerateView,
    InterpolateView,
    Permalink,
    QuizView,
    WriteView,
    read_link,
)
from models.writing import COLOURS, DIGITS, SIGNS
from webapp.asgi import MOVED
from webapp.frame import PAGES
from webapp.views.compare import CompareView
from webapp.views.how import HowView
from webapp.views.training import TrainingView

VIEWS: dict[str, type[View]] = {page.kind: page.view for page in PAGES} | DRAWING_VIEWS | {"gallery": TrainingView}

runs = st.sampled_from(["", "pretrained/forge", "runs/quick-1", "runs/a.b_c-d"])
steps = st.none() | st.integers(0, 10**9)
seeds = st.integers(0, MAX_SEED)
digits = st.none() | st.sets(st.integers(0, 60), min_size=1).map(lambda found: tuple(sorted(found)))
scope = {"run": runs, "step": steps, "g": st.sampled_from(["", "0123456789ab", "f" * 12])}
lengths = st.none() | st.integers(0, 25600).map(lambda hundredths: hundredths / 100)
asked = {
    "slant": st.none() | st.integers(-9000, 9000).map(lambda hundredths: hundredths / 100),
    "thickness": lengths,
    "width": lengths,
    "writer": st.none() | st.integers(0, 10**6),
}
classes = st.none() | st.integers(0, 99)
shares = st.integers(0, 1000).map(lambda share: share / 1000)
grid = {
    "digits": digits,
    "count": st.integers(1, MAX_COUNT),
    "seed": st.integers(0, MAX_SEED - MAX_COUNT),
    "truncation": st.integers(0, 100).map(lambda percent: percent / 100),
}
texts = st.text([*DIGITS, *SIGNS, " "], min_size=1, max_size=24).filter(lambda text: any(map(str.isdigit, text)))
colours = st.sampled_from([*COLOURS, "#1f3fa0", "#000000"])
written_views = texts.flatmap(
    lambda text: st.builds(
        WriteView,
        **scope,
        **asked,
        text=st.just(text),
        style=st.sampled_from(["same", "free"]),
        seed=seeds,
        own=st.dictionaries(st.integers(0, sum(map(str.isdigit, text)) - 1), seeds).map(
            lambda own: tuple(sorted(own.items()))
        ),
        truncation=grid["truncation"],
        spacing=st.integers(0, 16),
        ink=colours,
        paper=colours,
    )
)
drawing_views: st.SearchStrategy[DrawingView] = st.one_of(
    st.builds(GenerateView, **scope, **asked, **grid),
    st.builds(
        ExploreView,
        **scope,
        **asked,
        **grid,
        digit=classes,
        corners=st.none() | st.tuples(seeds, seeds, seeds, seeds),
        x=shares,
        y=shares,
    ),
    st.builds(
        InterpolateView,
        **scope,
        **asked,
        from_digit=classes,
        from_seed=seeds,
        to_digit=classes,
        to_seed=seeds,
        path=st.sampled_from(PATHS),
        frames=st.integers(2, 25),
        via=st.lists(st.tuples(classes, seeds), max_size=6).map(tuple),
        frame=st.none() | st.integers(0, 1),
        play=st.sampled_from(["", "loop", "once"]),
        fps=st.none() | st.integers(1, 30),
    ),
    st.builds(QuizView, **scope, seed=seeds, answers=st.sampled_from(["", "0101010101", "1111111110"])),
    written_views,
)
views = st.one_of(
    drawing_views,
    st.builds(
        HowView, **scope, part=st.integers(1, 8), digit=classes, seed=seeds, epoch=st.none() | st.integers(0, 10**6)
    ),
    st.builds(
        TrainingView,
        **scope,
        epoch=st.none() | st.integers(0, 10**6),
        mine=st.lists(st.tuples(classes, seeds), max_size=1).map(tuple),
        link=st.just("")
        | drawing_views.filter(lambda view: isinstance(view, GenerateView | InterpolateView)).map(encode),
    ),
    st.builds(
        CompareView,
        **scope,
        other_run=runs,
        other_step=steps,
        other_g=scope["g"],
        **{**grid, "count": st.integers(1, 10)},
    ),
)
names = sorted({field.name for kind in VIEWS.values() for field in dataclasses.fields(kind)})


LINKS = [
    line for line in (Path(__file__).parent / "links" / "v1.txt").read_text().splitlines() if not line.startswith("#")
]
"""Links, with the views that they must open."""


@pytest.mark.parametrize("line", LINKS)
def test_a_link_opens_its_recorded_view(line: str) -> None:
    link, _, expected = line.partition(" -> ")
    kind, _, query = link.partition("?")
    if kind in MOVED:
        kind, part = MOVED[kind]
        query = f"{part}&{query}"
    view, problems = from_link(VIEWS[kind], parse_qsl(query, keep_blank_values=True))
    found = f"{encode(view)} ! {' '.join(problem.parameter for problem in problems)}"
    assert found.removesuffix(" ! ") == expected


@given(views)
def test_a_view_survives_its_text(view: View) -> None:
    kind, _, query = encode(view).partition("?")
    assert kind == view.kind
    assert parse_qsl(query) == pairs(view)
    assert from_pairs(type(view), pairs(view)) == view


@given(
    st.sampled_from(sorted(VIEWS.values(), key=lambda view: view.kind)),
    st.lists(st.tuples(st.sampled_from(names) | st.text(), st.text() | st.integers().map(str) | st.floats().map(str))),
)
def test_hostile_values_are_view_errors_or_make_a_canonical_view(
    kind: type[View], items: list[tuple[str, str]]
) -> None:
    view, problems = from_link(kind, items)
    assert from_pairs(kind, pairs(view)) == view
    for message in map(str, problems):
        assert "\n" not in message
        assert message.isascii()
    if problems:
        with pytest.raises(ViewError):
            from_pairs(kind, items)
    else:
        assert from_pairs(kind, items) == view


def test_the_text_is_readable() -> None:
    view = GenerateView(run="pretrained/forge", step=6566, digits=(0, 1, 2, 3, 7), count=4, seed=42, truncation=0.7)
    assert encode(view) == "generate?run=pretrained/forge&step=6566&digits=0-3.7&count=4&seed=42&truncation=0.7"
    pinned = dataclasses.replace(view, g="0123456789ab")
    assert encode(pinned).startswith("generate?run=pretrained/forge&step=6566&g=0123456789ab&digits=0-3.7&count=4")
    assert encode(GenerateView()) == "generate?count=10&seed=0&truncation=1"
    assert encode(TrainingView(run="runs/quick-1")) == "training?run=runs/quick-1"
    assert encode(HowView(run="runs/quick-1", part=3)) == "how?run=runs/quick-1&part=3&seed=772"


@given(drawing_views, st.sampled_from(["", "0123456789abcdef"]))
def test_a_permalink_is_read_in_each_form(view: DrawingView, px: str) -> None:
    link = Permalink(view, px)
    for text in (link.text, f"http://localhost:8501/{link.text}", f"https://example.org/app/s?{link.query}#x"):
        assert read_link(text) == link
    assert read_link(encode(view)) == Permalink(view)
    assert read_link(f"http://localhost:8501/{encode(view)}") == Permalink(view)


def test_a_permalink_names_version_kind_values_and_digest() -> None:
    text = (
        "s?v=1&kind=interpolate&run=pretrained/forge&step=9370&g=0123456789ab&from_digit=3&from_seed=1&to_digit=8"
        "&to_seed=2&path=slerp&frames=24&px=0123456789abcdef"
    )
    link = read_link(text)
    assert link.text == text
    assert link.view == InterpolateView(
        run="pretrained/forge", step=9370, g="0123456789ab", from_digit=3, from_seed=1, to_digit=8, to_seed=2
    )
    longer = dataclasses.replace(link.view, via=((5, 7), (2, 9)), frame=30, fps=20)
    assert Permalink(longer).text.endswith("&frames=24&via=5.7_2.9&frame=30&fps=20")
    hero = ExploreView(digits=(7,), digit=7, corners=(1, 2, 3, 4), x=0.5, y=0.125)
    assert Permalink(hero).query.endswith("&truncation=1&digit=7&corners=1.2.3.4&x=0.5&y=0.125")
    text = WriteView(text="12:30, 24/12 +1", style="free", seed=5, own=((0, 17), (3, 99)), ink="#1f3fa0", paper="cream")
    assert Permalink(text).query == (
        "v=1&kind=write&text=12%3A30%2C+24/12+%2B1&style=free&seed=5&own=0.17_3.99&truncation=1&spacing=3"
        "&ink=%231f3fa0&paper=cream"
    )
    assert text.digits == (1, 2, 3, 0, 2, 4, 1, 2, 1)
    assert text.seeds == (17, 6, 7, 99, 9, 10, 11, 12, 13)


@pytest.mark.parametrize(
    ("text", "parameter"),
    [
        ("s?v=1&kind=write&text=", "text"),
        ("s?v=1&kind=write&text=12a", "text"),
        ("s?v=1&kind=write&text=%D9%A3", "text"),
        ("s?v=1&kind=write&text=1%0A2", "text"),
        ("s?v=1&kind=write&text=-.-", "text"),
        ("s?v=1&kind=write&text=" + "1" * 25, "text"),
        ("s?v=1&kind=write&text=12&own=2.5", "own"),
        ("s?v=1&kind=write&text=12&own=1.5_0.5", "own"),
        ("s?v=1&kind=write&text=12&own=1", "own"),
        ("s?v=1&kind=write&text=12&style=bold", "style"),
        ("s?v=1&kind=write&text=12&spacing=17", "spacing"),
        ("s?v=1&kind=write&text=12&ink=1f3fa0", "ink"),
        ("s?v=1&kind=write&text=12&ink=%231F3FA0", "ink"),
        ("s?v=1&kind=write&text=12&paper=url(x)", "paper"),
        ("s?v=2&kind=generate", "v"),
        ("s?v=1&kind=training", "kind"),
        ("s?v=1&kind=generate&kind=explore", "kind"),
        ("s?v=1&kind=generate&px=0123", "px"),
        ("s?v=1&kind=generate&px=0123456789ABCDEF", "px"),
        ("s?v=1&kind=generate&seed=-1", "seed"),
        ("s?v=1&kind=generate&x=0.5", "'x'"),
        ("s?v=1&kind=explore&x=0.1234", "x"),
        ("s?v=1&kind=explore&corners=1.2.3", "corners"),
        ("s?v=1&kind=explore&corners=1.2.3.4294967296", "corners"),
        ("s?v=1&kind=interpolate&via=1.2_3.4_5.6_7.8_9.10_1.2_3.4", "via"),
        ("s?v=1&kind=interpolate&via=a", "via"),
        ("s?v=1&kind=interpolate&frames=64&via=1.1_2.2_3.3", "frames"),
        ("s?v=1&kind=interpolate&frames=5&frame=5", "frame"),
        ("s?v=1&kind=interpolate&play=backwards", "play"),
        ("s?v=1&kind=interpolate&fps=31", "fps"),
        ("s?v=1&kind=quiz&answers=01010101010", "answers"),
        ("s?v=1&kind=quiz&answers=0101010102", "answers"),
        ("s?v=1&kind=quiz&writer=5", "writer"),
        ("training?run=runs/quick-1", "link"),
        ("hello", "link"),
        ("generate?" + "a" * 5000, "link"),
        ("generate?a", "link"),
        ("http://[", "link"),
    ],
)
def test_a_bad_permalink_names_the_parameter(text: str, parameter: str) -> None:
    with pytest.raises(ViewError) as caught:
        read_link(text)
    assert caught.value.parameter == parameter


def test_an_explicit_view_names_each_digit() -> None:
    assert GenerateView().explicit(10).digits == tuple(range(10))
    assert GenerateView().explicit(0) == GenerateView()
    hero = ExploreView(digits=(4, 7), seed=5).explicit(10)
    assert (hero.digit, hero.corners) == (4, (5, 6, 7, 8))
    assert ExploreView(seed=MAX_SEED, count=1).explicit(0).corners == (MAX_SEED, 0, 1, 2)
    way = InterpolateView().explicit(10)
    assert (way.from_digit, way.to_digit) == (3, 8)
    assert InterpolateView().explicit(2).stops == ((1, 1), (1, 2))
    slanted = GenerateView(slant=20.0)
    assert slanted.explicit(10, ("slant",)).asked == {"slant": 20}
    with pytest.raises(ViewError, match=r"slant: cannot be chosen: this generator draws without it"):
        slanted.explicit(10, ("width",))


def test_a_writer_is_one_whom_the_generator_knows() -> None:
    view = GenerateView(writer=2154)
    assert encode(view) == "generate?writer=2154&count=10&seed=0&truncation=1"
    assert view.explicit(10, ("writer",), (12, 2154)).asked == {"writer": 2154}
    with pytest.raises(ViewError, match=r"writer: cannot be chosen: this generator draws without it"):
        view.explicit(10, ("slant",))
    with pytest.raises(ViewError, match=r"writer: cannot be chosen: this generator does not know writer 2154"):
        view.explicit(10, ("writer",), (12, 215))
    for text in ("-1", "2.5", "x", "1000001"):
        with pytest.raises(ViewError, match="writer: must be"):
            from_pairs(GenerateView, [("writer", text)])


@pytest.mark.parametrize(
    ("view", "classes", "parameter"),
    [
        (GenerateView(digits=(11,)), 10, "digits"),
        (GenerateView(digits=(1,)), 0, "digits"),
        (GenerateView(count=20), 101, "digits"),
        (ExploreView(digit=10), 10, "digit"),
        (InterpolateView(to_digit=10), 10, "to_digit"),
        (InterpolateView(via=((None, 3),)), 10, "via"),
        (InterpolateView(via=((1, 3),)), 0, "via"),
    ],
)
def test_a_generator_that_cannot_draw_a_digit_is_a_view_error(view: DrawingView, classes: int, parameter: str) -> None:
    with pytest.raises(ViewError) as caught:
        view.explicit(classes)
    assert caught.value.parameter == parameter


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("count=0", "count"),
        ("count=21", "count"),
        ("count=1e1", "count"),
        ("count=+3", "count"),
        ("count=", "count"),
        ("count=3&count=4", "count"),
        ("seed=-1", "seed"),
        ("seed=4294967296", "seed"),
        ("seed=4294967295&count=2", "seed"),
        ("seed=%D9%A3", "seed"),
        ("seed=3%0A", "seed"),
        ("seed=1_000", "seed"),
        ("truncation=nan", "truncation"),
        ("truncation=inf", "truncation"),
        ("truncation=1.5", "truncation"),
        ("truncation=0.123", "truncation"),
        ("truncation=-0", "truncation"),
        ("digits=", "digits"),
        ("digits=a", "digits"),
        ("digits=3-1", "digits"),
        ("digits=1000", "digits"),
        ("run=../../etc/passwd", "run"),
        ("run=runs/../x", "run"),
        ("run=runs/A", "run"),
        ("step=-5", "step"),
        ("step=9999999999999", "step"),
        ("g=0123456789a", "g"),
        ("g=0123456789abc", "g"),
        ("g=0123456789AB", "g"),
        ("g=../../../etc", "g"),
        ("epoch=1", "'epoch'"),
        ("%3Cscript%3E=1", "'<script>'"),
    ],
)
def test_an_invalid_value_names_its_parameter(query: str, parameter: str) -> None:
    with pytest.raises(ViewError) as caught:
        from_pairs(GenerateView, parse_qsl(query, keep_blank_values=True))
    assert caught.value.parameter == parameter


def test_a_very_long_text_gets_a_short_error() -> None:
    with pytest.raises(ViewError, match="whole number") as caught:
        from_pairs(GenerateView, [("seed", "1" * 10_000)])
    assert len(str(caught.value)) < 120


def test_every_field_of_a_view_has_a_type_that_can_be_read() -> None:
    for view in VIEWS.values():
        assert {field.type for field in dataclasses.fields(view)} <= READERS.keys()


def test_a_view_made_by_hand_is_checked_too() -> None:
    for fields in ({"truncation": 0.333}, {"truncation": float("nan")}, {"digits": (3, 1)}, {"digits": ()}):
        with pytest.raises(ViewError):
            GenerateView(**fields)
    with pytest.raises(ViewError, match="path"):
        InterpolateView(path="spiral")


def test_only_invalid_values_of_a_link_are_left_out() -> None:
    items = [("seed", "7"), ("count", "x"), ("colour", "red"), ("truncation", "0.5")]
    view, problems = from_link(GenerateView, items)
    assert view == GenerateView(seed=7, truncation=0.5)
    assert {problem.parameter for problem in problems} == {"count", "'colour'"}
