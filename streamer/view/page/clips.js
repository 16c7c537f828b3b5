// The run's clips: those of events, and the inbox of moments that the model was unsure of. They are watched and answered.

import { ask } from "./connection.js";
import { $, clockTime, make, span } from "./dom.js";
import { colour } from "./labels.js";

const FIND_MS = [0, 1500, 3000, 6000]; // a clip is written a few seconds after the message of its event
const RENEW_MS = 3000;

let dialog = null;
let folder = null; // the address of the clips, for this browser alone; null: there are none
let whyNot = null;
let clips = [];
let chosen = null; // its name
let labels = []; // of the model

export function setUp() {
  dialog = $("#clips-dialog");
  $("#clips-which").addEventListener("change", () => list());
  $("#clips-right").addEventListener("click", () => right());
  $("#clips-nothing").addEventListener("click", () => answer("nothing"));
  $("#clips-undo").addEventListener("click", () => answer(""));
  $("#clips-wrong").addEventListener("submit", (event) => {
    event.preventDefault();
    const label = $("#clips-label").value.trim();
    if (label) answer(label);
  });
  dialog.addEventListener("close", () => stop());
  setInterval(() => renew(), RENEW_MS);
}

// What the server lets this browser do.
export function allow(address, reason) {
  folder = address;
  whyNot = reason;
  $("#clips").hidden = folder === null;
}

export function isOpen() {
  return dialog.open;
}

// Show them; `name`: this one, which may still be on its way to the disk.
export async function open(name = null) {
  if (folder === null) return;
  if (!dialog.open) dialog.showModal();
  stop();
  chosen = name;
  if (name) $("#clips-which").value = "all";
  for (const wait of FIND_MS) {
    await new Promise((done) => setTimeout(done, wait));
    if (!dialog.open || !(await load()) || !name || chosen !== name || clips.some((clip) => clip.name === name)) return;
    tell("this clip is still being written");
  }
  tell("there is no such clip any more");
}

async function load() {
  const [reply, status] = await Promise.all([ask({ command: "clips" }), ask({ command: "status" })]);
  if (reply.error) {
    tell(reply.error);
    return false;
  }
  clips = reply.ok;
  labels = status.ok?.knows ?? [];
  $("#clips-labels").replaceChildren(...labels.map((value) => Object.assign(make("option"), { value })));
  tell(whyNot ?? "");
  list();
  return true;
}

// Clips that are written or answered while the list is open come into it; focus and scrolling stay.
async function renew() {
  if (!dialog.open || document.hidden) return;
  const reply = await ask({ command: "clips" });
  if (!dialog.open || reply.error || JSON.stringify(reply.ok) === JSON.stringify(clips)) return;
  const [focused, top] = [document.activeElement, $("#clips-list").scrollTop];
  clips = reply.ok;
  list();
  $("#clips-list").scrollTop = top;
  if (focused.isConnected) focused.focus();
}

function shown() {
  const which = $("#clips-which").value;
  return clips.filter(({ why, answer }) => (which === "inbox" ? why === "unsure" && !answer : which === "open" ? !answer : true));
}

function list() {
  const all = shown();
  const items = all.map((clip) => {
    const [item, button, swatch] = [make("li"), make("button"), make("i", "swatch")];
    swatch.style.setProperty("--colour", colour(clip.label));
    button.type = "button";
    button.dataset.name = clip.name;
    const what = clip.why === "unsure" ? `${clip.label}?` : clip.label;
    button.append(make("time", "", clockTime(clip.start_us / 1000)), swatch, make("span", "", what), make("em", "", clip.answer && (clip.answer === clip.label ? "right" : clip.answer)));
    button.title = `${clip.stream}, ${new Date(clip.start_us / 1000).toLocaleString()}`;
    button.addEventListener("click", () => play(clip.name));
    item.append(button);
    return item;
  });
  $("#clips-list").replaceChildren(...items);
  $("#clips-none").hidden = all.length > 0;
  if (all.length && !all.some(({ name }) => name === chosen)) chosen = all[0].name;
  if (all.length) play(chosen);
  else stop();
}

function stop() {
  const video = $("#clips-dialog video");
  video.removeAttribute("src");
  video.load();
  video.dataset.name = "";
  $("#clips-answers").disabled = true;
}

function play(name) {
  chosen = name;
  const clip = clips.find((one) => one.name === name);
  if (!clip) return;
  const video = $("#clips-dialog video");
  if (video.dataset.name !== name) {
    video.dataset.name = name;
    video.src = `${folder}${encodeURIComponent(name)}.mp4`;
    video.play().catch(() => {}); // the browser may want a click first
  }
  const what = clip.why === "unsure" ? "the model was unsure; its best guess was" : "the model said";
  const answered = clip.answer ? `; answered: ${clip.answer === clip.label ? "right" : clip.answer}` : "";
  $("#clips-what").textContent = `${clip.stream}, ${span((clip.end_us - clip.start_us) / 1000)}: ${what} ${clip.label} (${clip.peak.toFixed(2)})${answered}`;
  $("#clips-answers").disabled = whyNot !== null;
  $("#clips-undo").disabled = !clip.answer;
  for (const button of $("#clips-list").querySelectorAll("button")) {
    button.setAttribute("aria-current", String(button.dataset.name === name));
    if (button.dataset.name !== name) continue;
    button.scrollIntoView({ block: "nearest" });
    if (!document.activeElement.matches("#clips-dialog select, #clips-label, video")) button.focus();
  }
}

// To the next clip of the list, or the one before.
export function step(direction) {
  const all = shown();
  const to = all[all.findIndex(({ name }) => name === chosen) + direction];
  if (to) play(to.name);
}

export function right() {
  const clip = clips.find((one) => one.name === chosen);
  if (clip) answer(clip.label);
}

export async function answer(label) {
  const clip = clips.find((one) => one.name === chosen);
  if (!clip || whyNot !== null) return;
  const all = shown();
  const next = all[all.indexOf(clip) + 1] ?? all[all.indexOf(clip) - 1];
  const reply = await ask({ command: "answer", clip: clip.name, label });
  if (reply.error) {
    tell(reply.error);
    return;
  }
  const before = reply.ok.before && reply.ok.before !== label && reply.ok.before !== clip.answer ? `; another had answered ${reply.ok.before}` : "";
  const said = label ? `${clip.label}: answered ${label === clip.label ? "right" : label}${before}` : `${clip.label}: the answer is taken back`;
  clip.answer = label;
  $("#clips-label").value = "";
  $("#clips-label").blur();
  if (label && next) chosen = next.name;
  list();
  tell(said);
}

export function focusWrong() {
  $("#clips-label").focus();
}

export function togglePlay() {
  const video = $("#clips-dialog video");
  if (video.paused) video.play().catch(() => {});
  else video.pause();
}

function tell(text) {
  $("#clips-said").textContent = text;
}
