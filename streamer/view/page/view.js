// The page's only script. It reads the label stream's messages (streamer/labels.schema.json) from a WebSocket, and
// shows each stream in a tile of its own; streamer/view/viewer.py tells what goes over the WebSocket.

const RETRY_MS = [300, 600, 1200, 2500, 5000];
const DRAW_MS = 66; // timelines
const TELL_MS = 200; // bars and numbers: slow enough to read
const STALE_MS = 10_000; // what the publisher did before it was restarted stays this long
const DAY_MS = 86_400_000;
const SET_MS = 10 * 1000; // a clock that is so far back was set
const REFUSED = 4401;
const FULL = 4429;
const LISTED = 12; // events in the list of a stream alone

const $ = (selector, from = document) => from.querySelector(selector);
const streams = $("#streams");
const tiles = new Map();
let seconds = 60; // of a timeline
let colours = ["#7d8ca3"];

function make(tag, className = "", text = "") {
  const element = document.createElement(tag);
  element.className = className;
  element.textContent = text;
  return element;
}

// The same as streamer/view/colours.py
export function colour(label) {
  let hash = 0x811c9dc5 ^ 1125;
  for (const byte of new TextEncoder().encode(label)) hash = Math.imul(hash ^ byte, 0x01000193) >>> 0;
  return colours[((hash ^ (hash >>> 16)) >>> 0) % colours.length];
}

// A stream's time in milliseconds, going on evenly between messages: the publisher's clock, or for a file that is read
// fast the file's own.
class Clock {
  offset = null;

  see({ ts, age_ms: age }, live) {
    const seen = (age > DAY_MS ? ts.frame_us : ts.pub_us) / 1000 - performance.now();
    if (this.offset === null || seen > this.offset || seen < this.offset - SET_MS) this.offset = seen;
    else if (live) this.offset += (seen - this.offset) / 100; // a clock slower than ours
  }

  now() {
    return performance.now() + (this.offset ?? 0);
  }
}

// Coloured spans on a track that moves to the left. Places are in percent of the lane, from `base`.
class Timeline {
  spans = new Map();

  constructor(lane, clock) {
    this.track = $(".track", lane);
    this.clock = clock;
    this.base = null;
  }

  put(id, start, end, label, title) {
    if (end !== null && end < this.clock.now() - seconds * 1000) return;
    let span = this.spans.get(id);
    if (!span) {
      span = { element: this.track.appendChild(make("div", "span")) };
      span.element.append(make("b", "", label ?? ""));
      if (label === null) span.element.classList.add("lost");
      else span.element.style.setProperty("--colour", colour(label));
      this.spans.set(id, span);
    }
    Object.assign(span, { start, end });
    span.element.title = title;
    span.element.classList.toggle("running", end === null);
    this.place(span);
  }

  close(end, lost) {
    for (const span of this.spans.values()) {
      if (span.end === null && span.element.classList.contains("lost") === lost) {
        span.end = Math.max(end, span.start);
        span.element.classList.remove("running");
        this.place(span);
      }
    }
  }

  place({ element, start, end }) {
    this.base ??= this.clock.now();
    element.style.left = `${100 + (start - this.base) / seconds / 10}%`;
    element.style.width = `${Math.max(0, (end ?? this.clock.now()) - start) / seconds / 10}%`;
  }

  draw() {
    const now = this.clock.now();
    const anew = Math.abs(now - this.base) > 60_000; // places stay small numbers
    if (anew) this.base = now;
    for (const [id, span] of this.spans) {
      if (span.end !== null && span.end < now - seconds * 1000) {
        span.element.remove();
        this.spans.delete(id);
      } else if (anew || span.end === null) this.place(span);
    }
    this.track.style.transform = `translateX(${(this.base - now) / seconds / 10}%)`;
  }
}

