// What is shown: range, lines, filters. Each control is, or makes, an address.

import { LABELS, changed, current, get, go, href, inRange, onChange } from "./address.js";
import { byId, el, label, reconcile, setAttribute, setShown, setText } from "./dom.js";
import { count, timeSpan } from "./number.js";

export const TITLES = { segment: "Segment", version: "Version", actor: "Actor", actor_kind: "Kind" };
const TYPING = 300; // ms

const menus = new Map();
const touched = Object.fromEntries(LABELS.map((name) => [name, new Set()])); // while its menu is open
let offered = {}; // by label: its values in the range and the predictions of each, as the other filters leave them

export function start() {
  for (const name of [...LABELS].reverse()) byId("filters").prepend(menu(name));
  for (const button of byId("by").querySelectorAll("button")) {
    button.addEventListener("click", () => go(changed(current(), { by: toggled(button.dataset.by) })));
  }
  byId("top").addEventListener("change", (event) => go(changed(current(), { top: event.target.value })));
  byId("chosen-form").addEventListener("submit", chooseRange);
  startFind();
  addEventListener("click", closeMenus);
  addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    const open = document.activeElement?.closest("details.menu[open]");
    closeMenus({ target: null });
    open?.querySelector("summary").focus();
  });
  setText(byId("zone"), Intl.DateTimeFormat().resolvedOptions().timeZone);
}

/** Make the controls say what the address says. */
export function follow(view) {
  const since = view.get("since");
  for (const link of byId("ranges").querySelectorAll("a")) {
    point(link, inRange(view, { range: link.dataset.range }), !since && get(view, "range") === link.dataset.range);
  }
  setAttribute(byId("chosen"), "data-active", since !== null);
  setText(byId("chosen").querySelector("summary"), since ? span(since, view.get("until")) : "Chosen…");
  for (const link of byId("rates").querySelectorAll("a")) {
    point(link, changed(view, { rate: link.dataset.rate }), get(view, "rate") === link.dataset.rate);
  }
  const by = get(view, "by").split(",");
  for (const button of byId("by").querySelectorAll("button")) {
    setAttribute(button, "aria-pressed", String(by.includes(button.dataset.by)));
  }
  const top = byId("top");
  if (![...top.options].some((option) => option.value === get(view, "top"))) top.append(el("option", {}, get(view, "top")));
  top.value = get(view, "top");
  if (document.activeElement !== byId("find")) byId("find").value = view.get("find") ?? "";
  for (const name of LABELS) followFilter(name, view);
  const none = Object.fromEntries([...LABELS, "find"].map((name) => [name, null]));
  byId("clear").setAttribute("href", href(changed(view, none)));
  setShown(byId("clear"), [...LABELS, "find"].some((name) => view.has(name)));
}

/** What there is to filter by. */
export function know(values, view) {
  offered = values ?? {};
  for (const name of LABELS) followFilter(name, view);
}

function point(link, view, active) {
  setAttribute(link, "href", href(view));
  setAttribute(link, "aria-current", active && "true");
}

function span(since, until) {
  if (Number.isNaN(Date.parse(since)) || (until && Number.isNaN(Date.parse(until)))) return "Chosen…";
  return until ? timeSpan(since, until) : `since ${timeSpan(since, since).split(" to ")[0]}`;
}

function toggled(name) {
  const by = get(current(), "by").split(",");
  const without = by.filter((other) => other !== name);
  if (without.length === by.length) return [...by, name].join(",");
  return (without.length ? without : by).join(",");
}

function menu(name) {
  const options = el("div", { class: "options" });
  const made = el("details", { class: "menu", name: "menu" }, el("summary", {}, TITLES[name]),
    el("fieldset", { class: "sheet" }, el("legend", {}, `Only ${TITLES[name].toLowerCase()}`), options,
      el("p", { class: "none" }, "Nothing in this range.")));
  made.addEventListener("toggle", () => {
    if (made.open) return;
    touched[name].clear();
    followFilter(name, current());
  });
  menus.set(name, made);
  return made;
}

function followFilter(name, view) {
  const chosen = view.getAll(name);
  const known = offered[name] !== undefined;
  const there = new Map(offered[name]);
  // what is chosen stays, whether the range has it or not: nobody could take it away otherwise
  const values = [...new Set([...chosen, ...touched[name], ...there.keys()])].sort(byText);
  const [summary, sheet] = menus.get(name).children;
  setText(summary, chosen.length ? `${TITLES[name]}: ${chosen.length === 1 ? chosen[0] || "(none)" : chosen.length}` : TITLES[name]);
  setAttribute(menus.get(name), "data-active", chosen.length > 0);
  setShown(sheet.lastElementChild, known && values.length === 0);
  reconcile(sheet.querySelector(".options"), values, (value) => value, (value) => option(name, value), (node, value) => {
    node.firstElementChild.checked = chosen.includes(value);
    setAttribute(node, "data-missing", known && !there.has(value));
    setText(node.lastElementChild, there.has(value) ? count(there.get(value)) : known ? "none here" : "");
  });
}

const byText = (a, b) => a.localeCompare(b, "en", { numeric: true });

function option(name, value) {
  const box = el("input", { type: "checkbox" });
  box.addEventListener("change", () => {
    touched[name].add(value); // it does not go away under the pointer or the keyboard
    const others = current().getAll(name).filter((other) => other !== value);
    go(changed(current(), { [name]: box.checked ? [...others, value] : others }));
  });
  return el("label", {}, box, " ", value === "" ? el("span", {}, "(none)") : label(value), " ", el("small"));
}

function chooseRange(event) {
  event.preventDefault();
  const given = new FormData(event.target);
  const [since, until] = ["since", "until"].map((name) => given.get(name) && new Date(given.get(name)).toISOString());
  byId("chosen").open = false;
  go(inRange(current(), { since, until: until || null }));
}

/** While somebody types there is one address, not one for each letter. */
function startFind() {
  const find = byId("find");
  let timer = 0;
  let typing = false;
  find.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      go(changed(current(), { find: find.value.trim() }), typing);
      typing = true;
    }, TYPING);
  });
  find.addEventListener("blur", () => {
    typing = false;
  });
  onChange((view) => {
    if ((view.get("find") ?? "") !== find.value.trim() && document.activeElement !== find) find.value = view.get("find") ?? "";
  });
}

function closeMenus(event) {
  for (const open of document.querySelectorAll("details.menu[open]")) {
    if (!event.target || !open.contains(event.target)) open.open = false;
  }
}
