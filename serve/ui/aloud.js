// What a screen reader is told that Gradio leaves out: when an answer comes and what it says, whose
// field a field is, and what a group of choices is for. Beside it: the page's title in the tab.
(() => {
  const HOUSE = "翰林 Hanlin";

  const set = (element, attribute, value) => {
    if (element && value && element.getAttribute(attribute) !== value) {
      element.setAttribute(attribute, value);
    }
  };
  const every = (selector) => document.querySelectorAll(`.gradio-container ${selector}`);

  // Gradio's log would say a growing answer again with each word. So it is silent, and here it is
  // said that one comes, why it is late, and what it is once it is whole.
  const ear = document.createElement("div");
  ear.setAttribute("role", "status");
  ear.className = "hanlin-heard";
  const say = (words) => { ear.textContent = words; };

  const lastOf = (chat) => {
    const rows = [...chat.querySelectorAll(".message-row")];
    const asked = rows.findLastIndex((row) => row.classList.contains("user-row"));
    return rows.slice(asked + 1).map((row) => row.innerText.trim()).filter(Boolean).join(" ");
  };

  let answering = null;
  let late = false;
  const follow = (bar) => {
    const stop = document.querySelector(".hanlin-message button.stop-button");
    const room = stop?.closest("#room, #pair") ?? null;
    if (room && !answering) {
      answering = room;
      late = false;
      say(bar.dataset.answering);
    } else if (room && !late) {
      const notice = room.querySelector(".latest .hanlin-notice");
      late = Boolean(notice);
      if (late) say(notice.innerText);
    } else if (!room && answering) {
      const chats = [...answering.querySelectorAll(".hanlin-chat")];
      const several = chats.length > 1;
      say(chats.map((chat) => {
        const whose = chat.querySelector("[role=log]")?.getAttribute("aria-label");
        return several ? `${whose}: ${lastOf(chat)}` : lastOf(chat);
      }).join("\n"));
      answering = null;
    }
  };

  const chats = (bar) => {
    for (const log of every("[role=log]")) set(log, "aria-live", "off");
    for (const side of ["left", "right"]) {
      const log = document.querySelector(`#chat-${side} [role=log]`);
      set(log, "aria-label", document.querySelector(`#pick-${side} input`)?.ariaLabel);
    }
    for (const beginning of every(".placeholder-content[role]")) beginning.removeAttribute("role");
    for (const examples of every(".examples[role=list]")) {
      examples.setAttribute("role", "group");
      set(examples, "aria-label", bar.dataset.examples);
    }
    for (const example of every(".example[aria-label]")) example.removeAttribute("aria-label");
  };

  const fields = () => {
    for (const label of every("label:has(textarea)")) {
      set(label.querySelector("textarea"), "aria-label", label.firstElementChild?.innerText.trim());
    }
    for (const group of every("fieldset")) {
      set(group, "aria-label", group.querySelector('[data-testid="block-info"]')?.innerText.trim());
      // One name makes them one group to the keyboard: Tab reaches it once, arrows go through it.
      const [first, ...others] = group.querySelectorAll("input[type=radio]");
      for (const other of others) set(other, "name", first.name);
    }
    // A chart is a picture with a name; its numbers stand in the table above.
    for (const chart of every(".hanlin-chart .vega-embed")) {
      set(chart, "role", "img");
      set(chart, "aria-label", chart.closest(".hanlin-chart").querySelector("h3")?.innerText);
      set(chart.querySelector("svg"), "aria-hidden", "true");
    }
    set(document.querySelector("#settings"), "aria-controls", "drawer");
    set(document.querySelector("#drawer"), "role", "region");
    set(document.querySelector("#drawer"), "aria-label",
      document.querySelector(".hanlin-drawer-head h2")?.innerText);
  };

  const title = (bar) => {
    const view = bar.querySelector("[aria-current]");
    const chosen = document.querySelector(".hanlin-cards [aria-current] strong");
    const where = view === bar.firstElementChild ? chosen : view;
    const told = where ? `${where.textContent} · ${HOUSE}` : HOUSE;
    if (document.title !== told) document.title = told;
  };

  const attend = () => {
    if (!ear.isConnected && document.body) document.body.append(ear);
    const bar = document.querySelector(".hanlin-bar");
    if (!bar) return;
    chats(bar);
    fields();
    follow(bar);
    title(bar);
  };

  new MutationObserver(attend).observe(document, {
    childList: true,
    subtree: true,
    characterData: true,
    attributeFilter: ["aria-label", "aria-current", "role", "name"],
  });
})();
