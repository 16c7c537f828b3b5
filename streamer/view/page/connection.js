// The WebSocket: it brings messages and pictures, and takes what the page asks for.

import { $ } from "./dom.js";

const RETRY_MS = [300, 600, 1200, 2500, 5000];
const REFUSED = 4401;
const FULL = 4429;

const answers = new Map(); // number of a question -> who waits for its answer
let asked = 0;

const hear = {}; // what comes -> who takes it
export const onHello = (call) => { hear.hello = call; };
export const onMessages = (call) => { hear.messages = call; };
export const onPicture = (call) => { hear.picture = call; };
export const onPast = (call) => { hear.past = call; };

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

export function connect() {
  $("#door").hidden = true;
  socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/labels`);
  socket.binaryType = "arraybuffer";
  socket.addEventListener("open", () => socket.send(JSON.stringify({ token })));
  socket.addEventListener("message", ({ data }) => (typeof data === "string" ? take(JSON.parse(data)) : draw(data)));
  socket.addEventListener("close", ({ code }) => lost(code));
}

function lost(code) {
  looked = "";
  for (const answer of answers.values()) answer({ error: "the connection was lost; try again" });
  answers.clear();
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
  $("#link-state").textContent = text;
  $("#link").dataset.state = document.body.dataset.state = state;
}

function say(what) {
  if (socket?.readyState === WebSocket.OPEN && document.body.dataset.state === "live") socket.send(JSON.stringify(what));
}

function take(messages) {
  const anew = messages[0].kind === "view";
  if (anew) {
    failures = 0;
    link("live", "live");
    hear.hello(messages.shift());
  }
  if (messages[0]?.kind === "past") hear.past(messages[0]);
  else if (messages[0]?.kind === "answer") {
    answers.get(messages[0].id)?.(messages[0]);
    answers.delete(messages[0].id);
  }
  else hear.messages(messages, anew);
}

async function draw(data) {
  const length = new Uint8Array(data, 0, 1)[0];
  const name = new TextDecoder().decode(new Uint8Array(data, 1, length));
  const from = socket;
  await hear.picture(name, new Blob([new Uint8Array(data, 1 + length)], { type: "image/jpeg" }))?.catch(console.warn);
  if (from.readyState === WebSocket.OPEN) from.send(JSON.stringify({ seen: name }));
}

// The streams whose pictures are wanted, with their widths in pixels.
export function look(wanted) {
  const text = JSON.stringify({ look: wanted });
  if (text === looked || document.body.dataset.state !== "live") return;
  say({ look: wanted });
  looked = text;
}

// What the run answers to a request, {ok} or {error}; what it would be is told in streamer/labels/commands.py.
export function ask(request) {
  return question({ ask: request });
}

// The events that the last minute of a stream would have had by other settings, {ok} or {error}.
export function attempt(stream, values) {
  return question({ try: values, stream });
}

function question(what) {
  asked += 1;
  const id = asked;
  return new Promise((answer) => {
    if (socket?.readyState !== WebSocket.OPEN || document.body.dataset.state !== "live") answer({ error: "there is no connection; try again" });
    else {
      answers.set(id, answer);
      say({ ...what, id });
    }
  });
}

// The events of a stream in the last hour.
export function askForPast(stream) {
  say({ past: stream });
}

$("#door").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("token", (token = $("#token").value));
  connect();
});
