"""How the page looks: paper, ink and one seal red, in fonts that are already on the machine."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import gradio as gr
from gradio.themes.utils import colors, sizes

HERE = Path(__file__).parent
SHEETS = ("page.css", "phone.css")
SCRIPTS = ("page.js", "aloud.js", "keep.js", "labels.js", "hands.js", "copied.js")

ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32">'
    '<rect width="32" height="32" rx="6" fill="#b0452f"/><text x="16" y="23.5" fill="#fff" '
    'font-family="Songti SC,Noto Serif CJK SC,Noto Serif SC,SimSun,serif" font-size="21" '
    'font-weight="600" text-anchor="middle">翰</text></svg>'
)

SANS = (
    "system-ui",
    "-apple-system",
    "Segoe UI",
    "PingFang SC",
    "Hiragino Sans GB",
    "Microsoft YaHei",
    "Noto Sans CJK SC",
    "Noto Sans SC",
    "sans-serif",
)
MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")

SEAL = colors.Color(
    "#fbf1ee", "#f5dfd9", "#ebc0b5", "#dc998a", "#c96f5c", "#b0452f",
    "#9a3a27", "#7f3021", "#66281d", "#52221a", "#2d100c", name="seal",
)  # fmt: skip
INK = colors.Color(
    "#faf8f3", "#f3f0e8", "#e6e1d5", "#d2cbbb", "#a59d8c", "#726a5c",
    "#5f584c", "#484238", "#2f2b25", "#22201c", "#191714", name="ink",
)  # fmt: skip


def theme() -> gr.themes.Base:
    """Gradio's plain theme in our colours; nothing is fetched for it."""
    return gr.themes.Base(
        primary_hue=SEAL,
        secondary_hue=SEAL,
        neutral_hue=INK,
        text_size=sizes.text_md,
        radius_size=sizes.radius_md,
        font=SANS,
        font_mono=MONO,
    ).set(
        body_background_fill="*neutral_50",
        body_background_fill_dark="*neutral_950",
        background_fill_primary="#fffdf9",
        background_fill_primary_dark="*neutral_900",
        background_fill_secondary="*neutral_100",
        background_fill_secondary_dark="*neutral_800",
        body_text_color="*neutral_900",
        body_text_color_dark="*neutral_200",
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_400",
        color_accent_soft="*primary_50",
        color_accent_soft_dark="*primary_950",
        border_color_accent_subdued="*primary_100",
        border_color_accent_subdued_dark="*primary_900",
        border_color_primary="*neutral_200",
        border_color_primary_dark="*neutral_700",
        button_primary_background_fill="*primary_500",
        button_primary_background_fill_hover="*primary_600",
        button_primary_background_fill_dark="*primary_500",
        button_primary_text_color="#ffffff",
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_400",
        block_title_text_color="*neutral_700",
        block_title_text_color_dark="*neutral_200",
        input_background_fill="#fffdf9",
        input_background_fill_dark="*neutral_900",
        input_border_width="1px",
        input_border_width_dark="1px",
        input_border_color="*neutral_300",
        input_border_color_dark="*neutral_600",
        input_border_color_focus="*primary_500",
        input_border_color_focus_dark="*primary_400",
        input_placeholder_color="*neutral_500",
        input_placeholder_color_dark="*neutral_400",
        checkbox_label_background_fill="#fffdf9",
        checkbox_label_background_fill_dark="*neutral_900",
        checkbox_label_background_fill_selected="*primary_50",
        checkbox_label_background_fill_selected_dark="*primary_950",
        checkbox_background_color_dark="*neutral_900",
        checkbox_border_color="*neutral_400",
        checkbox_border_color_dark="*neutral_500",
        slider_color="*primary_500",
        slider_color_dark="*primary_400",
        code_background_fill_dark="*neutral_800",
    )


def css() -> str:
    """The page's own style sheets."""
    return "".join((HERE / name).read_text(encoding="utf-8") for name in SHEETS)


def icon() -> str:
    """The seal in the browser's tab, without a request of its own."""
    return f'<link rel="icon" type="image/svg+xml" href="data:image/svg+xml,{quote(ICON)}">'


def head() -> str:
    """The page's icon, and its own scripts, run before anything is drawn."""
    scripts = ((HERE / name).read_text(encoding="utf-8") for name in SCRIPTS)
    return icon() + "".join(f"<script>{script}</script>" for script in scripts)
