// What must work before and beside Gradio: light or dark, the Esc key, the document's language.
(() => {
  const THEME = "hanlin-theme";

  const remembered = () => {
    try { return localStorage.getItem(THEME); } catch { return null; }
  };

  const paint = (dark) => document.body.classList.toggle("dark", dark);

  window.hanlin = {
    theme() {
      const dark = !document.body.classList.contains("dark");
      paint(dark);
      try { localStorage.setItem(THEME, dark ? "dark" : "light"); } catch { /* private window */ }
    },
  };

  const name = (selector, label) => {
    const element = document.querySelector(selector);
    if (element && label && element.getAttribute("aria-label") !== label) {
      element.setAttribute("aria-label", label);
    }
  };

  // Gradio redraws as it likes; what it leaves unsaid to a screen reader is said again.
  let current = null;
  const attend = () => {
    const cards = document.querySelector(".hanlin-cards");
    if (!cards) return;
    if (document.documentElement.lang !== cards.lang) document.documentElement.lang = cards.lang;
    name("#message button.submit-button", cards.dataset.send);
    name("#message button.stop-button", cards.dataset.stop);
    name("#theme", cards.dataset.theme);
    const card = cards.querySelector("[aria-current]");
    if (card && card !== current) card.scrollIntoView({ block: "nearest", inline: "center" });
    current = card;
  };

  const begin = () => {
    new MutationObserver(attend).observe(document.body, {
      childList: true,
      subtree: true,
      attributeFilter: ["lang", "aria-current"],
    });
    const theme = remembered();
    if (theme) setTimeout(() => paint(theme === "dark"));
  };
  if (document.body) begin();
  else addEventListener("DOMContentLoaded", begin);

  // Heard before Gradio redraws, so the language still shown is the one being left.
  addEventListener("click", (event) => {
    if (!event.target.closest?.("#language")) return;
    const shown = document.querySelector(".hanlin-cards")?.dataset.language;
    const chosen = shown === "zh" ? "en" : "zh";
    const year = 60 * 60 * 24 * 365;
    document.cookie = `hanlin-language=${chosen}; path=/; max-age=${year}; samesite=lax`;
  }, { capture: true });

  addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || event.isComposing) return;
    document.querySelector("#message button.stop-button")?.click();
  });
})();
