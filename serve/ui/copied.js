// What is copied of an answer is the answer, without what the page itself has to say beside it.
(() => {
  const NOTICE = /\n?<p class="hanlin-notice">.*?<\/p>/g;

  // Where the page alone has spoken, its words are copied, and not how they are marked up.
  const bare = (text) => {
    const said = text.replace(NOTICE, "");
    if (said || !text) return said;
    return new DOMParser().parseFromString(text, "text/html").body.innerText;
  };

  const clipboard = navigator.clipboard;
  if (clipboard) {
    const write = clipboard.writeText.bind(clipboard);
    clipboard.writeText = (text) => write(bare(text));
  }

  // A page that is not served by https has no clipboard; Gradio copies out of a field there.
  addEventListener("copy", (event) => {
    const { value } = event.target;
    if (!value?.match(NOTICE)) return;
    event.clipboardData.setData("text/plain", bare(value));
    event.preventDefault();
  });
})();
