// The page: it reads the label stream's messages (streamer/labels.schema.json) from a WebSocket, and shows each stream
// in a tile of its own; streamer/view/viewer.py tells what goes over the WebSocket.
//
// connection.js  the WebSocket      tile.js    one stream          keys.js    the keyboard
// layout.js      how tiles lie      tune.js    thresholds          clips.js   clips and what people say of them
// timeline.js, labels.js, dom.js    what several need

import * as clips from "./clips.js";
import * as connection from "./connection.js";
import { $, clockTime, fromLink, make, span } from "./dom.js";
import { onKey, showKeys } from "./keys.js";
import { colour, hide, isHidden, known, setColours, whenHidden } from "./labels.js";
import { grid } from "./layout.js";
import { Tile } from "./tile.js";
import * as tune from "./tune.js";

const DRAW_MS = 66; // timelines
const TELL_MS = 200; // bars and numbers: slow enough to read
const STATUS_MS = 5000; // the run's settings, which others may change
const STALE_MS = 10_000; // what the publisher did before it was restarted stays this long

const streams = $("#streams");
const tiles = new Map(); // in the order of the configuration
let session = null;
let whyNot = null; // why this browser can change nothing; null: it can

connection.onHello((hello) => {
  whyNot = hello.why_not;
  clips.allow(hello.clips, whyNot);
  $("#tune").hidden = !hello.asks;
  $("#model").disabled = whyNot !== null;
  $("#model").title = whyNot ?? "Let another model take over (M)";
  $("#model-name").replaceChildren(...hello.models.map((name) => Object.assign(make("option", "", name), { value: name })));
  askStatus();
  setColours(hello.colours);
  streams.dataset.pictures = hello.pictures ? "yes" : "no";
  for (const name of hello.order) tile(name);
  shown = ""; // what was missed is asked for again
  arrange();
});

connection.onMessages((messages, anew) => {
  for (const message of messages) {
    tile(message.stream).see(message, !anew);
    if (message.session !== session) setTimeout(sweep, STALE_MS);
    session = message.session;
  }
});

connection.onPast(({ stream, messages }) => {
  for (const message of messages) tiles.get(stream)?.[`on_${message.kind}`](message);
  tiles.get(stream)?.mark();
});

connection.onPicture((name, jpeg) => tiles.get(name)?.show(jpeg));

function tile(name) {
  let found = tiles.get(name);
  if (!found) {
    tiles.set(name, (found = new Tile(name, open, clips.open)));
    streams.append(found.element);
    visible.observe(found.element);
    arrange();
  }
  return found;
}

// Streams that the restarted publisher does not have.
function sweep() {
  for (const [name, { session: last, element }] of tiles) {
    if (last === session) continue;
    element.remove();
    tiles.delete(name);
  }
  arrange();
}

const onScreen = new Set();
const visible = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) onScreen[isIntersecting ? "add" : "delete"](target);
});

// Ask for the pictures that can be seen, and for no others.
function look() {
  const wanted = {};
  if (!document.hidden) {
    for (const [name, { element, canvas }] of tiles) {
      if (!element.hidden && onScreen.has(element)) wanted[name] = Math.round(canvas.clientWidth * devicePixelRatio);
    }
  }
  connection.look(wanted);
}

// What the address names after #: a stream, a moment, or both: #door, #t=2026-11-27T19:31:05Z, #door&t=...
function place() {
  const parts = location.hash.slice(1).split("&");
  const moment = parts.find((part) => part.startsWith("t="));
  return { name: parts.find((part) => !part.includes("=")) ?? null, at: moment ? fromLink(decodeURIComponent(moment.slice(2))) : null };
}

function alone() {
  const { name } = place();
  return tiles.size === 1 ? [...tiles.keys()][0] : tiles.has(name) ? name : null;
}

function open(name) {
  location.hash = name;
}

// The grid, or one stream alone: the only one, or the one that the address names after #.
let shown = ""; // the streams whose past was asked for
function arrange() {
  const [one, { at }] = [alone(), place()];
  document.body.classList.toggle("alone", one !== null);
  $("#back").hidden = one === null || tiles.size === 1;
  for (const [name, tile] of tiles) {
    tile.element.hidden = one !== null && name !== one;
    $(".label strong", tile.element).setAttribute("aria-live", name === one ? "polite" : "off");
    if (at !== tile.timeline.at) tile.scale(undefined, at);
  }
  const past = one !== null ? [one] : at !== null ? [...tiles.keys()] : [];
  if (past.join() !== shown) past.forEach(connection.askForPast);
  shown = past.join();
  $("#now").hidden = at === null;
  $("#now").textContent = at === null ? "" : `${clockTime(at)}; back to now`;
  $("#empty").hidden = tiles.size > 0;
  document.title = one === null ? "action-streamer" : `${one} \u2013 action-streamer`;
  fill();
}

