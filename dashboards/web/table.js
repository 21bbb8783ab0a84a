// One row for each segment, version and actor: sortable, worst first by what its rate is at least.

import { changed, current, go, href, asked, api } from "./address.js";
import { byId, el, label, reconcile, setAttribute, setShown, setText } from "./dom.js";
import { count, interval, percent } from "./number.js";
import * as spark from "./spark.js";

const FEW = 50;
const KINDS = { MODEL: "model", HUMAN: "person" };
const rate = (row) => row.rate.value ?? -1;

// `sort` gives numbers or texts; `down`: which way it is sorted first
const COLUMNS = [
  { key: "segment", title: "Segment", sort: (row) => row.segment },
  { key: "version", title: "Version", sort: (row) => row.version },
  { key: "actor", title: "Actor", sort: (row) => `${row.actor} ${row.actor_kind}` },
  { key: "predictions", title: "Predictions", sort: (row) => row.predictions, number: true },
  { key: "reviewed", title: "Reviewed", sort: (row) => row.reviewed, number: true },
  { key: "failures", title: "Failures", sort: (row) => row.failures, number: true },
  { key: "rate", title: "Rate", sort: rate, number: true },
  { key: "low", title: "95% interval", sort: (row) => (row.rate.reviews ? row.rate.low : -1), number: true },
  { key: "weighted", title: "Weighted", sort: (row) => row.weighted_rate.value ?? -1, number: true },
  { key: "spark", title: "Over the range" },
];
const USUAL = "low.desc";

let held = new Map(); // the place that a row had when they were last put in order

export function start() {
  for (const column of COLUMNS) {
    const head = el("th", { scope: "col", role: "columnheader", class: column.number ? "number" : null, "data-column": column.key });
    if (column.sort) {
      const button = el("button", { type: "button" }, column.title, el("span", { class: "arrow", "aria-hidden": "true" }));
      button.addEventListener("click", () => sortBy(column));
      head.append(button);
    } else {
      head.append(column.title);
    }
    byId("columns").append(head);
  }
}

/** `part` as the server has it; the view says how it is sorted, and whether all rows are shown. */
export function show(part, view) {
  const sorting = sortingOf(view);
  for (const head of byId("columns").children) {
    const direction = head.dataset.column === sorting.key ? (sorting.down ? "descending" : "ascending") : null;
    setAttribute(head, "aria-sort", direction);
  }
  const all = view.get("rows") === "all";
  const rows = ordered(part.rows, sorting);
  const most = Math.max(0.01, ...rows.map((row) => row.rate.high));
  byId("rows").style.setProperty("--most", String(most));
  reconcile(byId("rows"), all ? rows : rows.slice(0, FEW), keyOf, make, update);
  const hidden = rows.length - FEW;
  setShown(byId("all-rows"), hidden > 0);
  setText(byId("all-rows-text"), all ? `All ${count(rows.length)} rows.` : `${count(FEW)} of ${count(rows.length)} rows.`);
  setText(byId("all-rows-link"), all ? `Show ${FEW}` : "Show all");
  setAttribute(byId("all-rows-link"), "href", href(changed(view, { rows: all ? null : "all" })));
  const csv = asked(view);
  csv.set("by", "segment,version,actor,actor_kind");
  csv.set("format", "csv");
  setAttribute(byId("csv"), "href", api("rates", csv));
}

function sortingOf(view) {
  const [key, direction] = (view.get("sort") ?? USUAL).split(".");
  const column = COLUMNS.find((one) => one.key === key && one.sort) ?? COLUMNS.find((one) => one.key === "low");
  return { key: column.key, column, down: direction !== "asc" };
}

function sortBy(column) {
  const now = sortingOf(current());
  const down = now.key === column.key ? !now.down : Boolean(column.number);
  const sort = `${column.key}.${down ? "desc" : "asc"}`;
  go(changed(current(), { sort: sort === USUAL ? null : sort }));
}

/** In order, except that no row is moved away from under a pointer or the keyboard. */
function ordered(rows, sorting) {
  const body = byId("rows");
  const way = sorting.down ? -1 : 1;
  const worth = new Map(rows.map((row) => [row, sorting.column.sort(row)]));
  const sorted = [...rows].sort((a, b) => way * compare(worth.get(a), worth.get(b)) || b.failures - a.failures || compare(keyOf(a), keyOf(b)));
  if (body.dataset.sorting !== sorting.key + sorting.down || !body.matches(":hover, :focus-within")) {
    body.dataset.sorting = sorting.key + sorting.down;
    held = new Map(sorted.map((row, place) => [keyOf(row), place]));
    return sorted;
  }
  return sorted.sort((a, b) => (held.get(keyOf(a)) ?? held.size) - (held.get(keyOf(b)) ?? held.size));
}

const compare = (a, b) => (typeof a === "string" ? a.localeCompare(b, "en", { numeric: true }) : a - b);
const keyOf = (row) => JSON.stringify([row.segment, row.version, row.actor, row.actor_kind]);

function make(row) {
  const only = (name, text) => el("a", { "data-only": name }, text === "" ? "(none)" : label(text));
  // the roles are said: on a phone rows are laid out as cards, and would be no rows to a screen reader any more
  const td = (key, attributes, ...children) => el("td", { role: "cell", "data-column": key, ...attributes }, ...children);
  const cell = (key, ...children) => td(key, { class: "number" }, ...children);
  return el("tr", { role: "row" },
    el("th", { scope: "row", role: "rowheader", "data-column": "segment" }, only("segment", row.segment)),
    td("version", {}, only("version", row.version)),
    td("actor", {}, only("actor", row.actor), " ", el("small", {}, KINDS[row.actor_kind] ?? row.actor_kind)),
    cell("predictions"), cell("reviewed"), cell("failures"), cell("rate"),
    cell("low", el("span", { class: "interval", "aria-hidden": "true" }), el("span")), cell("weighted"),
    td("spark", {}, spark.make()));
}

function update(node, row) {
  if (node.view !== String(current())) {
    node.view = String(current());
    for (const link of node.querySelectorAll("a")) {
      link.setAttribute("href", href(changed(current(), { [link.dataset.only]: row[link.dataset.only] })));
    }
  }
  const [, , , predictions, reviewed, failures, value, bar, weighted, trend] = node.children;
  setText(predictions, count(row.predictions));
  setText(reviewed, count(row.reviewed));
  setText(failures, count(row.failures));
  setText(value, percent(row.rate.value));
  const said = interval(row.rate);
  if (bar.lastElementChild.textContent !== said) {
    bar.lastElementChild.textContent = said;
    const [line] = bar.children;
    line.style.setProperty("--low", row.rate.reviews ? String(row.rate.low) : "0");
    line.style.setProperty("--high", row.rate.reviews ? String(row.rate.high) : "0");
    line.style.setProperty("--value", String(row.rate.value ?? 0));
  }
  setText(weighted, percent(row.weighted_rate.value));
  spark.draw(trend.firstElementChild, row.spark, Math.max(...row.spark));
}
