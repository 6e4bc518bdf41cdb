// What quick hands mean, where the page is slower than they are.
(() => {
  // The second half of a double click falls on the button that took the place of the first one, and
  // would stop what was just sent.
  addEventListener("click", (event) => {
    if (event.detail < 2 || !event.target.closest?.(".stop-button")) return;
    event.stopImmediatePropagation();
    event.preventDefault();
  }, { capture: true });

  // One step at a time, be it to another place, into another language, or only to what is new in
  // the house: of two that are on their way, either can reach the server, or the screen, first. The
  // bar says which one is drawn; of those of one kind that wait, the last is meant.
  const PATIENCE_MS = 10_000;
  const steps = { taken: 0, at: 0, waiting: new Map() };
  const drawn = () => Number(document.querySelector(".hanlin-bar")?.dataset.step);
  const underWay = () => drawn() !== steps.taken && Date.now() - steps.at < PATIENCE_MS;
  const next = () => {
    if (!steps.waiting.size || underWay()) return;
    const [kind, take] = steps.waiting.entries().next().value;
    steps.waiting.delete(kind);
    steps.taken += 1;
    steps.at = Date.now();
    take(steps.taken);
  };
  window.hanlin.step = (kind, take) => {
    steps.waiting.set(kind, take);
    next();
  };
  // What belongs together is drawn in one turn of the browser's loop: after it all of it is there.
  new MutationObserver(() => setTimeout(next))
    .observe(document, { childList: true, subtree: true, attributeFilter: ["data-step"] });

  const sent = {};  // box → what of it is on its way, and what a hand has made of it since
  let wrote = false;  // whether the last thing a hand did was to write, and not to pick
  for (const kind of ["input", "change", "pointerdown", "keydown"]) {
    addEventListener(kind, ({ target }) => {
      const box = target.closest?.(".hanlin-message");
      if (box && kind === "input") wrote = true;
      if (box && sent[box.id]) sent[box.id].now = target.value;
      if (target.closest?.("#controls")) wrote = false;
    }, { capture: true });
  }

  window.hanlin.hands = {
    send(id, text) { sent[id] = { text, now: text }; },

    // The server empties a box of what was sent; what was written on by then is not meant.
    rest(id, text) {
      const box = sent[id];
      if (text || !box) return undefined;
      delete sent[id];
      if (!document.querySelector(`#${id} .stop-button`) || box.now === box.text) return undefined;
      return box.now.startsWith(box.text) ? box.now.slice(box.text.length) : box.now;
    },

    // The button that sends is there again once the page would really send: until Gradio has done
    // with an answer, it passes over whoever asks for another.
    ready(...chats) {
      const { send } = document.querySelector(".hanlin-bar").dataset;
      const growing = chats.some((chat) => chat?.at(-1)?.metadata?.status === "pending");
      return growing ? undefined : { __type__: "update", submit_btn: send, stop_btn: false };
    },

    // A prompt comes from the gateway. Who has begun to write by then, or has gone elsewhere, keeps
    // what is there.
    proposed(one, whose, text) {
      const wanted = one?.prompt && one.whose === whose && (one.picked ? !wrote : !text);
      return wanted ? one.prompt : undefined;
    },
  };
})();
