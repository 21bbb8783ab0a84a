// The live page: one stream in, each part to the section that shows it.

import * as address from "./address.js";
import * as alerts from "./alerts.js";
import * as chart from "./chart.js";
import { Connection } from "./connection.js";
import * as controls from "./controls.js";
import { byId, el, setText } from "./dom.js";
import * as explain from "./explain.js";
import * as failures from "./failures.js";
import * as headline from "./headline.js";
import * as health from "./health.js";
import * as state from "./state.js";
import * as table from "./table.js";

const sections = { headline, chart, table, failures, alerts, health };
const parts = new Map();
let view = null;

const connection = new Connection(onPart, state.show);

function onPart(name, data) {
  if (!sections[name]) return; // of a newer server
  fail(name, data.error);
  if (name === "headline") byId("figures").removeAttribute("aria-busy");
  if (data.error && !data.sql && !data.open) return; // nothing but an error: what was there before stays
  parts.set(name, data);
  explain.know(name, data);
  sections[name].show(data, view);
  if (name === "table") controls.know(data.values, view);
}

/** Say in its section why a part cannot be had; the others are well. */
function fail(name, error) {
  const section = byId(name);
  if (!section) return;
  const said = section.querySelector(":scope > .failed");
  if (error) setText(said ?? section.appendChild(el("p", { class: "failed" })), `Not to be had now: ${error}`);
  else said?.remove();
}

function onAddress(next) {
  const same = view !== null && address.asked(view).toString() === address.asked(next).toString();
  view = next;
  controls.follow(view);
  if (same) {
    if (parts.has("table")) table.show(parts.get("table"), view);
    return;
  }
  byId("figures").setAttribute("aria-busy", "true");
  failures.restart();
  connection.open(view);
  try {
    sessionStorage.setItem("view", address.href(view)); // where an episode's page leads back to
  } catch {
    // then it leads to the start
  }
}

explain.start();
controls.start();
table.start();
failures.start(() => view);
address.onChange(onAddress);
onAddress(address.current());
