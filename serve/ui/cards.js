// A choice of assistant, made on a card, on the brand, or with the browser's back button.
// Runs once for each component it is given to; `element` and `trigger` are Gradio's.
element.addEventListener("click", (event) => {
  const link = event.target.closest("[data-assistant]");
  if (!link || event.metaKey || event.ctrlKey || event.shiftKey) return;
  event.preventDefault();
  const assistant = link.dataset.assistant;
  const address = assistant ? `?assistant=${encodeURIComponent(assistant)}` : location.pathname;
  history.pushState({}, "", address);
  trigger("click", { assistant });
});

if (element.querySelector(".hanlin-brand")) {
  addEventListener("popstate", () => {
    const assistant = new URLSearchParams(location.search).get("assistant") ?? "";
    trigger("click", { assistant });
  });
}