class Tile {
  constructor(name) {
    this.clock = new Clock();
    this.ages = [];
    this.rate = null; // steps a second
    this.element = $("#tile").content.cloneNode(true).firstElementChild;
    this.element.dataset.stream = name;
    this.element.setAttribute("aria-label", `stream ${name}`);
    this.timeline = new Timeline($(".lane", this.element), this.clock);
    this.canvas = $("canvas", this.element);
    $(".name", this.element).textContent = name;
    $(".open", this.element).setAttribute("aria-label", `Show ${name} alone`);
    $(".open", this.element).addEventListener("click", () => { location.hash = name; });
    this.bars = Array.from({ length: 5 }, () => {
      const [row, fill, label, value] = [make("li"), make("i"), make("span"), make("em")];
      row.append(fill, label, value);
      return { row: $(".bars", this.element).appendChild(row), fill, label, value };
    });
  }

  see(message, live) {
    this.clock.see(message, live);
    if (message.session !== this.session) { // the publisher was restarted
      this.timeline.close(this.clock.now(), false);
      this.session = message.session;
      this.status = this.state = this.score = undefined;
    }
    if (live && message.age_ms !== null && message.kind !== "status") this.ages = [...this.ages, message.age_ms].slice(-30);
    this[`on_${message.kind}`]?.(message);
    this[message.kind] = this.newest = message;
  }

  on_status(status) {
    const since = this.status && (status.ts.pub_us - this.status.ts.pub_us) / 1e6; // seconds
    if (since > 1) this.rate = (status.inferred - this.status.inferred) / since;
    this.element.dataset.source = status.source;
    const there = ["online", "degraded", "ended"].includes(status.source);
    if (there) this.timeline.close(this.clock.now(), true);
    else this.timeline.put("lost", this.timeline.spans.get("lost")?.start ?? this.clock.now(), null, null, status.source);
    $(".notice", this.element).textContent = there ? status.detail : [status.source, status.detail].filter(Boolean).join(": ");
  }

  on_event(event) {
    const [start, end] = [event.t_start_us / 1000, event.t_end_us === null ? null : event.t_end_us / 1000];
    const length = end === null ? "" : `, ${((end - start) / 1000).toFixed(1)} s (${event.reason})`;
    const id = `${event.session}${event.id}`;
    this.timeline.put(id, start, end, event.label, `${event.label} ${event.peak.toFixed(2)}${length}`);
    this.list(id, event, length);
  }

  on_gap({ from_us: from, to_us: to, reason, seq }) {
    if (to > from && reason !== "clock") this.timeline.put(`gap ${seq}`, from / 1000, to / 1000, null, `${((to - from) / 1e6).toFixed(1)} s lost (${reason})`);
  }

  list(id, event, length) {
    const list = $(".events ol", this.element);
    let item = [...list.children].find(({ dataset }) => dataset.id === id);
    if (!item) {
      item = make("li");
      item.dataset.id = id;
      const swatch = make("i", "swatch");
      swatch.style.setProperty("--colour", colour(event.label));
      const at = event.t_start_us / 1000;
      const time = make("time", "", at > DAY_MS ? new Date(at).toLocaleTimeString() : `${(at / 1000).toFixed(1)} s`);
      item.append(time, swatch, make("span", "", event.label), make("em"), make("em"));
      list.prepend(item);
      while (list.children.length > LISTED) list.lastChild.remove();
    }
    const [duration, peak] = item.querySelectorAll("em");
    duration.textContent = event.t_end_us === null ? "now" : length.slice(2).split(" (")[0];
    peak.textContent = event.peak.toFixed(2);
  }

