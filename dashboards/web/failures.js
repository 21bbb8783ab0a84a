// The newest failures: what was asked, what was said, what is true, and who says so.

import { LABELS, api, asked, episode } from "./address.js";
import { errorOf } from "./connection.js";
import * as content from "./content.js";
import { byId, el, label, reconcile, setShown, setText } from "./dom.js";
import { iso, time } from "./number.js";

const FIRST = 10;
const MORE = 20;
const VERDICTS = { CORRECTED: "corrected", REJECTED: "rejected, without the truth" };

let newest = []; // as the stream has them
let older = []; // as asked for
let shown = FIRST;
let next = null;
let viewOf = null;

export function start(view) {
  viewOf = view;
  byId("older").addEventListener("click", more);
}

/** Another view: what was asked for is of the one before. */
export function restart() {
  older = [];
  shown = FIRST;
  setText(byId("older-error"), "");
}

export function show(part) {
  newest = part.rows;
  if (!older.length) next = part.next ?? null;
  list();
}

function list() {
  const all = [...newest, ...older];
  setShown(byId("failures-none"), all.length === 0);
  setText(byId("failures-none"), "No failure in this range.");
  reconcile(byId("failures-list"), all.slice(0, shown), keyOf, make);
  setShown(byId("older"), all.length > shown || next !== null);
}

// what is shown of a failure never changes under its key: another review that decides has another one
const keyOf = (row) => JSON.stringify([row.task_id, row.prediction_id, row.author, row.verdict, row.truth?.body, row.reason]);

async function more() {
  shown += MORE;
  if (newest.length + older.length < shown && next !== null) {
    const view = viewOf();
    const parameters = asked(view);
    for (const name of [...parameters.keys()]) {
      if (![...LABELS, "range", "since", "until", "find"].includes(name)) parameters.delete(name);
    }
    parameters.set("limit", "50");
    parameters.set("before", next);
    try {
      const answer = await fetch(api("failures", parameters));
      if (!answer.ok) throw new Error(await errorOf(answer));
      const found = await answer.json();
      if (view !== viewOf()) return;
      older.push(...found.rows);
      next = found.next ?? null;
      setText(byId("older-error"), "");
    } catch (error) {
      setText(byId("older-error"), `Older ones cannot be had: ${error.message}`);
    }
  }
  list();
}

function make(row) {
  const when = el("time", { datetime: iso(row.at), title: iso(row.at) }, time(row.at, true));
  const where = el("p", { class: "where" }, when, " ", label(row.segment, { class: "tag" }), " ", label(actor(row.actor, row.version)),
    row.actor_kind === "HUMAN" ? " (person)" : "", row.category ? el("span", { class: "category" }, label(row.category)) : null,
    el("a", { class: "episode", href: episode(row.task_id) }, "Episode", el("span", { class: "unseen" }, " of the task ", label(row.task_id))));
  return el("li", { class: "failure" }, el("article", {}, where,
    el("div", { class: "story" }, told("Input", row.input), told(row.actor_kind === "HUMAN" ? "The person said" : "The AI said", row.output),
      told("The truth", row.truth, VERDICTS[row.verdict])),
    el("p", { class: "review" }, "Says ", label(author(row.author)), row.reason ? ": " : "", row.reason ? label(row.reason, { class: "reason" }) : null)));
}

function told(title, what, without) {
  return el("div", {}, el("h3", {}, title), what ? content.show(what) : el("p", { class: "none" }, without ?? "not given"));
}

export const actor = (name, version) => (version ? `${name} ${version}` : name);

/** Who reviewed; a model says which version it is. */
export function author(given) {
  if (!given) return "nobody";
  return typeof given === "string" ? given : actor(given.name, given.version);
}
