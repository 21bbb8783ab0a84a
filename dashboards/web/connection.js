// The stream of a view: what it sends, and whether it still does.

import { api, asked } from "./address.js";

const SILENT = 4000; // ms: the server says something each second, and people are to know within five
const DEAD = 15000; // a connection that says nothing for so long is made anew
const AGAIN = 2000;

/**
 * Holds one stream open. `onPart(name, data)`; `onState({phase, ...})` where phase is connecting, loading, live,
 * waiting, disconnected or refused; `refused` has the `error` that the server gave, and lasts until the next `open`.
 */
export class Connection {
  constructor(onPart, onState) {
    this.onPart = onPart;
    this.onState = onState;
    setInterval(() => this.#look(), 500);
  }

  open(view) {
    this.#close();
    this.view = asked(view);
    this.onState({ phase: "connecting" });
    this.#connect();
  }

  #connect() {
    this.#close();
    this.heard = performance.now();
    const source = new EventSource(api("live", this.view));
    this.source = source;
    source.addEventListener("status", (event) => {
      this.heard = performance.now();
      this.onState(JSON.parse(event.data));
    });
    source.addEventListener("part", (event) => {
      this.heard = performance.now();
      const { part, data } = JSON.parse(event.data);
      this.onPart(part, data);
    });
    source.addEventListener("error", () => {
      if (source === this.source && source.readyState === EventSource.CLOSED) this.#askWhy();
    });
  }

  #close() {
    this.source?.close();
    this.source = null;
    clearTimeout(this.again);
  }

  #look() {
    if (!this.source) return;
    const silent = performance.now() - this.heard;
    if (silent > SILENT) this.onState({ phase: "disconnected" });
    if (silent > DEAD) this.#connect();
  }

  /** A stream that was refused does not say why; the same view, asked for once, does. */
  async #askWhy() {
    const view = this.view;
    this.#close();
    let refusal = null;
    try {
      const answer = await fetch(api("view", view), { headers: { Accept: "application/json" } });
      if (answer.status >= 400 && answer.status < 500) refusal = await errorOf(answer);
    } catch {
      // nobody there: as any lost connection
    }
    if (view !== this.view || this.source) return;
    if (refusal) {
      this.onState({ phase: "refused", error: refusal });
    } else {
      this.onState({ phase: "disconnected" });
      this.again = setTimeout(() => this.#connect(), AGAIN);
    }
  }
}

/** The text of an answer that refuses. */
export async function errorOf(answer) {
  try {
    const said = await answer.json();
    const text = said.error ?? said.detail ?? said;
    if (typeof text === "string") return text;
    return Array.isArray(text) ? text.map((one) => one.msg ?? JSON.stringify(one)).join("; ") : JSON.stringify(text);
  } catch {
    return `${answer.status} ${answer.statusText}`;
  }
}
