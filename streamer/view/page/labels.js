// Labels: the colour of each, and which of them the viewer has hidden.

const SALT = 1125;
let colours = ["#7d8ca3"];
const hidden = new Set(stored());
const told = []; // who wants to know that the hidden ones have changed
export const known = new Set(); // all that were seen

function stored() {
  try {
    return JSON.parse(localStorage.getItem("hidden")) ?? [];
  } catch {
    return []; // something else has written there
  }
}

// The same as streamer/view/colours.py
export function colour(label) {
  let hash = 0x811c9dc5 ^ SALT;
  for (const byte of new TextEncoder().encode(label)) hash = Math.imul(hash ^ byte, 0x01000193) >>> 0;
  return colours[((hash ^ (hash >>> 16)) >>> 0) % colours.length];
}

export function setColours(all) {
  colours = all;
}

export function isHidden(label) {
  return hidden.has(label);
}

export function hide(label, yes) {
  hidden[yes ? "add" : "delete"](label);
  localStorage.setItem("hidden", JSON.stringify([...hidden]));
  for (const one of told) one();
}

export function whenHidden(call) {
  told.push(call);
}

// How much room a label needs: some models have labels of a hundred letters.
export function lengthOf(label) {
  return label.length > 56 ? "longest" : label.length > 26 ? "long" : "short";
}
