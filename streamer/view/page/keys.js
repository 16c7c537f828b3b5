// The keys of the page, what they do, and the list of them that `?` shows.

import { $, make } from "./dom.js";

const keys = []; // {key, shown, what, act, within}

// `act` returns false where the key is not for it; `within`: a dialog in which the key works, and nowhere else.
export function onKey(shown, key, what, act, within = null) {
  keys.push({ shown, key, what, act, within });
}

export function showKeys() {
  const list = $("#keys-dialog dl");
  const rows = keys.filter(({ what }) => what).map(({ shown, what }) => {
    const row = make("div");
    row.append(make("dt", "", shown), make("dd", "", what));
    return row;
  });
  list.replaceChildren(...rows);
  $("#keys-dialog").showModal();
}

document.addEventListener("keydown", (event) => {
  const { key, target, ctrlKey, metaKey, altKey } = event;
  if (ctrlKey || metaKey || altKey || target.matches("input:not([type=checkbox], [type=range]), select")) return;
  const within = document.querySelector("dialog[open]");
  const found = keys.find((one) => (one.key === key.toLowerCase() || one.key === key) && one.within === within);
  if (!found) return;
  if (found.act(target) !== false) event.preventDefault();
});
