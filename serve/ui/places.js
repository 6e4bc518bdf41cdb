// Where to go on the page, by a card, the brand, a link of the bar, or the browser's back button;
// and what draws it anew without going anywhere.
// Runs once for each component it is given to; `element` and `trigger` are Gradio's.
const step = (kind, event, told) =>
  window.hanlin.step(kind, (taken) => trigger(event, { ...told, step: taken }));
const go = (address) => step("place", "click", { address });

element.addEventListener("click", (event) => {
  const link = event.target.closest("[data-place]");
  if (!link || event.metaKey || event.ctrlKey || event.shiftKey) return;
  event.preventDefault();
  const address = link.getAttribute("href");
  history.pushState({}, "", address === "./" ? location.pathname : address);
  go(address);
});

if (element.querySelector(".hanlin-brand")) {
  addEventListener("popstate", () => go(location.search));
}

if (element.querySelector(".hanlin-bar")) {
  window.hanlin.translate = () => {
    const shown = element.querySelector(".hanlin-bar").dataset.language;
    step("language", "select", { language: shown === "zh" ? "en" : "zh" });
  };
  window.hanlin.refresh = () => step("news", "tick", {});
}
