// One stream: its picture, the label in force, the scores, the events of the last hour, and how it is.

import { $, DAY_MS, clockTime, make, span, toLink } from "./dom.js";
import { colour, isHidden, known, lengthOf } from "./labels.js";
import { Clock, Timeline } from "./timeline.js";

const LISTED = 300; // events in the list of a stream alone
const HOUR_S = 3600;
const SCALES = [[60, "1 min"], [600, "10 min"], [HOUR_S, "1 h"]];
const THERE = ["online", "degraded", "ended"];
const AWAY_MS = 2000; // a shorter absence does not move the tiles

export class Tile {
  // open: shows it alone; play: shows a clip
  constructor(name, open, play) {
    this.play = play;
    this.name = name;
    this.clock = new Clock();
    this.ages = [];
    this.rate = null; // steps a second
    this.background = []; // labels that make no event
    this.element = $("#tile").content.cloneNode(true).firstElementChild;
    this.element.dataset.stream = name;
    this.element.setAttribute("aria-label", `stream ${name}`);
    this.timeline = new Timeline($(".lane", this.element), this.clock, HOUR_S);
    this.canvas = $("canvas", this.element);
    Object.assign($(".name", this.element), { textContent: name, title: name });
    $(".open", this.element).setAttribute("aria-label", `Show ${name} alone`);
    this.element.addEventListener("click", ({ target }) => {
      if (!document.body.classList.contains("alone") && !target.closest("a, button:not(.open)")) open(name);
    });
    this.bars = Array.from({ length: 5 }, () => {
      const [row, fill, label, value] = [make("li"), make("i"), make("span"), make("em")];
      row.append(fill, label, value);
      return { row: $(".bars", this.element).appendChild(row), fill, label, value };
    });
    this.scales = SCALES.map(([seconds, text]) => {
      const button = $(".scale", this.element).appendChild(make("button", "", text));
      button.type = "button";
      button.addEventListener("click", () => this.scale(seconds));
      return { seconds, button };
    });
    $(".details", this.element).addEventListener("click", ({ target }) => {
      target.setAttribute("aria-expanded", String(this.element.classList.toggle("detailed")));
    });
    this.scale(60);
  }

  // Seconds of the timeline; `at`: the moment in its middle, null: it ends now.
  scale(seconds = this.timeline.seconds, at = this.timeline.at) {
    this.timeline.show(seconds, at);
    for (const one of this.scales) one.button.setAttribute("aria-pressed", String(one.seconds === seconds));
    const marks = this.element.querySelectorAll(".axis i");
    marks.forEach((mark, index) => {
      const left = (seconds * (4 - index)) / 4;
      const live = left ? `\u2212${span(left * 1000).replace(".0", "")}` : "now";
      mark.textContent = at === null ? live : clockTime(at + (seconds / 2 - left) * 1000);
    });
    this.mark();
  }

  // Mark what happened at the moment that is shown.
  mark() {
    const { at } = this.timeline;
    for (const item of this.element.querySelectorAll(".events li")) {
      const [from, to] = [Number(item.dataset.from), Number(item.dataset.to || Infinity)];
      item.classList.toggle("at", at !== null && Math.floor(from) <= at && at <= to);
    }
    $(".events li.at", this.element)?.scrollIntoView({ block: "nearest" });
  }

  step(direction) {
    const place = SCALES.findIndex(([seconds]) => seconds === this.timeline.seconds) + direction;
    if (SCALES[place]) this.scale(SCALES[place][0]);
  }

  see(message, live) {
    this.clock.see(message, live);
    if (message.session !== this.session) { // the publisher was restarted
      this.timeline.close(this.clock.now(), false);
      this.session = message.session;
      this.status = this.state = this.score = this.going = undefined;
    }
    if (live && message.age_ms !== null && message.kind !== "status") this.ages = [...this.ages, message.age_ms].slice(-30);
    this[`on_${message.kind}`]?.(message);
    this[message.kind] = this.newest = message;
  }

  on_status(status) {
    const since = this.status && (status.ts.pub_us - this.status.ts.pub_us) / 1e6; // seconds
    if (since > 1) this.rate = (status.inferred - this.status.inferred) / since;
    this.element.dataset.source = status.source;
    const there = THERE.includes(status.source);
    if (there) this.timeline.close(this.clock.now(), true);
    else this.timeline.put("lost", this.timeline.spans.get("lost")?.start ?? this.clock.now(), null, null, status.source);
    const notice = there ? status.detail : [status.source, status.detail].filter(Boolean).join(": ");
    Object.assign($(".notice", this.element), { textContent: notice, title: notice });
    this.gone = there ? null : status.since_us ? status.since_us / 1000 : this.gone ?? this.clock.now();
  }

  // Whether the camera is away, and for longer than a moment, or has been removed.
  get away() {
    return this.gone != null && this.clock.now() - this.gone > AWAY_MS;
  }

  // Whether it should be there.
  get offline() {
    return this.gone != null && this.status.source !== "stopped";
  }

  on_score({ topk }) {
    for (const [label, probability] of topk) {
      known.add(label);
      if (this.going?.label === label) this.going.peak = Math.max(this.going.peak, probability);
    }
  }

