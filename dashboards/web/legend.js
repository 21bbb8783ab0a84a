// What stands beside the chart: its lines by name, with their figures; its marks; the same as a table.

import { byId, el, label, reconcile, setAttribute, setShown, setText, svg } from "./dom.js";
import { NONE, count, interval, percent, time } from "./number.js";

export const SIGNS = { version: "◆", alert: "▲" };
const KINDS = { version: "New version:", alert: "Alert:" };
const MOST_MARKS = 8;

let shown = null;
let pinned = null;
let index = null; // the step that the pointer is at

/** `lines` as the chart has them, worst first; `light(key)` lets one stand out, null none. */
export function show(given) {
  shown = given;
  if (pinned && !shown.lines.some((line) => line.key === pinned)) pin(null);
  list();
  const { more } = shown.part;
  setText(byId("more"), more ? `${count(more)} more ${more === 1 ? "line is" : "lines are"} not shown: find some, or show more lines.` : "");
  showMarks(shown.part.marks);
  if (byId("chart-table-box").open) showTable();
}

/** Show the figures of this step of the chart; null: those of the whole range. */
export function at(step) {
  if (step === index) return;
  index = step;
  if (shown) list();
}

function list() {
  reconcile(byId("legend"), shown.lines, (line) => `${line.slot} ${line.key}`, entry, update);
}

function entry(line) {
  const dash = line.slot >= 8 ? "5 3" : null;
  const swatch = svg("svg", { class: `swatch s${line.slot % 8}`, viewBox: "0 0 18 8", "aria-hidden": "true" },
    svg("path", { d: "M0 4h18", "stroke-dasharray": dash }));
  const made = el("button", { type: "button", "aria-pressed": "false" }, swatch, label(line.name || "all", { class: "name" }),
    el("span", { class: "figure" }), el("span", { class: "of" }));
  made.addEventListener("click", () => pin(pinned === line.key ? null : line.key));
  for (const event of ["pointerenter", "focus"]) made.addEventListener(event, () => shown.light(line.key));
  for (const event of ["pointerleave", "blur"]) made.addEventListener(event, () => shown.light(pinned));
  return el("li", {}, made);
}

function update(node, line) {
  const [button] = node.children;
  const figures = index === null ? ofRange(line) : ofStep(line);
  setText(button.children[2], percent(figures.value));
  setText(button.children[3], figures.of);
  setAttribute(button, "aria-pressed", String(pinned === line.key));
}

function ofRange(line) {
  const plain = line.reviewed ? line.failures / line.reviewed : null;
  const value = line.rate ? line.rate.value : shown.weighted ? null : plain;
  return { value, of: `${count(line.failures)} of ${count(line.reviewed)} reviewed` };
}

function ofStep(line) {
  const estimate = { value: line.value[index], low: line.low[index], high: line.high[index], reviews: line.reviews[index] };
  const when = time(shown.part.starts[index]);
  return { value: estimate.value, of: estimate.reviews ? `${when}: ${interval(estimate)} of ${count(estimate.reviews)}` : `${when}: none reviewed` };
}

function pin(key) {
  pinned = key;
  shown.light(key);
  list();
}

function showMarks(marks) {
  const newest = [...marks].sort((a, b) => b.at - a.at);
  setShown(byId("marks"), newest.length > 0);
  reconcile(byId("marks"), newest.slice(0, MOST_MARKS), (mark) => JSON.stringify(mark), (mark) =>
    el("li", { "data-kind": mark.kind }, el("span", { "aria-hidden": "true" }, SIGNS[mark.kind] ?? "•"), " ",
      el("time", {}, time(mark.at)), ` ${KINDS[mark.kind] ?? ""} `, label(mark.text)));
}

function showTable() {
  const { part, lines } = shown;
  const head = el("tr", {}, el("th", { scope: "col" }, "From"), ...lines.map((line) => el("th", { scope: "col" }, label(line.name || "all"))));
  const rows = part.starts.map((start, i) => el("tr", {}, el("th", { scope: "row" }, time(start)), ...lines.map((line) => {
    const estimate = { low: line.low[i], high: line.high[i], reviews: line.reviews[i] };
    return el("td", {}, line.value[i] === null ? NONE : `${percent(line.value[i])} (${interval(estimate)}; ${count(estimate.reviews)})`);
  })));
  byId("chart-table").tHead.replaceChildren(head);
  byId("chart-table").tBodies[0].replaceChildren(...rows.reverse());
}

byId("chart-table-box").addEventListener("toggle", () => {
  if (shown && byId("chart-table-box").open) showTable();
});
