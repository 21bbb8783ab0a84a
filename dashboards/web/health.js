// The pipeline: is what is shown all that there is, and how late does it come.

import { byId, el, label, reconcile, setAttribute, setShown, setText } from "./dom.js";
import { count, duration, time } from "./number.js";

const LEVELS = { well: "good", behind: "warn", "not well": "bad", unknown: "unknown" };

let built = null;

export function show(part) {
  built ??= build();
  const level = LEVELS[part.verdict] ?? "unknown";
  for (const [id, text] of [["health-badge", `Pipeline: ${part.verdict}`], ["health-verdict", said(part)]]) {
    setText(byId(id), text);
    setAttribute(byId(id), "data-level", level);
  }
  reconcile(byId("health-problems"), part.problems, (text) => text, (text) => el("li", {}, label(text)));
  rows(built.commits, Object.entries(part.last_commit), ([process]) => process,
    ([process, at]) => [process, at ? time(at, true) : "not known"]);
  rows(built.lags, part.lags, (lag) => `${lag.process} ${lag.topic}`,
    (lag) => [lag.process, lag.topic, count(lag.events), duration(lag.seconds)]);
  rows(built.letters, part.dead_letters, (one) => `${one.topic} ${one.reason}`, (one) => [one.topic, one.reason, count(one.count)]);
  rows(built.restoring, part.restoring, (one) => one.partition,
    (one) => [String(one.partition), `${count(one.restored)} of ${count(one.to_restore)}`]);
}

function said(part) {
  return { well: "All is read, joined and in the lake.", behind: "Something is behind: newest events are missing here.",
    "not well": "Something does not work.", unknown: "Not known." }[part.verdict] ?? part.verdict;
}

function build() {
  const table = (title, columns, none) => {
    const body = el("tbody");
    const heads = columns.map(([name, number]) => el("th", { scope: "col", class: number ? "number" : null }, name));
    const whole = el("table", { class: "small" }, el("caption", {}, title), el("thead", {}, el("tr", {}, ...heads)), body);
    const empty = el("p", { class: "none" }, none);
    byId("health-tables").append(el("div", {}, whole, empty));
    return { whole, body, empty, numbers: columns.map(([, number]) => Boolean(number)) };
  };
  return {
    commits: table("Last commit", [["Process"], ["At", true]], ""),
    restoring: table("Restoring", [["Partition"], ["Records", true]], ""),
    lags: table("Lag", [["Process"], ["Topic"], ["Events", true], ["Time", true]], "No lag."),
    letters: table("Dead letters", [["Topic"], ["Reason"], ["Count", true]], "No dead letters."),
  };
}

function rows(table, items, keyOf, texts) {
  setShown(table.whole, items.length > 0);
  setShown(table.empty, items.length === 0 && table.empty.textContent !== "");
  reconcile(table.body, items, keyOf, (item) => {
    const cells = texts(item).map((_, i) => (i ? el("td", { class: table.numbers[i] ? "number" : null }, el("bdi")) : el("th", { scope: "row" }, el("bdi"))));
    return el("tr", {}, ...cells);
  }, (node, item) => texts(item).forEach((text, i) => setText(node.children[i].firstElementChild, text)));
}
