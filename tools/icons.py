"""`python -m tools.icons`: write webapp/icons.woff2, the icons of Streamlit's icon font that the app can show.

The whole font has thousands of icons and is a third of what a first visitor would load. tools/icons.txt lists those
that are kept. Needs `pip install fonttools`.
"""

import re
import sys
from pathlib import Path
from typing import Any

from streamlit.file_util import get_static_dir

WEBAPP = Path(__file__).resolve().parent.parent / "webapp"
FONT, NAMES = WEBAPP / "icons.woff2", Path(__file__).with_name("icons.txt")
SCRIPTS = Path(get_static_dir(), "static", "js")
ICON = re.compile(r":material/([a-z0-9_]+):")
SPARE = """
    add add_link animation arrow_back arrow_forward arrow_upward arrows_outward autorenew blur_on bookmark brush
    calculate category compare content_copy crop_free data_usage delete description diversity_2 double_arrow drag_pan
    draw fast_forward fast_rewind filter_alt fit_screen fullscreen gesture gif gif_box grade grid_view help history
    home html image info insights ios_share keyboard labs layers link lock lock_open looks model_training movie
    neurology open_in_new pause pin play_arrow play_circle psychology public pan_tool qr_code remove repeat replay
    restart_alt route save school search send settings share shuffle skip_next skip_previous speed stop swap_horiz
    swap_vert sync target touch_app tune undo verified visibility warning wb_incandescent zoom_in zoom_out
"""
"""Icons that no page shows yet: a new page can have one of them without a new font."""


def shown(folder: Path, pattern: str) -> set[str]:
    """Return the icons that the files of a folder name."""
    return {name for path in folder.rglob(pattern) for name in ICON.findall(path.read_text(encoding="utf-8"))}


def main() -> int:
    """Write the font and the list; return the exit code."""
    from fontTools import subset  # late: only this command needs it
    from fontTools.ttLib import TTFont

    font = TTFont(next(Path(get_static_dir(), "static", "media").glob("MaterialSymbols-Rounded.*.woff2")))
    wanted = shown(WEBAPP, "*.py") | shown(WEBAPP, "*.js") | shown(SCRIPTS, "*.js") | set(SPARE.split())
    named = _glyphs(font)
    missing = sorted(wanted - named.keys())
    if missing:
        print(f"icons: the font does not have {', '.join(missing)}", file=sys.stderr)
    names = sorted(wanted & named.keys())
    options = subset.Options(flavor="woff2", layout_closure=False, layout_features=["*"], notdef_outline=True)
    chosen = subset.Subsetter(options)
    characters = {ord(character) for name in names for character in name}
    chosen.populate(unicodes=characters, glyphs=[named[name] for name in names])
    chosen.subset(font)
    font.flavor = "woff2"
    font.save(FONT)
    NAMES.write_text("".join(f"{name}\n" for name in names))
    print(f"{FONT.name}: {len(names)} icons, {FONT.stat().st_size:,} bytes")
    return 0


def _glyphs(font: Any) -> dict[str, str]:
    """Return name -> glyph of each icon: a name is a ligature of its letters."""
    letters = {glyph: chr(code) for code, glyph in font.getBestCmap().items()}
    found = {}
    for lookup in font["GSUB"].table.LookupList.Lookup:
        for table in lookup.SubTable:
            for first, ligatures in getattr(getattr(table, "ExtSubTable", table), "ligatures", {}).items():
                for ligature in ligatures:
                    parts = [first, *ligature.Component]
                    if all(part in letters for part in parts):
                        found["".join(letters[part] for part in parts)] = ligature.LigGlyph
    return found


if __name__ == "__main__":
    sys.exit(main())
