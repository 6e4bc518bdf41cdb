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

  // A link that is drawn anew loses the focus to nothing, and Tab would begin at the top again. So
  // the same link gets it back; who chose an assistant by keyboard goes on to the message.
  let last = null;
  const lost = () => {
    if (document.activeElement !== document.body || !last || last.element.isConnected) return;
    document.querySelector(last.again)?.focus({ preventScroll: true });
  };
  const link = (element) => {
    const place = element.closest("#brand, #bar, #cards");
    const address = CSS.escape(element.getAttribute("href"));
    return `#${place.id} a[href="${address}"]`;
  };
  addEventListener("focusin", ({ target }) => {
    last = target.matches("[data-place]") ? { element: target, again: link(target) } : null;
  });
  addEventListener("click", ({ target, detail }) => {
    if (detail === 0 && last && target.matches(".hanlin-card")) last.again = "#message textarea";
  }, { capture: true });

  // Where the end of a conversation is seen it stays seen when something else takes of its room.
  const away = new WeakSet();
  addEventListener("scroll", ({ target }) => {
    if (!target.matches?.(".bubble-wrap")) return;
    const below = target.scrollHeight - target.scrollTop - target.clientHeight;
    away[below > 8 ? "add" : "delete"](target);
  }, { capture: true, passive: true });
  const resized = new ResizeObserver((entries) => {
    for (const { target } of entries) {
      const said = target.querySelector(".message-row");
      if (said && !away.has(target)) target.scrollTop = target.scrollHeight;
    }
  });

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
    const card = document.querySelector(".hanlin-cards [aria-current]");
    if (card && card !== current) card.scrollIntoView({ block: "nearest", inline: "center" });
    current = card;
    document.querySelectorAll(".bubble-wrap").forEach((chat) => resized.observe(chat));
    lost();
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

  // On a phone the drawer lies over the page, and a touch beside it closes it.
  addEventListener("click", ({ target }) => {
    const shown = document.querySelector("#drawer");
    const over = shown && getComputedStyle(shown).position === "fixed";
    const beside = over && !target.closest?.("#drawer, #settings");
    if (beside || target.closest?.(".hanlin-close")) drawer(false);
  }, { capture: true });

  // A message that is being edited has two buttons below it: send, and leave it as it was.
  // The Enter that ends a word of an input method is not meant for them. Safari ends the word
  // before it tells of the key; the number is all that is left of it there.
  const edited = (event) => {
    const composing = event.isComposing || event.keyCode === 229;
    if (!event.target.matches?.(".edit-textarea") || composing) return;
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
