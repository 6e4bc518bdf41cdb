// Keeps what is said in this tab, in the tab's own sessionStorage: a reload finds it again, another
// tab never sees it, and it is gone with the tab. What is read here is checked by tab.py.
(() => {
  const NAME = "hanlin-tab";
  const MOST = 500_000;  // characters; a browser gives a site ten times that
  const EACH_MS = 1000;

  const user = () => document.querySelector(".hanlin-bar")?.dataset.user ?? "";

  // What was touched last is last. Without storage (a browser may refuse it) nothing is kept.
  const remembered = () => {
    try {
      const told = JSON.parse(sessionStorage.getItem(NAME));
      return told.kept.every((one) => one.name || one.pair) ? told : null;
    } catch { return null; }
  };
  const found = remembered();
  let kept = found?.kept ?? [];
  let owner = found?.user ?? "";
  let signedOut = false;

  const text = ({ content }) =>
    typeof content === "string" ? content : content.map((piece) => piece.text ?? "").join("");
  const turns = (chat) => (chat ?? []).map((turn) => ({
    role: turn.role,
    text: text(turn),
    ...(turn.metadata?.status === "pending" && { growing: true }),
  }));

  // The two side by side have no name, and are one more.
  const put = (entry) => {
    const before = kept.find((one) => one.name === entry.name);
    if (JSON.stringify(before) === JSON.stringify(entry)) return;
    kept = [...kept.filter((one) => one !== before), entry];
  };

  // The oldest conversation goes first; of the last that is left, the oldest question and answer.
  const forget = () => {
    const [oldest] = kept;
    const chats = (oldest.chats ?? [oldest.chat ?? []]).filter((chat) => chat.length);
    if (kept.length > 1 || !chats.length) return kept.shift();
    for (const chat of chats) {
      const next = chat.findIndex((turn, at) => at > 0 && turn.role === "user");
      chat.splice(0, next < 0 ? chat.length : next);
    }
  };

  const remember = (told) => {
    const [name, chat, message, picked, temperature, top_p, max_tokens, system, ...pair] = told;
    const settings = { temperature, top_p, max_tokens, system: system ?? "" };
    if (name) {
      const mine = picked?.[name] ?? {};
      put({ name, chat: turns(chat), message: message ?? "", settings, picked: mine });
    }
    const [left, right, leftChat, rightChat, both] = pair;
    if (left && right) {
      put({ pair: [left, right], chats: [turns(leftChat), turns(rightChat)], message: both ?? "" });
    }
  };

  // What a hand has just written stands in its box before Gradio tells of it, and a page can go in
  // between. Whose box it is stands above it: what belongs together is drawn in one turn.
  const box = (id) => document.querySelector(`#${id} textarea`)?.value;
  const whose = (id) => document.querySelector(`#${id} .hanlin-about`)?.dataset ?? {};
  const finish = () => {
    const { assistant: name } = whose("about");
    const [message, system, both] = ["message", "system", "pair-message"].map(box);
    if (name && message !== undefined) {
      const before = kept.find((one) => one.name === name)
        ?? { name, chat: [], message, settings: null, picked: {} };
      const told = before.settings;
      put({ ...before, message, settings: told && { ...told, system: system ?? told.system } });
    }
    const { left, right } = whose("pair-head");
    if (left && right && both !== undefined) {
      const before = kept.find((one) => one.pair?.join() === [left, right].join());
      put({ pair: [left, right], chats: before?.chats ?? [[], []], message: both });
    }
  };

  let latest = null;
  let timer = 0;
  const write = () => {
    clearTimeout(timer);
    timer = 0;
    const known = latest || whose("about").assistant || whose("pair-head").left;
    if (!known || signedOut) return;
    if (owner !== user()) [owner, kept] = [user(), []];  // somebody else sits here now
    if (latest) remember(latest);
    finish();
    const told = () => JSON.stringify({ user: owner, kept });
    while (told().length > MOST) forget();
    try { sessionStorage.setItem(NAME, told()); } catch { /* full, or refused */ }
  };

  window.hanlin.tab = {
    // Called with all of it at every change. Gradio brings what belongs together in one turn of the
    // browser's loop, so what a timer finds is never half of one conversation and half of another.
    keep(...told) {
      if (latest && latest[0] !== told[0]) remember(latest);  // the last of who is left
      latest = told;
      timer ||= setTimeout(write, EACH_MS);
    },
    recall() {
      const [visit] = performance.getEntriesByType("navigation");
      const fresh = !found || visit?.type === "navigate";
      return JSON.stringify({ user: owner, fresh, kept },
        (_, value) => value?.toWellFormed?.() ?? value);
    },
  };

  // A phone may throw a tab away that is not looked at, without another word.
  addEventListener("pagehide", write);
  addEventListener("visibilitychange", () => { if (document.hidden) write(); });
  addEventListener("click", (event) => {
    if (!event.target.closest?.(".hanlin-out")) return;
    signedOut = true;
    try { sessionStorage.removeItem(NAME); } catch { /* there was none */ }
  }, { capture: true });
})();
