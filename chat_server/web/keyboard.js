/** Keys that move through the messages, and the list of all keys. */

const KEYS_FROM = "ArrowUp, ArrowDown";

const $ = (id) => document.getElementById(id);

/** @param {function} onWrite called when the user goes back to writing. */
export function listenToKeys(onWrite) {
  const scroller = $("scroller");
  scroller.setAttribute("aria-keyshortcuts", KEYS_FROM);
  scroller.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || isWriting(event.target)) return;
    if (event.key === "Escape") onWrite();
    else if (event.key === "ArrowUp" || event.key === "ArrowDown") step(event.key === "ArrowUp" ? -1 : 1);
    else return;
    event.preventDefault();
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "?" || isWriting(event.target) || document.querySelector("dialog[open]")) return;
    event.preventDefault();
    $("keys").showModal();
  });
  $("keys-close").addEventListener("click", () => $("keys").close());
}

function isWriting(node) {
  return node.closest?.("input, textarea, select, [contenteditable]") !== null;
}

/** Let the message before or behind have the focus; from outside the last one that is seen. */
function step(by) {
  const rows = [...document.querySelectorAll("#log > .message, #outbox > .message")];
  const at = rows.indexOf(document.activeElement.closest("#scroller .message"));
  const { bottom } = $("scroller").getBoundingClientRect();
  const seen = rows.findLast((row) => row.getBoundingClientRect().top < bottom);
  const row = at < 0 ? seen : rows[at + by];
  if (!row) return;
  row.tabIndex = -1;
  row.focus();
}
