"""Draws the sprite sheet from Noto Color Emoji.  Only needed when the kinds of objects change.

    python assets/scenes/make_sprites.py /path/to/NotoColorEmoji.ttf

Each glyph is drawn at the font's own size (109 px), cropped, fitted into a square of 128 px and centred; the sheet
holds them row by row in the order of ``grammar.KINDS``.
"""

import sys
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from tdm_core.scenes.grammar import KINDS
from tdm_core.scenes.render import SHEET, SHEET_COLUMNS, SPRITE_PX

EMOJI = dict(
    zip(
        KINDS,
        "🐱 🐶 🦊 🐼 🐸 🦉 🐧 🐙 🦀 🍎 🍋 🍩 🍕 🍄 🌻 🌵 🏠 🚀 ⚽ 🤖".split(),
        strict=True,
    )
)


def glyph(font: ImageFont.FreeTypeFont, text: str) -> Image.Image:
    drawn = Image.new("RGBA", (170, 170))
    ImageDraw.Draw(drawn).text((15, 15), text, font=font, embedded_color=True)
    drawn = drawn.crop(drawn.getbbox())
    scale = SPRITE_PX / max(drawn.size)
    drawn = drawn.resize((round(drawn.width * scale), round(drawn.height * scale)), Image.Resampling.LANCZOS)
    square = Image.new("RGBA", (SPRITE_PX, SPRITE_PX))
    square.alpha_composite(drawn, ((SPRITE_PX - drawn.width) // 2, (SPRITE_PX - drawn.height) // 2))
    return square


def main(font_path: Path) -> None:
    font = ImageFont.truetype(str(font_path), 109)
    rows = -(-len(EMOJI) // SHEET_COLUMNS)
    sheet = Image.new("RGBA", (SHEET_COLUMNS * SPRITE_PX, rows * SPRITE_PX))
    for index, text in enumerate(EMOJI.values()):
        row, column = divmod(index, SHEET_COLUMNS)
        sheet.alpha_composite(glyph(font, text), (column * SPRITE_PX, row * SPRITE_PX))
    sheet.save(SHEET, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
