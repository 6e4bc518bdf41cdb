// Where to go on the page, by a card, the brand, a link of the bar, or the browser's back button.
// Runs once for each component it is given to; `element` and `trigger` are Gradio's.
const go = (address) => window.hanlin.go((step) => trigger("click", { address, step }));

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
