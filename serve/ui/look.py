"""How the page looks: paper, ink and one seal red, in fonts that are already on the machine."""

from __future__ import annotations

from pathlib import Path

import gradio as gr
from gradio.themes.utils import colors, sizes

HERE = Path(__file__).parent

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
    "#faf8f3", "#f3f0e8", "#e6e1d5", "#d2cbbb", "#a59d8c", "#7d7566",
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
    )


def css() -> str:
    """The page's own style sheet."""
    return (HERE / "page.css").read_text(encoding="utf-8")


def head() -> str:
    """The page's own script, run before anything is drawn."""
    return f"<script>{(HERE / 'page.js').read_text(encoding='utf-8')}</script>"


def login() -> str:
    """The name of the house above the way in, and its look: Gradio's form takes no other style."""
    style = (HERE / "login" / "login.css").read_text(encoding="utf-8")
    return (
        f"<style>{style}</style>"
        '<span class="hanlin-seal" aria-hidden="true">翰</span>'
        '<span class="hanlin-name">翰林 <small>Hanlin</small></span>'
    )
