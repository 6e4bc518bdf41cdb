// What must work before and beside Gradio: light or dark, the Esc key, the document's language.
(() => {
  const THEME = "hanlin-theme";

  const remembered = () => {
    try { return localStorage.getItem(THEME); } catch { return null; }
  };

  const paint = (dark) => document.body.classList.toggle("dark", dark);

  const house = () => document.querySelector("#house");
  const drawer = (open) => {
    house()?.toggleAttribute("data-drawer", open);
    const button = document.querySelector("#settings");
    button?.setAttribute("aria-expanded", String(open));
    if (open) document.querySelector("#drawer .hanlin-close")?.focus();
    else button?.focus();
  };

  window.hanlin = {
    drawer() { drawer(!house()?.hasAttribute("data-drawer")); },
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
    const bar = document.querySelector(".hanlin-bar");
    if (!bar) return;
    if (document.documentElement.lang !== bar.lang) document.documentElement.lang = bar.lang;
    for (const box of ["#message", "#pair-message"]) {
      name(`${box} button.submit-button`, bar.dataset.send);
      name(`${box} button.stop-button`, bar.dataset.stop);
    }
    name("#theme", bar.dataset.theme);
    for (const copy of document.querySelectorAll('[aria-label="Copy message"]')) {
      copy.setAttribute("aria-label", bar.dataset.copy);  // the one button Gradio has no Chinese for
      copy.title = bar.dataset.copy;
    }
    const card = document.querySelector(".hanlin-cards [aria-current]");
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
    const shown = document.querySelector(".hanlin-bar")?.dataset.language;
    const chosen = shown === "zh" ? "en" : "zh";
    const year = 60 * 60 * 24 * 365;
    document.cookie = `hanlin-language=${chosen}; path=/; max-age=${year}; samesite=lax`;
  }, { capture: true });

  addEventListener("click", (event) => {
    if (event.target.closest?.(".hanlin-close")) drawer(false);
  });

  // A message that is being edited has two buttons below it: send, and leave it as it was.
  const edited = (event) => {
    if (!event.target.matches?.(".edit-textarea") || event.isComposing) return;
    const below = event.target.closest(".message-row")?.nextElementSibling;
    const [send, leave] = below?.querySelectorAll("button") ?? [];
    if (event.key === "Enter" && !event.shiftKey) {
      event.preventDefault();
      send?.click();
    } else if (event.key === "Escape") {
      leave?.click();
    }
  };

  addEventListener("keydown", (event) => {
    edited(event);
    if (event.key !== "Escape" || event.isComposing) return;
    const stop = document.querySelector(".hanlin-message button.stop-button");
    if (stop) stop.click();
    else if (event.target.closest?.("#drawer")) drawer(false);
  });
})();
