// Keeps hands from what they did not mean: the Enter that ends a word of an input method, and the
// second half of a double click, which falls on the button that took the place of the first one.
(() => {
  addEventListener("keydown", (event) => {
    // Safari ends the word before it tells of the key; the number is all that is left of it there.
    const composing = event.isComposing || event.keyCode === 229;
    if (composing && event.key === "Enter") event.stopImmediatePropagation();
  }, { capture: true });

  addEventListener("click", (event) => {
    if (event.detail < 2 || !event.target.closest?.(".stop-button")) return;
    event.stopImmediatePropagation();
    event.preventDefault();
  }, { capture: true });
})();