  on_event(event) {
    known.add(event.label);
    const [start, end] = [event.t_start_us / 1000, event.t_end_us === null ? null : event.t_end_us / 1000];
    const id = `${event.session}${event.id}`;
    if (end === null) this.going = { label: event.label, peak: Math.max(event.peak, this.going?.id === id ? this.going.peak : 0), id };
    else if (this.going?.id === id) this.going = undefined;
    const length = end === null ? "" : `, ${span(end - start)} (${event.reason})`;
    this.timeline.put(id, start, end, event.label, `${event.label} ${event.peak.toFixed(2)}${length}`);
    this.list(id, event, start, end);
  }

  on_gap({ from_us: from, to_us: to, reason, seq, session }) {
    if (to > from && reason !== "clock") this.timeline.put(`${session}gap ${seq}`, from / 1000, to / 1000, null, `${span((to - from) / 1000)} lost (${reason})`);
  }

  list(id, event, start, end) {
    const list = $(".events ol", this.element);
    let item = [...list.children].find(({ dataset }) => dataset.id === id);
    if (!item) {
      item = make("li");
      Object.assign(item.dataset, { id, from: start, label: event.label });
      const [link, swatch] = [make("a"), make("i", "swatch")];
      link.href = `#${this.name}&t=${toLink(start)}`;
      link.title = event.label;
      swatch.style.setProperty("--colour", colour(event.label));
      link.append(make("time", "", clockTime(start)), swatch, make("span", "", event.label), make("em"), make("em"));
      item.append(link);
      const later = [...list.children].filter(({ dataset }) => Number(dataset.from) > start);
      if (later.length) later.at(-1).after(item);
      else list.prepend(item);
      while (list.children.length > LISTED) list.lastChild.remove();
    }
    if (event.clip && !$("button", item)) {
      const button = item.appendChild(make("button", "", "\u25b6"));
      Object.assign(button, { type: "button", title: "Play its clip" });
      button.setAttribute("aria-label", `Play the clip of ${event.label}, ${clockTime(start)}`);
      button.addEventListener("click", () => this.play(event.clip.name));
    }
    item.hidden = isHidden(event.label);
    item.dataset.to = end ?? "";
    const [duration, peak] = item.querySelectorAll("em");
    duration.textContent = end === null ? "now" : span(end - start);
    peak.textContent = event.peak.toFixed(2);
  }

  filter() {
    this.timeline.filter();
    for (const item of this.element.querySelectorAll(".events li")) item.hidden = isHidden(item.dataset.label);
  }

  // Everything but the timeline and the picture.
  tell() {
    const scores = (this.score?.topk ?? []).filter(([label]) => !isHidden(label));
    this.tellLabel(this.state && !isHidden(this.state.label) ? this.state : null, scores[0]?.[0]);
    this.bars.forEach(({ row, label, fill, value }, index) => {
      const [name, probability] = scores[index] ?? [];
      row.hidden = name === undefined;
      if (name === undefined) return;
      label.textContent = label.title = name;
      label.dataset.length = lengthOf(name);
      value.textContent = probability.toFixed(2);
      fill.style.width = `${100 * probability}%`;
      fill.style.setProperty("--colour", colour(name));
    });
    const events = this.element.querySelectorAll(".events li:not([hidden])").length;
    $(".events .none", this.element).hidden = events > 0;
    const shown = SCALES.find(([seconds]) => seconds === this.timeline.seconds)[1];
    $(".lane", this.element).setAttribute("aria-label", `timeline of ${shown}; ${events} events in the last hour`);
    this.tellHealth();
  }

  // The label in force, how long it has been, and its peak; grey while another one has the highest score.
  tellLabel(state, best) {
    const label = state?.label ?? null;
    const quiet = label === null && this.background.includes(best) ? best : null;
    const row = $(".label", this.element);
    row.classList.toggle("none", label === null);
    row.classList.toggle("differs", label !== null && best !== undefined && best !== label);
    const shown = label ?? quiet ?? "no label";
    if ($("strong", row).textContent !== shown) Object.assign($("strong", row), { textContent: shown, title: shown }); // it is read aloud
    row.dataset.length = lengthOf(shown);
    const peak = this.going?.label === label ? this.going.peak : state?.score;
    $(".since", row).textContent = label === null ? (quiet ? "background" : "") : span(this.clock.now() - state.since_us / 1000);
    $("output", row).textContent = label === null ? "" : `peak ${peak.toFixed(2)}`;
    const paint = label === null ? "var(--track)" : colour(label);
    for (const swatch of this.element.querySelectorAll(".label .swatch, .drawn .swatch")) swatch.style.setProperty("--colour", paint);
    $(".drawn", this.element).hidden = label === null;
    $(".drawn", this.element).dataset.length = lengthOf(shown);
    $(".drawn b", this.element).textContent = label === null ? "" : `${label} ${peak.toFixed(2)}`;
  }

  tellHealth() {
    if (!this.status) return;
    const { status } = this;
    const number = (value, unit = "", digits = 1) => (value === null || value === undefined ? "\u2013" : `${value.toFixed(digits)}${unit}`);
    const age = [...this.ages].sort((one, other) => one - other)[this.ages.length >> 1];
    const lost = Object.entries(status.dropped).filter(([reason]) => reason !== "above_rate"); // which is as it should be
    const facts = {
      source: status.source,
      in: number(status.fps_in, " a second"),
      steps: number(this.rate, " a second"),
      step: `${number(status.step_ms_p50)} ms, at most ${number(status.step_ms_p99, " ms")}`,
      age: age > DAY_MS ? "a file, read fast" : number(age, " ms"),
      dropped: lost.map(([reason, count]) => `${count} ${reason.replaceAll("_", " ")}`).join(", ") || "nothing",
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
