// The keys of the page, what they do, and the list of them that `?` shows.

import { $, make } from "./dom.js";

const keys = []; // {key, shown, what, act}

// `act` gets the step for keys that come in pairs, such as the arrows.
export function onKey(shown, key, what, act) {
  keys.push({ shown, key, what, act });
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
  const inDialog = document.querySelector("dialog[open]");
  const found = keys.find((one) => one.key === key.toLowerCase() || one.key === key);
  if (!found || (inDialog && inDialog !== found.act.within)) return;
  if (found.act(target) !== false) event.preventDefault();
});