// Let the tiles of cameras that are there fill the screen, those of the others be small.
function fill() {
  const away = [...tiles.values()].filter((tile) => tile.away);
  for (const tile of tiles.values()) tile.element.classList.toggle("away", away.includes(tile));
  const style = getComputedStyle(document.body);
  const height = innerHeight - $("header").offsetHeight - parseFloat(style.paddingBottom) - (away.length ? 96 : 0);
  const { columns, rows, fits } = grid(Math.max(1, tiles.size - away.length), streams.clientWidth, height);
  streams.style.setProperty("--columns", columns);
  streams.style.setProperty("--rows", tiles.size > away.length ? rows : 0);
  const one = fits ? (height - 12 * (rows - 1)) / rows : Math.min((streams.clientWidth / columns) * 0.625 + 120, 0.85 * height);
  streams.style.setProperty("--height", `${Math.floor(one)}px`);
}

// How many cameras are away, and when the one that was lost last is tried again.
function tellLink() {
  if (document.body.dataset.state !== "live") {
    $("#link-time").textContent = "";
    return;
  }
  const away = [...tiles.values()].filter(({ offline }) => offline);
  const there = [...tiles.values()].filter(({ status }) => status?.source !== "stopped").length;
  const text = away.length ? `${away.length} of ${there} offline` : there || !tiles.size ? "live" : "stopped";
  if ($("#link-state").textContent !== text) $("#link-state").textContent = text;
  $("#link").dataset.state = away.length || text === "stopped" ? "partly" : "live";
  $("#link").title = away.map(({ name, status }) => `${name}: ${status.detail}`).join("\n");
  const last = away.sort((a, b) => b.gone - a.gone)[0];
  if (!last) {
    $("#link-time").textContent = "";
    return;
  }
  const [now, retry] = [last.clock.now(), last.status.retry_us];
  const times = [span(now - last.gone)];
  if (retry) times.push(retry / 1000 > now ? `next try in ${span(retry / 1000 - now)}` : "trying again");
  $("#link-time").textContent = `, ${times.join(", ")}`;
}

// What of the run's settings the tiles need to know.
async function askStatus() {
  const { ok } = await connection.ask({ command: "status" });
  for (const one of tiles.values()) one.background = ok?.events.background ?? [];
}

async function swap(event) {
  event.preventDefault();
  const name = $("#model-name").value;
  $("#model-go").disabled = true;
  $("#model-said").textContent = `${name} is being loaded; this may take a while`;
  const { ok, error } = await connection.ask({ command: "model", model: name });
  $("#model-go").disabled = false;
  $("#model-said").textContent = error ?? `${ok.model} has taken over`;
}

function back() {
  const name = alone();
  history.pushState(null, "", location.pathname);
  arrange();
  $(".open", tiles.get(name)?.element ?? document)?.focus();
}

function theme(next) {
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const order = [null, dark ? "light" : "dark", dark ? "dark" : "light"];
  const chosen = next ? order[(order.indexOf(localStorage.getItem("theme")) + 1) % 3] : localStorage.getItem("theme");
  if (chosen) localStorage.setItem("theme", chosen);
  else localStorage.removeItem("theme");
  document.documentElement.dataset.theme = chosen ?? (dark ? "dark" : "light");
  $("#theme").textContent = { light: "Light", dark: "Dark" }[chosen] ?? "Auto";
}

function draw(next) {
  const on = (localStorage.getItem("draw") === "yes") !== next;
  localStorage.setItem("draw", on ? "yes" : "no");
  document.body.classList.toggle("draws", on);
  $("#draw").setAttribute("aria-pressed", String(on));
}

function filter() {
  const rows = [...known].sort().map((label) => {
    const [row, text, box, swatch] = [make("li"), make("label"), make("input"), make("i", "swatch")];
    Object.assign(box, { type: "checkbox", checked: !isHidden(label) });
    box.addEventListener("change", () => hide(label, !box.checked));
    swatch.style.setProperty("--colour", colour(label));
    text.append(box, swatch, make("span", "", label));
    row.append(text);
    return row;
  });
  $("#filter-dialog ul").replaceChildren(...rows);
  $("#filter-dialog").showModal();
}

