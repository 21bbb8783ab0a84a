// The first line: how are we doing, in a sentence and in figures.

import { LABELS, changed, get, href, inRange } from "./address.js";
import { byId, el, setAttribute, setShown, setText } from "./dom.js";
import { button } from "./explain.js";
import { change, count, duration, interval, percent, points, timeSpan } from "./number.js";

const BEFORE = { now: "the 5 minutes before", "1h": "the hour before", "24h": "the day before", "7d": "the week before" };
const TITLES = {
  rate: "Failure rate",
  weighted: "All, weighted",
  change: "Change",
  predictions: "Predictions",
  reviewed: "Reviewed",
  failures: "Failures",
  latency: "Latency",
};

const tiles = new Map();

export function show(part, view) {
  if (!tiles.size) build();
  const weighted = get(view, "rate") === "weighted";
  const before = view.has("since") ? "the time before" : BEFORE[get(view, "range")] ?? "the time before";
  const chosen = weighted ? part.weighted_rate : part.rate;
  const moved = change(chosen, weighted ? part.before?.weighted_rate : part.before?.rate);
  setText(byId("verdict"), sentence(part, chosen, moved, weighted, before));
  setAttribute(byId("verdict"), "data-level", level(moved));

  const { rate, weighted_rate: all, latency } = part;
  put("rate", percent(rate.value), interval(rate), `${count(part.failures)} of ${count(part.reviewed)} reviewed`);
  put("weighted", percent(all.value), interval(all), `from ${count(all.reviews)} reviews`);
  put("change", moved ? `${points(moved.value)} points` : "–", moved ? `${points(moved.low)} to ${points(moved.high)}` : "–",
    `against ${before}`);
  put("predictions", count(part.predictions), timeSpan(part.since, part.until),
    part.before ? `${count(part.before.predictions)} in ${before}` : "");
  put("reviewed", count(part.reviewed), part.predictions ? `${percent(part.reviewed / part.predictions)} of predictions` : "–",
    part.before ? `${count(part.before.reviewed)} in ${before}` : "");
  put("failures", count(part.failures), `of ${count(part.reviewed)} reviewed`,
    part.before ? `${count(part.before.failures)} in ${before}` : "");
  put("latency", latency ? duration(latency.p50) : "–", latency ? `99% within ${duration(latency.p99)}` : "–",
    "correction to example");
  setAttribute(tiles.get("change").node, "data-level", level(moved));
  setAttribute(tiles.get("rate").node, "data-main", !weighted);
  setAttribute(tiles.get("weighted").node, "data-main", weighted);
  showEmpty(part, view);
}

/** Only what its interval says for sure. */
function level(moved) {
  if (!moved || (moved.low <= 0 && moved.high >= 0)) return null;
  return moved.value > 0 ? "bad" : "good";
}

function sentence(part, chosen, moved, weighted, before) {
  if (!part.predictions) return "No predictions in this range.";
  if (!chosen.reviews) {
    const none = weighted ? "no review of them says how it was chosen" : "none of them is reviewed yet";
    return `${count(part.predictions)} ${part.predictions === 1 ? "prediction" : "predictions"}, ${none}: nothing can be said of failures.`;
  }
  const what = weighted
    ? `An estimated ${percent(chosen.value)} of all predictions failed`
    : `${percent(chosen.value)} of the reviewed predictions failed`;
  if (!moved) return `${what}; there is nothing to compare with in ${before}.`;
  if (!level(moved)) return `${what}: no clear change from ${before}.`;
  const by = points(Math.abs(moved.value)).slice(1);
  return `${what}: ${by} points ${moved.value > 0 ? "more" : "less"} than in ${before}.`;
}

function build() {
  for (const [name, title] of Object.entries(TITLES)) {
    const [figure, first, second] = ["figure", "first", "second"].map((part) => el("dd", { class: part }, "\u00a0"));
    const node = el("div", { class: "stat", id: `stat-${name}` }, el("dt", {}, title, " ", button(name)), figure, first, second);
    tiles.set(name, { node, figure, first, second });
    byId("stats").append(node);
  }
}

function put(name, figure, first, second) {
  const tile = tiles.get(name);
  setText(tile.figure, figure);
  setText(tile.first, first);
  setText(tile.second, second);
}

/** Nothing was predicted in this range, and what one may do then. */
function showEmpty(part, view) {
  const empty = part.predictions === 0;
  setShown(byId("empty"), empty);
  for (const name of ["chart", "table"]) setShown(byId(name), !empty);
  if (!empty) return;
  const ways = [];
  if ([...LABELS, "find"].some((name) => view.has(name))) {
    const none = Object.fromEntries([...LABELS, "find"].map((name) => [name, null]));
    ways.push(el("li", {}, el("a", { href: href(changed(view, none)) }, "Clear the filters")));
  }
  ways.push(
    el("li", {}, "Look further back: ", el("a", { href: href(inRange(view, { range: "24h" })) }, "24 hours"), " or ",
      el("a", { href: href(inRange(view, { range: "7d" })) }, "7 days")),
    el("li", {}, "Send some: a service does by ", el("code", {}, "Client.predict"), ", and ", el("code", {}, "flyback demo --live"),
      " plays real ones"),
  );
  byId("empty-ways").replaceChildren(...ways);
}
