// Keeps quick hands from what they did not mean: the second half of a double click falls on the
// button that took the place of the first one, and would stop what was just sent.
(() => {
  addEventListener("click", (event) => {
    if (event.detail < 2 || !event.target.closest?.(".stop-button")) return;
    event.stopImmediatePropagation();
    event.preventDefault();
  }, { capture: true });
})();