// Arrows: to the next stream where one is alone, to the next tile in the grid.
function move(right, down) {
  const names = [...tiles.keys()];
  const one = alone();
  if (one !== null) {
    if (right && names.length > 1) open(names[(names.indexOf(one) + right + names.length) % names.length]);
    return right !== 0;
  }
  const columns = Number(streams.style.getPropertyValue("--columns"));
  const from = names.indexOf(document.activeElement?.closest?.("article")?.dataset.stream);
  const to = from < 0 ? 0 : Math.min(Math.max(from + right + down * columns, 0), names.length - 1);
  $(".open", tiles.get(names[to])?.element ?? document)?.focus();
  return names.length > 0;
}

onKey("Enter", "Enter", "open the stream that is chosen; at first, the first one", (target) => {
  if (target !== document.body || alone() !== null || !tiles.size) return false;
  open([...tiles.keys()][0]);
  return true;
});
onKey("\u2190 \u2192 \u2191 \u2193", "ArrowRight", "choose another stream", () => move(1, 0));
onKey("", "ArrowLeft", "", () => move(-1, 0));
onKey("", "ArrowDown", "", () => move(0, 1));
onKey("", "ArrowUp", "", () => move(0, -1));
onKey("Esc", "Escape", "back to all streams", () => back());
onKey("+  \u2212", "-", "show more or less time", () => tiles.get(alone())?.step(1));
onKey("", "+", "", () => tiles.get(alone())?.step(-1));
onKey("N", "n", "back to now, from a moment in the past", () => now());
onKey("L", "l", "draw the label on the picture", () => draw(true));
onKey("H", "h", "show and hide labels", () => filter());
onKey("E", "e", "try thresholds on the last minute", () => tuneOpen());
onKey("C", "c", "watch clips, and say what they show", () => clips.open());
onKey("M", "m", "let another model take over", () => modelOpen());
onKey("T", "t", "light, dark, or as the system", () => theme(true));
onKey("F", "f", "full screen", () => {
  (document.fullscreenElement ? document.exitFullscreen() : document.documentElement.requestFullscreen()).catch(console.warn);
});
onKey("?", "?", "these keys", () => showKeys());

const player = $("#clips-dialog");
onKey("\u2191 \u2193", "ArrowDown", "in the clips: the next one", () => clips.step(1), player);
onKey("", "ArrowUp", "", () => clips.step(-1), player);
onKey("Y  0  W  U", "y", "in the clips: right, nothing, wrong, take back", () => clips.right(), player);
onKey("", "0", "", () => clips.answer("nothing"), player);
onKey("", "w", "", () => clips.focusWrong(), player);
onKey("", "u", "", () => clips.answer(""), player);
onKey("", " ", "", (target) => (target.matches("button, video") ? false : clips.togglePlay()), player);

function tuneOpen() {
  if ($("#tune").hidden) return;
  tune.open(alone() ?? [...tiles.keys()][0], whyNot);
}

function modelOpen() {
  if (whyNot === null && !$("#model-dialog").open) $("#model-dialog").showModal();
}

function now() {
  const { name } = place();
  history.pushState(null, "", name === null ? location.pathname : `#${name}`);
  arrange();
}

$("#theme").addEventListener("click", () => theme(true));
$("#draw").addEventListener("click", () => draw(true));
$("#filter").addEventListener("click", filter);
$("#keys").addEventListener("click", showKeys);
$("#tune").addEventListener("click", tuneOpen);
$("#clips").addEventListener("click", () => clips.open());
$("#model").addEventListener("click", modelOpen);
$("#model-form").addEventListener("submit", swap);
$("#back").addEventListener("click", back);
$("#now").addEventListener("click", now);
whenHidden(() => tiles.forEach((one) => one.filter()));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => theme(false));
addEventListener("hashchange", arrange);
addEventListener("resize", fill);
document.addEventListener("visibilitychange", look);
setInterval(() => tiles.forEach((one) => one.element.hidden || one.timeline.draw()), DRAW_MS);
setInterval(() => {
  tiles.forEach((one) => one.tell());
  $("#model").textContent = [...new Set([...tiles.values()].map(({ newest }) => newest?.model).filter(Boolean))].join(", ");
  tellLink();
  fill();
  look();
}, TELL_MS);

setInterval(() => document.hidden || askStatus(), STATUS_MS);

tune.setUp(tiles);
clips.setUp();
theme(false);
draw(false);
connection.connect();
