// Thresholds: what the last minute would have been by others, and then, if one says so, other ones for the run.

import { ask, attempt } from "./connection.js";
import { $, make, span } from "./dom.js";
import { colour, isHidden } from "./labels.js";

const KNOBS = { // key -> what it does, the greatest value, the step
  enter: ["an event starts at or above this", 1, 0.01],
  enter_s: ["for so long, in seconds", 3, 0.05],
  leave: ["it ends below this", 1, 0.01],
  leave_s: ["for so long, in seconds", 3, 0.05],
  min_s: ["no event is shorter, in seconds", 3, 0.05],
  refractory_s: ["then its label is silent, in seconds", 10, 0.1],
  smoothing_s: ["scores are averaged over this, in seconds", 3, 0.05],
};
const ALL_LABELS_ONLY = ["smoothing_s"]; // not of a single label
const WAIT_MS = 150; // for the slider to stand still

let dialog = null;
let tiles = null; // name -> tile
let status = null; // of the run
let values = {}; // what was moved, by path
let trying = 0;

export function setUp(all) {
  tiles = all;
  dialog = $("#tune-dialog");
  $("#tune-stream").addEventListener("change", () => tryOut());
  $("#tune-label").addEventListener("change", () => knobs());
  $("#tune-apply").addEventListener("click", () => send(values));
  $("#tune-back").addEventListener("click", () => send(Object.fromEntries(Object.keys(status.set).map((path) => [path, null]))));
}

// Show it, at first for one stream.
export async function open(name, whyNot) {
  const reply = await ask({ command: "status" });
  if (reply.error) status = null;
  else status = reply.ok;
  values = {};
  tell(reply.error ?? whyNot ?? "");
  $("#tune-apply").disabled = $("#tune-back").disabled = Boolean(whyNot) || !status;
  fill($("#tune-stream"), [...tiles.keys()].map((one) => [one, one]), name);
  fill($("#tune-label"), [["", "all labels"], ...(status?.knows ?? []).map((label) => [label, label])], "");
  if (!dialog.open) dialog.showModal();
  knobs();
}

function fill(select, options, chosen) {
  select.replaceChildren(...options.map(([value, text]) => Object.assign(make("option", "", text), { value })));
  select.value = chosen ?? options[0]?.[0] ?? "";
}

// A path as `streamer ctl set` takes it.
function path(key) {
  const label = $("#tune-label").value;
  if (!label) return `events.${key}`;
  return `events.labels.${/[."]/.test(label) ? `"${label.replaceAll('"', '""')}"` : label}.${key}`;
}

function inForce(key) {
  return status?.events.labels?.[$("#tune-label").value]?.[key] ?? status?.events[key] ?? 0;
}

function knobs() {
  const rows = Object.entries(KNOBS).filter(([key]) => !$("#tune-label").value || !ALL_LABELS_ONLY.includes(key)).map(([key, [what, most, step]]) => {
    const [row, name, slider, value] = [make("div", "knob"), make("label", "", `${key}: ${what}`), make("input"), make("output")];
    const now = values[path(key)] ?? inForce(key);
    Object.assign(slider, { type: "range", id: `tune-${key}`, min: 0, max: Math.max(most, now), step, value: now, disabled: !status });
    name.htmlFor = slider.id;
    value.textContent = Number(now).toFixed(2);
    slider.addEventListener("input", () => {
      value.textContent = Number(slider.value).toFixed(2);
      values[path(key)] = Number(slider.value);
      trying += 1;
      const mine = trying;
      setTimeout(() => mine === trying && tryOut(), WAIT_MS);
    });
    row.append(name, slider, value);
    return row;
  });
  $("#tune-knobs").replaceChildren(...rows);
  tryOut();
}

async function tryOut() {
  const tile = tiles.get($("#tune-stream").value);
  if (!status || !tile) return;
  const to = tile.clock.now();
  const from = to - 60_000;
  const seen = [...tile.timeline.spans.values()].filter(({ label, end }) => label !== null && (end ?? to) > from);
  lane("#tune-was", seen.map(({ label, start, end }) => ({ label, start, end: end ?? to })), from, to);
  const asked = (trying += 1);
  const reply = await attempt(tile.name, values);
  if (asked !== trying) return; // the slider has moved on
  if (reply.error) {
    tell(reply.error, "refused");
    return;
  }
  const events = reply.ok.map(({ label, start_us, end_us }) => ({ label, start: start_us / 1000, end: end_us === null ? to : end_us / 1000 }));
  lane("#tune-would", events, from, to);
  const settings = Object.entries(values).map(([one, value]) => `'${one}=${value}'`).join(" ");
  $("#tune-command").textContent = settings ? `streamer ctl set ${settings}` : "";
  if ($("#tune-said").dataset.kind === "refused") tell("");
}

function lane(id, events, from, to) {
  const shown = events.filter(({ label, end }) => !isHidden(label) && end > from);
  const spans = shown.map(({ label, start, end }) => {
    const element = make("div", "span");
    element.append(make("b", "", label));
    element.title = `${label}, ${span(end - start)}`;
    element.style.setProperty("--colour", colour(label));
    element.style.left = `${(100 * (start - from)) / (to - from)}%`;
    element.style.width = `${(100 * (end - start)) / (to - from)}%`;
    return element;
  });
  $(".lane", $(id)).replaceChildren(...spans);
  $("output", $(id)).textContent = `${shown.length} ${shown.length === 1 ? "event" : "events"}`;
}

async function send(changes) {
  if (!Object.keys(changes).length) {
    tell("nothing was moved");
    return;
  }
  const reply = await ask({ command: "set", set: changes });
  if (reply.error) {
    tell(reply.error);
    return;
  }
  await open($("#tune-stream").value, null);
  const now = Object.entries(reply.ok.set).map(([one, value]) => `${one}=${value}`).join(" ");
  tell(now ? `the run obeys ${now}, until it ends; put it into its configuration to keep it` : "the run obeys its configuration", "kept");
}

function tell(text, kind = "") {
  Object.assign($("#tune-said"), { textContent: text }).dataset.kind = kind;
}
