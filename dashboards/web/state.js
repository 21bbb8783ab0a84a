// Whether the page is fed: connecting, loading, live, stale, waiting, disconnected or refused, each told apart.

import { byId, setShown, setText } from "./dom.js";
import { count, duration, time } from "./number.js";

const STALE = 5; // seconds

let shown = null;
let lastNews = null;

/** What is told of a state: `name` and `text` to be seen; `said`, read aloud when the state begins. */
function words(state) {
  const old = state.age === null || state.age === undefined ? "" : ` What is shown is ${duration(state.age)} old.`;
  switch (state.phase) {
    case "connecting":
      return { name: "Connecting…", text: "" };
    case "loading": {
      const read = state.to_read ? `${count(state.read)} of ${count(state.to_read)} records read; ` : "";
      return { name: "Loading", text: `${read}not all is counted yet`, said: "Loading what was counted so far" };
    }
    case "live":
      return { name: "Live", text: `as of ${time(state.now, true)}` };
    case "stale":
      return { name: "Stale", text: `no news for ${duration(state.age)}`, said: "Stale: there is no news" };
    case "waiting":
      return { name: "Waiting", text: `${state.error ?? "for Kafka"}.${old}`, said: `Waiting: ${state.error ?? ""}` };
    case "disconnected": {
      const since = lastNews ? ` What is shown is of ${time(lastNews, true)}.` : "";
      return { name: "Disconnected", text: `Trying again…${since}`, said: "Disconnected from the server" };
    }
    case "refused":
      return { name: "Refused", text: "", said: `This cannot be shown: ${state.error}` };
    default:
      return { name: state.phase, text: "" };
  }
}

/** Show a state; people who listen are told only when another one begins. */
export function show(state) {
  const phase = state.phase === "live" && state.age > STALE ? "stale" : state.phase;
  if (state.now) lastNews = state.now;
  const { name, text, said } = words({ ...state, phase });
  document.body.dataset.phase = phase;
  setText(byId("state-name"), name);
  setText(byId("state-text"), text);
  const progress = byId("progress");
  setShown(progress, phase === "loading");
  if (phase === "loading" && state.to_read) {
    progress.max = state.to_read;
    progress.value = state.read;
  }
  setShown(byId("refused"), phase === "refused");
  setShown(byId("figures"), phase !== "refused");
  if (phase === "refused") setText(byId("refused-text"), state.error);
  const announced = said ?? name;
  if (phase !== shown && phase !== "connecting") setText(byId("announce"), announced);
  shown = phase;
}