  // Everything but the timeline and the picture.
  tell() {
    const { state, score } = this;
    const label = state?.label ?? null;
    // the newest score of the label; none while others are the five best
    const probability = score ? score.topk.find(([name]) => name === label)?.[1] : state?.score;
    const row = $(".label", this.element);
    row.classList.toggle("none", label === null);
    $("strong", row).textContent = label ?? "no label";
    $("output", row).textContent = label === null ? "" : probability?.toFixed(2) ?? "\u2013";
    $(".swatch", row).style.setProperty("--colour", label === null ? "var(--track)" : colour(label));
    this.bars.forEach(({ row, label, fill, value }, index) => {
      const [name, probability] = score?.topk[index] ?? [];
      row.hidden = name === undefined;
      if (name === undefined) return;
      label.textContent = label.title = name;
      value.textContent = probability.toFixed(2);
      fill.style.width = `${100 * probability}%`;
      fill.style.setProperty("--colour", colour(name));
    });
    const count = this.element.querySelectorAll(".span:not(.lost)").length;
    $(".timeline", this.element).setAttribute("aria-label", `the last ${seconds} seconds: ${count} events`);
    this.tellHealth();
  }

  tellHealth() {
    if (!this.status) return;
    const { status } = this;
    const number = (value, unit = "", digits = 1) => (value === null || value === undefined ? "\u2013" : `${value.toFixed(digits)}${unit}`);
    const age = [...this.ages].sort((one, other) => one - other)[this.ages.length >> 1];
    const dropped = Object.entries(status.dropped).map(([reason, count]) => `${count} ${reason.replaceAll("_", " ")}`);
    const facts = {
      source: status.source,
      in: number(status.fps_in, " fps"),
      steps: number(this.rate, "/s"),
      step: `${number(status.step_ms_p50)} / ${number(status.step_ms_p99, " ms")}`,
      age: age > DAY_MS ? "a file, read fast" : number(age, " ms"),
      dropped: dropped.join(", ") || "none",
      reconnects: status.reconnects,
      epoch: this.newest.epoch,
    };
    for (const [name, value] of Object.entries(facts)) $(`[data-fact="${name}"]`, this.element).textContent = value;
  }

  async show(jpeg) {
    const bitmap = await createImageBitmap(jpeg);
    if (this.canvas.width !== bitmap.width) this.canvas.width = bitmap.width;
    if (this.canvas.height !== bitmap.height) this.canvas.height = bitmap.height;
    this.canvas.getContext("2d").drawImage(bitmap, 0, 0);
    bitmap.close();
  }
}

let socket = null;
let failures = 0;
let looked = "";
let token = takeToken();

// The token after the address's #, which no request sends, is kept for this tab and not shown.
function takeToken() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) {
    sessionStorage.setItem("token", given);
    history.replaceState(null, "", location.pathname);
  }
  return given ?? sessionStorage.getItem("token");
}

