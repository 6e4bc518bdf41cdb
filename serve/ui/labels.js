// Says Gradio's labels in the page's language (labels.py), and again whenever Gradio draws anew.
(() => {
  let told = "";
  let words = [];
  const given = new WeakMap();  // element → what Gradio called it, and what it is called here

  const said = (label) => {
    for (const [theirs, ours] of words) {
      if (label === theirs) return ours;
      if (theirs.endsWith(" ") && label.startsWith(theirs)) return ours + label.slice(theirs.length);
    }
    return undefined;
  };

  // What stands on these two is given when an answer begins and ends, and not when one switches.
  const write = (button, word) => {
    const text = [...button.childNodes].find((node) => node.nodeType === 3 && node.data.trim());
    if (text && text.data !== word) text.data = word;
  };

  const retell = (element) => {
    const ours = said(element.textContent);
    if (ours !== undefined && ours !== element.textContent) element.textContent = ours;
  };

  const relabel = () => {
    const bar = document.querySelector(".hanlin-bar");
    if (!bar) return;
    for (const button of document.querySelectorAll(".submit-button")) write(button, bar.dataset.send);
    for (const button of document.querySelectorAll(".stop-button")) write(button, bar.dataset.stop);
    if (told !== bar.dataset.labels) {
      told = bar.dataset.labels;
      words = Object.entries(JSON.parse(told));
    }
    document.querySelectorAll('[data-testid="toast-text"]').forEach(retell);
    for (const element of document.querySelectorAll("[aria-label]")) {
      const shown = element.getAttribute("aria-label");
      const last = given.get(element);  // what somebody else has named since is left alone
      const theirs = last?.ours === shown ? last.theirs : shown;
      const ours = said(theirs);
      if (ours === undefined || ours === shown) continue;
      given.set(element, { theirs, ours });
      element.setAttribute("aria-label", ours);
      if (element.title) element.title = ours;
    }
  };

  new MutationObserver(relabel).observe(document, {
    childList: true,
    characterData: true,
    subtree: true,
    attributeFilter: ["aria-label", "data-labels"],
  });
})();
