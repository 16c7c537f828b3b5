// Small things that every part of the page needs.

export const DAY_MS = 86_400_000;

export const $ = (selector, from = document) => from.querySelector(selector);

export function make(tag, className = "", text = "") {
  const element = document.createElement(tag);
  element.className = className;
  element.textContent = text;
  return element;
}

// A length of time, as short as it can be told.
export function span(ms) {
  const s = Math.max(0, ms) / 1000;
  if (s < 60) return `${s < 9.95 ? s.toFixed(1) : Math.round(s)} s`;
  return s < 5400 ? `${Math.round(s / 60)} min` : `${(s / 3600).toFixed(1)} h`;
}

// A stream's time: the time of day, or for a file that is read fast the seconds from its beginning.
export function clockTime(ms) {
  return ms > DAY_MS ? new Date(ms).toLocaleTimeString() : `${(ms / 1000).toFixed(1)} s`;
}

// The same as it stands in an address, and back: 2026-11-27T19:31:05.250Z, or seconds.
export function toLink(ms) {
  return ms > DAY_MS ? new Date(ms).toISOString() : String(ms / 1000);
}

export function fromLink(text) {
  const ms = /^\d+(\.\d+)?$/.test(text ?? "") ? 1000 * text : Date.parse(text);
  return Number.isFinite(ms) ? ms : null;
}
