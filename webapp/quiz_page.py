"""What the permalink of a quiz shows: the ten pairs and the scores of the players, but not which picture was real."""

import html

from models.quiz import ROUNDS
from models.views import Permalink, QuizView
from webapp.game import Game

INTRO = "In each pair, one digit was written by hand, and a neural network drew the other."
COLUMNS = ROUNDS
"""Pictures in a row of the sheet of all pairs: five pairs."""


def title(game: Game, answers: str) -> str:
    """Return what was found, such as `Real or fake? 7 of 10; the detective 9, the reader 6`."""
    if not answers:
        return "Real or fake? Ten pairs of digits"
    others = [f"the {name.lower()} {game.score(bets)}" for name, bets in game.others]
    return f"Real or fake? {game.score(answers)} of {ROUNDS}; {', '.join(others)}"


def words(view: QuizView) -> str:
    """Return what the game is, and what to do."""
    return f"{INTRO} {'Can you do better?' if view.answers else 'Can you tell which?'}"


def board(game: Game, link: Permalink, answers: str, actions: str) -> str:
    """Return scores, `actions` and pairs as HTML. What was real is behind a click: one may want to play first."""
    sheet = html.escape(f"s/image.png?{link.query}")
    items = "".join(_pair(game, number, answers, sheet) for number in range(ROUNDS))
    sides = ", ".join(f"{number} {'right' if side == '1' else 'left'}" for number, side in enumerate(game.real, 1))
    return f"""{_scores(game, answers) if answers else ""}
{actions}
<ol class="pairs">{items}</ol>
<details><summary>Which were written by hand?</summary><p>{sides}</p></details>"""


def _pair(game: Game, number: int, answers: str, sheet: str) -> str:
    label = game.digits[number]
    name = "Two digits" if label is None else f"Two {label}s"
    pictures = "".join(f'<span style="{_place(2 * number + side, sheet)}"></span>' for side in (0, 1))
    text = f'<span class="two" role="img" aria-label="{name}">{pictures}</span>'
    if not answers:
        return f"<li>{text}</li>"
    is_right = answers[number] == game.real[number]
    sign = f'<span aria-hidden="true">{"&#10003;" if is_right else "&#10007;"}</span>'
    return f'<li class="{"right" if is_right else "wrong"}">{text}{sign} {"Correct" if is_right else "Wrong"}</li>'


def _place(number: int, sheet: str) -> str:
    """Return the style of an element that shows picture `number` of a sheet of two rows; see share_page.css."""
    row, column = divmod(number, COLUMNS)
    position = f"{100 * column / (COLUMNS - 1):.3f}% {100 * row}%"
    return f"background-image: url(&quot;{sheet}&quot;); background-position: {position}"


def _scores(game: Game, answers: str) -> str:
    rows = "".join(
        f'<tr><th scope="row">{name}</th><td>{game.score(bets)} of {ROUNDS}</td></tr>'
        for name, bets in (("Player", answers), *game.others)
    )
    return f'<table class="scores">{rows}</table>'
