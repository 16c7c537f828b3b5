// A stream's time, and coloured spans on a track that moves to the left with it.

import { $, DAY_MS, make } from "./dom.js";
import { colour, isHidden } from "./labels.js";

const SET_MS = 10 * 1000; // a clock that is so far back was set

// A stream's time in milliseconds, going on evenly between messages: the publisher's clock, or for a file that is read
// fast the file's own.
export class Clock {
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

// Places are in percent of the lane, from `base`. `seconds` is how much it shows; `at`, if it is not null, is the moment
// in its middle, and then nothing moves.
export class Timeline {
  spans = new Map();
  seconds = 60;
  at = null;

  constructor(lane, clock, keep = 60) {
    this.track = $(".track", lane);
    this.clock = clock;
    this.base = null;
    this.keep = keep; // seconds
  }

  show(seconds, at) {
    this.seconds = seconds;
    this.at = at;
    this.base = null;
    for (const span of this.spans.values()) this.place(span);
    this.draw();
  }

  // The time at the right end, milliseconds.
  right() {
    return this.at === null ? this.clock.now() : this.at + this.seconds * 500;
  }

  put(id, start, end, label, title) {
    if (end !== null && end < this.clock.now() - this.keep * 1000) return;
    let span = this.spans.get(id);
    if (!span) {
      span = { element: this.track.appendChild(make("div", "span")) };
      span.element.append(make("b", "", label ?? ""));
      if (label === null) span.element.classList.add("lost");
      else span.element.style.setProperty("--colour", colour(label));
      this.spans.set(id, span);
    }
    Object.assign(span, { start, end, label });
    span.element.title = title;
    span.element.hidden = label !== null && isHidden(label);
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

  // After other labels have been hidden.
  filter() {
    for (const { element, label } of this.spans.values()) element.hidden = label !== null && isHidden(label);
  }

  clear() {
    for (const { element } of this.spans.values()) element.remove();
    this.spans.clear();
  }

  place({ element, start, end }) {
    this.base ??= this.right();
    element.style.left = `${100 + (start - this.base) / this.seconds / 10}%`;
    element.style.width = `${Math.max(0, (end ?? this.clock.now()) - start) / this.seconds / 10}%`;
  }

  draw() {
    const now = this.right();
    const anew = this.base === null || Math.abs(now - this.base) > 60_000; // places stay small numbers
    if (anew) this.base = now;
    const gone = this.clock.now() - this.keep * 1000;
    for (const [id, span] of this.spans) {
      if (span.end !== null && span.end < gone) {
        span.element.remove();
        this.spans.delete(id);
      } else if (anew || span.end === null) this.place(span);
    }
    this.track.style.transform = `translateX(${(this.base - now) / this.seconds / 10}%)`;
  }
}