function connect() {
  $("#door").hidden = true;
  socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/labels`);
  socket.binaryType = "arraybuffer";
  socket.addEventListener("open", () => socket.send(JSON.stringify({ token })));
  socket.addEventListener("message", ({ data }) => (typeof data === "string" ? take(JSON.parse(data)) : draw(data)));
  socket.addEventListener("close", ({ code }) => lost(code));
}

function lost(code) {
  looked = "";
  if (code === REFUSED) {
    link("lost", "not let in");
    $("#refusal").textContent = token === null ? "" : "That is not the right token.";
    $("#door").hidden = false;
    $("#token").focus();
    return;
  }
  link("lost", code === FULL ? "too many viewers; trying again" : "connection lost; trying again");
  setTimeout(connect, RETRY_MS[Math.min(failures, RETRY_MS.length - 1)] * (1 + Math.random() / 4));
  failures += 1;
}

function link(state, text) {
  $("#link").textContent = text;
  $("#link").dataset.state = document.body.dataset.state = state;
}

function take(messages) {
  const anew = messages[0].kind === "view";
  if (anew) {
    const hello = messages.shift();
    ({ seconds, colours } = hello);
    streams.dataset.pictures = hello.pictures ? "yes" : "no";
    failures = 0;
    link("live", "live");
    arrange();
  }
  for (const message of messages) {
    tile(message.stream).see(message, !anew);
    if (message.session !== take.session) setTimeout(sweep, STALE_MS);
    take.session = message.session;
  }
}

function tile(name) {
  let found = tiles.get(name);
  if (!found) {
    tiles.set(name, (found = new Tile(name)));
    const after = [...tiles.keys()].sort((one, other) => one.localeCompare(other, undefined, { numeric: true }));
    streams.insertBefore(found.element, tiles.get(after[after.indexOf(name) + 1])?.element ?? null);
    visible.observe(found.element);
    arrange();
  }
  return found;
}

// Streams that the restarted publisher does not have.
function sweep() {
  for (const [name, { session, element }] of tiles) {
    if (session === take.session) continue;
    element.remove();
    tiles.delete(name);
  }
  arrange();
}

async function draw(data) {
  const length = new Uint8Array(data, 0, 1)[0];
  const name = new TextDecoder().decode(new Uint8Array(data, 1, length));
  const from = socket;
  await tiles.get(name)?.show(new Blob([new Uint8Array(data, 1 + length)], { type: "image/jpeg" })).catch(console.warn);
  if (from.readyState === WebSocket.OPEN) from.send(JSON.stringify({ seen: name }));
}

const onScreen = new Set();
const visible = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) onScreen[isIntersecting ? "add" : "delete"](target);
});

// Ask for the pictures that can be seen, and for no others.
function look() {
  if (socket?.readyState !== WebSocket.OPEN || document.body.dataset.state !== "live") return;
  const wanted = {};
  if (!document.hidden) {
    for (const [name, { element, canvas }] of tiles) {
      if (!element.hidden && onScreen.has(element)) wanted[name] = Math.round(canvas.clientWidth * devicePixelRatio);
    }
  }
  const text = JSON.stringify({ look: wanted });
  if (text !== looked) socket.send((looked = text));
}

// The grid, or one stream alone: the only one, or the one that the address names after #.
function arrange() {
  const named = location.hash.slice(1);
  const alone = tiles.size === 1 ? [...tiles.keys()][0] : tiles.has(named) ? named : null;
  document.body.classList.toggle("alone", alone !== null);
  $("#back").hidden = alone === null || tiles.size === 1;
  for (const [name, { element }] of tiles) {
    element.hidden = alone !== null && name !== alone;
    $(".label", element).setAttribute("aria-live", name === alone ? "polite" : "off");
  }
  $("#empty").hidden = tiles.size > 0;
  document.title = alone === null ? "action-streamer" : `${alone} \u2013 action-streamer`;
}

function back() {
  const name = location.hash.slice(1);
  history.pushState(null, "", location.pathname);
  arrange();
  $(".open", tiles.get(name)?.element)?.focus();
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

document.addEventListener("keydown", ({ key, target, ctrlKey, metaKey, altKey }) => {
  if (ctrlKey || metaKey || altKey || target.matches("input")) return;
  if (key === "Escape") back();
  if (key === "t") theme(true);
  if (key === "f") (document.fullscreenElement ? document.exitFullscreen() : document.documentElement.requestFullscreen()).catch(console.warn);
  const step = { ArrowLeft: -1, ArrowRight: 1 }[key];
  if (step && document.body.classList.contains("alone") && tiles.size > 1) {
    const names = [...streams.children].map(({ dataset }) => dataset.stream);
    location.hash = names[(names.indexOf(location.hash.slice(1)) + step + names.length) % names.length];
  }
});
$("#theme").addEventListener("click", () => theme(true));
$("#back").addEventListener("click", back);
$("#door").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("token", (token = $("#token").value));
  connect();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => theme(false));
addEventListener("hashchange", arrange);
document.addEventListener("visibilitychange", look);
setInterval(() => tiles.forEach((one) => one.element.hidden || one.timeline.draw()), DRAW_MS);
setInterval(() => {
  tiles.forEach((one) => one.tell());
  $("#model").textContent = [...new Set([...tiles.values()].map(({ newest }) => newest.model))].join(", ");
  look();
}, TELL_MS);

theme(false);
connect();
